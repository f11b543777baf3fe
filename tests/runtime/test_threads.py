"""Threads: parallel loops, runs at the same time, forks."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sqc.codegen.library import build_library
from sqc.errors import ExecutionError, SqcError
from sqc.runtime import Model, load_bytes
from tests.runtime.models import add_two, one_step

Make = Callable[..., Model]


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


def test_many_short_runs_lose_no_wake_up(make: Make, image: np.ndarray) -> None:
    model = make(add_two(), threads=2)
    out = np.empty_like(image)
    for _ in range(5000):
        model(image, out=out)
    np.testing.assert_array_equal(out, image + 2)


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
    child = os.fork()
    if child == 0:
        good = all(np.array_equal(model(image), image + 2) for _ in range(100))
        model.threads = 3
        good = good and np.array_equal(model(image), image + 2)
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
        assert make(add_two(), threads=0).threads == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("threads", [-1, 129])
def test_impossible_thread_counts(make: Make, threads: int) -> None:
    with pytest.raises(SqcError, match=r"from 0 \(automatic\) to 128"):
        make(add_two(), threads=threads)
