"""Worker processes: right results, and crashes and hangs that stay inside."""

from __future__ import annotations

import pytest

from sqc.schedules import Target
from sqc.tuning import workers
from sqc.tuning.search import differs
from sqc.tuning.task import Task
from sqc.tuning.worker import Compute, Measure
from sqc.tuning.workers import Workers
from tests.tuning.conftest import make_task


def crashing() -> Task:
    """LLVM aborts the process where it meets AVX-512's dot product on a processor without it."""
    task = make_task("icelake-server")
    return Task(task.op, task.constants, Target("haswell", "avx512vnni", "haswell", ()))


def measure(task: Task) -> Measure:
    return Measure(task, task.tiles[1], task.tiles[0], (1,), 3)


def test_results_equal_the_reference(task: Task) -> None:
    with Workers() as measurer:
        for tile in (task.tiles[0], task.tiles[1], task.tiles[-1]):
            assert differs(task, tile, (1, 2), measurer) == ""


def test_a_crash_is_an_answer(task: Task) -> None:
    with Workers() as measurer:
        answers = dict(measurer.run([measure(task), measure(crashing()), measure(task)]))
    assert "SIGABRT" in answers[1].error and not answers[1].lost
    for index in (0, 2):
        assert answers[index].error == "" and len(answers[index].value[0]) == 3
        assert all(seconds > 0 for seconds in answers[index].value[0][0])


def test_an_error_is_an_answer(task: Task) -> None:
    unknown = Compute(task, task.tiles[0], (-1,), (0,))
    with Workers() as measurer:
        ((_, answer),) = measurer.run([unknown])
        assert "threads" in answer.error
        assert differs(task, task.tiles[0], (1,), measurer) == ""


def test_a_hang_is_an_answer(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "JOB_SECONDS", 0.01)
    with Workers() as measurer:
        ((_, answer),) = measurer.run([measure(task)])
        assert "no answer in" in answer.error
        monkeypatch.undo()
        ((_, answer),) = measurer.run([measure(task)])
        assert answer.error == ""


def test_a_worker_that_does_not_start(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START", "raise SystemExit('no such thing')")
    with Workers() as measurer, pytest.raises(workers.TuningError, match=r"does not start: .*no such thing"):
        list(measurer.run([measure(task)]))


def test_trackers_are_named_by_host_and_port() -> None:
    for tracker, key in (("here", "k"), ("here:", "k"), (":9", "k"), ("here:9", "")):
        with pytest.raises(workers.TuningError, match="HOST:PORT"):
            Workers(tracker, key)
