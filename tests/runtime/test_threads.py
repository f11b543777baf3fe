"""Threads: parallel loops, runs at the same time, forks."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sqc.codegen.library import build_library
from sqc.errors import ExecutionError, SqcError
from sqc.runtime import Model, load_bytes, loader
from tests.runtime.models import add_two, one_step

Make = Callable[..., Model]

RUNNING = 16
"""Where sqc_cores counts the threads that are in runs."""


@pytest.fixture
def two_cpus() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two processors")
    os.sched_setaffinity(0, sorted(before)[:2])
    yield
    os.sched_setaffinity(0, before)


def thread_ids() -> set[int]:
    return set(map(int, os.listdir("/proc/self/task")))


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does within seconds: the system lists a thread for a moment after it was joined."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def cpu_time(thread: int) -> float:
    """Seconds that a thread of this process has spent on processors (clock_gettime of its own clock)."""
    return time.clock_gettime(~thread << 3 | 6)


def runs_on_processor(thread: int) -> bool:
    before = cpu_time(thread)
    time.sleep(0.05)
    return cpu_time(thread) > before


def core_of(thread: int) -> int:
    """The processor that a thread of this process was last on."""
    with open(f"/proc/self/task/{thread}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[36])


def test_results_do_not_depend_on_threads(make: Make, image: np.ndarray) -> None:
    model = make(add_two())
    for threads in (1, 2, 3, 8, 64, 2, 1):
        model.threads = threads
        assert model.threads == threads
        for _ in range(20):
            np.testing.assert_array_equal(model(image), image + 2)


def test_a_loop_spreads_over_the_threads(make: Make) -> None:
    model = make(one_step("nap", "int32", (64,)), threads=4)
    x = np.zeros(64, np.int32)
    assert len(np.unique(model(x))) == 4
    model.threads = 1
    assert len(np.unique(model(x))) == 1


def test_a_loop_waits_for_no_busy_core(make: Make) -> None:
    model = make(one_step("late", "int32", (64,)), threads=2)
    ran = model(np.zeros(64, np.int32))
    late = np.flatnonzero(ran == ran[0])
    assert len(np.unique(ran)) == 2
    np.testing.assert_array_equal(late, np.arange(len(late)))
    assert len(late) <= 1 + 32 // 4, "only what it took at first is left to it"


def test_many_short_runs_lose_no_wake_up(make: Make, image: np.ndarray) -> None:
    model = make(add_two(), threads=2)
    out = np.empty_like(image)
    for _ in range(5000):
        model(image, out=out)
    np.testing.assert_array_equal(out, image + 2)


def test_a_worker_leaves_the_core_of_the_thread_that_launches(make: Make, image: np.ndarray, two_cpus: None) -> None:
    allowed = os.sched_getaffinity(0)
    before = thread_ids()
    model = make(add_two(), threads=2)
    (worker,) = thread_ids() - before
    home = {min(allowed)}
    os.sched_setaffinity(0, home)
    os.sched_setaffinity(worker, home)
    model(image)
    assert core_of(worker) in home
    os.sched_setaffinity(worker, allowed)

    def left() -> bool:
        model(image)
        return core_of(worker) not in home

    assert comes_true(left)
    assert os.sched_getaffinity(worker) == allowed


def test_one_handle_serves_many_threads(make: Make, image: np.ndarray) -> None:
    model = make(add_two(), threads=2)

    def work(seed: int) -> bool:
        x = np.roll(image, seed)
        return all(np.array_equal(model(x), x + 2) for _ in range(300))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_closing_waits_for_runs(make: Make) -> None:
    model = make(one_step("nap", "int32", (64,)))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(model, np.zeros(64, np.int32))
        while not running.running():
            pass
        model.close()
        assert running.exception() is None or isinstance(running.exception(), SqcError)


def test_changing_threads_while_running(make: Make, image: np.ndarray) -> None:
    model = make(add_two(), threads=2)
    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(lambda: all(np.array_equal(model(image), image + 2) for _ in range(300)))
        for threads in (1, 3, 2, 4) * 3:
            model.threads = threads
        assert runs.result()


def test_a_task_that_fails_on_a_worker_is_an_error(make: Make) -> None:
    model = make(one_step("refuse_inside"), threads=2)
    for _ in range(10):
        with pytest.raises(ExecutionError, match="Mismatched task"):
            model(np.zeros(4, np.float32))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_can_run_and_close(make: Make, image: np.ndarray, threads: int) -> None:
    model = make(add_two(), threads=threads)
    model(image)
    loader._cores[RUNNING] = 5  # as if others were in runs, which the child does not have
    child = os.fork()
    loader._cores[RUNNING] = 0
    if child == 0:
        good = all(np.array_equal(model(image), image + 2) for _ in range(100))
        model.threads = 3
        good = good and np.array_equal(model(image), image + 2) and loader._cores[RUNNING] == 0
        model.close()
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(model(image), image + 2)


def test_fork_after_unloading(image: np.ndarray) -> None:
    """The fork handler of a library goes with it."""
    load_bytes(build_library(add_two()), threads=2).close()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_environment_sets_the_default(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQC_NUM_THREADS", "3")
    assert make(add_two(), threads=None).threads == 3
    assert make(add_two(), threads=2).threads == 2
    monkeypatch.setenv("SQC_NUM_THREADS", "0")
    assert 1 <= make(add_two(), threads=None).threads <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("SQC_NUM_THREADS", "many")
    with pytest.raises(SqcError, match="SQC_NUM_THREADS must be a number of threads"):
        make(add_two(), threads=None)


def test_automatic_threads_follow_affinity(make: Make) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        model = make(add_two(), threads=0)
        assert model.threads == 1
    finally:
        os.sched_setaffinity(0, before)
    model.threads = 0  # looks again
    assert model.threads == make(add_two(), threads=0).threads


@pytest.mark.parametrize("threads", [-1, 129])
def test_impossible_thread_counts(make: Make, threads: int) -> None:
    with pytest.raises(SqcError, match=r"from 0 \(automatic\) to 128"):
        make(add_two(), threads=threads)


def test_spin_time_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(add_two())
    assert model.spin_us == 200
    model.spin_us = 0
    assert model.spin_us == 0
    for wrong in (-1, 1_000_001):
        with pytest.raises(SqcError, match="from 0 to 1000000 microseconds"):
            model.spin_us = wrong
    monkeypatch.setenv("SQC_SPIN_US", "50")
    assert make(add_two()).spin_us == 50
    assert load_bytes(build_library(add_two()), spin_us=7).spin_us == 7
    monkeypatch.setenv("SQC_SPIN_US", "long")
    with pytest.raises(SqcError, match="SQC_SPIN_US must be a number of microseconds"):
        make(add_two())


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(("spin_us", "per_run"), [(0, 0.001), (1000, 0.004)])
def test_idle_workers_spin_no_longer_than_told(make: Make, image: np.ndarray, spin_us: int, per_run: float) -> None:
    """Processor time, not time on the wall: two loops of some microseconds a run, and a spin after each at most."""
    before = thread_ids()
    model = make(add_two(), threads=2)
    model.spin_us = spin_us
    (worker,) = thread_ids() - before
    start = cpu_time(worker)
    for _ in range(20):
        np.testing.assert_array_equal(model(image), image + 2)
        time.sleep(0.02)
    assert cpu_time(worker) - start < 20 * per_run
    assert not runs_on_processor(worker)


# Several libraries in one process ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("two_cpus")
def test_a_run_takes_only_the_cores_that_others_leave(make: Make) -> None:
    model = make(one_step("nap", "int32", (64,)), threads=2)
    x = np.zeros(64, np.int32)
    for others, threads in ((0, 2), (1, 1), (7, 1), (0, 2)):
        loader._cores[RUNNING] = others
        try:
            assert len(np.unique(model(x))) == threads
            assert loader._cores[RUNNING] == others
        finally:
            loader._cores[RUNNING] = 0


@pytest.mark.usefixtures("two_cpus")
def test_idle_workers_give_way_to_other_libraries(make: Make, image: np.ndarray) -> None:
    before = thread_ids()
    first = make(add_two(), threads=2)
    first.spin_us = 1_000_000
    (worker,) = thread_ids() - before
    second = make(one_step("nap", "int32", (64,)), threads=2)
    first(image)
    second(np.zeros(64, np.int32))
    assert not runs_on_processor(worker)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_libraries_run_in_turns_and_at_once_and_close_in_any_order(
    make: Make, image: np.ndarray, order: tuple[int, int]
) -> None:
    before = thread_ids()
    models = make(add_two(), threads=2), make(add_two(), threads=2)
    threads = thread_ids()
    assert len(threads - before) == 2
    for _ in range(100):
        for model in models:
            np.testing.assert_array_equal(model(image), image + 2)

    def work(model: Model) -> bool:
        return all(np.array_equal(model(image), image + 2) for _ in range(300))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, models * 2))
    assert comes_true(lambda: thread_ids() <= threads)
    models[order[0]].close()
    np.testing.assert_array_equal(models[order[1]](image), image + 2)
    models[order[1]].close()
    assert comes_true(lambda: thread_ids() <= before)
    assert loader._cores[RUNNING] == 0


# Threads of the caller's own -----------------------------------------------------------------------------------------

Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
ParallelFor = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, Task, ctypes.c_void_p)


def run_on(model: Model, function: Callable[[int, Callable[[int], None]], int], x: np.ndarray) -> np.ndarray:
    """The model's output with `function(count, task)` for its parallel loops."""
    foreign = ParallelFor(lambda _, count, task, data: function(count, lambda index: task(data, index)))
    library, handle = model._instance.functions, model._instance.handle
    assert library.sqc_set_parallel_for(handle, foreign, None) == 0
    try:
        return model(x)
    finally:
        assert library.sqc_set_parallel_for(handle, None, None) == 0


def test_loops_on_an_executor(make: Make, image: np.ndarray) -> None:
    before = thread_ids()
    model = make(add_two(), threads=2)
    model.threads = 5
    counts = []
    with ThreadPoolExecutor(3) as pool:

        def spread(count: int, task: Callable[[int], None]) -> int:
            counts.append(count)
            list(pool.map(task, reversed(range(count))))
            return 0

        np.testing.assert_array_equal(run_on(model, spread, image), image + 2)
    assert counts == [5, 5]
    assert comes_true(lambda: thread_ids() <= before)  # the model's own have ended
    np.testing.assert_array_equal(model(image), image + 2)
    assert len(thread_ids() - before) == 4


def test_an_executor_that_fails_is_an_error(make: Make, image: np.ndarray) -> None:
    model = make(add_two(), threads=2)
    with pytest.raises(ExecutionError, match="sqc_set_parallel_for returned 7"):
        run_on(model, lambda count, task: 7, image)
    with pytest.raises(ExecutionError, match="sqc_set_parallel_for ran 1 of 2 tasks"):
        run_on(model, lambda count, task: task(0) or 0, image)
    with pytest.raises(ExecutionError, match="Mismatched task"):
        run_on(
            make(one_step("refuse_inside"), threads=2),
            lambda count, task: task(0) or task(1) or 0,
            np.zeros(4, np.float32),
        )
