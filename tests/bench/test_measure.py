"""Interleaved timing."""

from __future__ import annotations

import time

import pytest

from sqc.bench.measure import Timing, interleave


def test_medians_are_of_rounds_first() -> None:
    timing = Timing(((1.0, 2.0, 9.0), (3.0, 3.0, 3.0), (100.0,)))
    assert timing.medians == (2.0, 3.0, 100.0)
    assert timing.median == 3.0
    assert timing.best == 1.0
    assert timing.calls == 7


def test_ratio_pairs_rounds() -> None:
    quick = Timing(((1.0,), (10.0,), (1.0,)))
    slow = Timing(((2.0,), (20.0,), (4.0,)))
    assert quick.ratio(slow) == 0.5
    assert slow.ratio(quick) == 2.0


def test_quartiles() -> None:
    assert Timing(((1.0,),)).quartiles == (1.0, 1.0)
    low, high = Timing(tuple((float(i),) for i in range(1, 8))).quartiles
    assert (low, high) == (2.0, 6.0)


def test_figures_in_milliseconds() -> None:
    figures = Timing(((0.002,), (0.004,), (0.004,))).to_dict()
    assert figures["median_ms"] == pytest.approx(4)
    assert figures["best_ms"] == pytest.approx(2)
    assert figures["calls"] == 3


def test_turns_interleave_and_samples_rotate() -> None:
    log: list[tuple[str, int]] = []
    steps = {name: (lambda index, name=name: log.append((name, index))) for name in ("a", "b")}
    timings = interleave(steps, 4, seconds=1e-9, rounds=4)
    assert {name: len(timing.rounds) for name, timing in timings.items()} == {"a": 4, "b": 4}
    assert all(len(calls) == 3 for timing in timings.values() for calls in timing.rounds)
    turns = log[6:]
    order = [turns[i][0] for i in range(0, len(turns), 4)]
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [index for name, index in turns if name == "a"] == [0, 1, 2, 3, 1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2]


def test_measures_time() -> None:
    timing = interleave({"sleep": lambda index: time.sleep(0.002)}, 1, seconds=0.02, rounds=2)["sleep"]
    assert 0.002 <= timing.median < 0.5
