"""Timing several runners fairly: in turns, many rounds, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Step = Callable[[int], object]
"""Runs a model on the sample of the given index."""

ROUNDS = 15
PAUSE = 0.003
"""Seconds between two turns, in which the waiting threads of the runner before fall asleep."""


@dataclass(frozen=True)
class Timing:
    """Seconds of every timed call, by round."""

    rounds: tuple[tuple[float, ...], ...]

    @property
    def medians(self) -> tuple[float, ...]:
        """The median of each round."""
        return tuple(statistics.median(calls) for calls in self.rounds)

    @property
    def median(self) -> float:
        """The median over rounds of the medians within a round."""
        return statistics.median(self.medians)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and upper quartile of the medians of the rounds."""
        if len(self.rounds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.medians, n=4)
        return low, high

    @property
    def best(self) -> float:
        return min(min(calls) for calls in self.rounds)

    @property
    def calls(self) -> int:
        return sum(len(calls) for calls in self.rounds)

    def ratio(self, other: Timing) -> float:
        """This time over that of ``other``: the median over rounds, so that a slow spell of the machine cancels."""
        return statistics.median(a / b for a, b in zip(self.medians, other.medians, strict=True))

    def to_dict(self) -> dict[str, float | int]:
        low, high = self.quartiles
        return {
            "median_ms": self.median * 1e3,
            "best_ms": self.best * 1e3,
            "quartile_low_ms": low * 1e3,
            "quartile_high_ms": high * 1e3,
            "calls": self.calls,
        }


def midmean(values: Sequence[float]) -> float:
    """The mean of the middle half: robust like the median, and finer where a clock counts whole microseconds."""
    quarter = len(values) // 4
    return statistics.fmean(sorted(values)[quarter : len(values) - quarter])


def interleave(
    steps: Mapping[str, Step], samples: int, *, seconds: float = 1.0, rounds: int = ROUNDS
) -> dict[str, Timing]:
    """Time every step in ``rounds`` rounds of turns, ``seconds`` in all for each, over ``samples`` rotated inputs.

    A turn starts with untimed calls and has at least three timed ones; the order of turns rotates.
    """
    names = list(steps)
    for name in names:
        for index in range(min(samples, 3)):
            steps[name](index)
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(PAUSE)
            seen[name].append(_turn(steps[name], samples, turn, seconds / rounds))
    return {name: Timing(tuple(calls)) for name, calls in seen.items()}


def _turn(step: Step, samples: int, first: int, seconds: float) -> tuple[float, ...]:
    index = first
    step(index % samples)
    calls: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds
    while len(calls) < 3 or clock() < end:
        index += 1
        sample = index % samples
        start = clock()
        step(sample)
        calls.append(clock() - start)
    return tuple(calls)
