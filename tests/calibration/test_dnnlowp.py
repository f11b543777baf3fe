"""DNNLOWP's searches against their definitions, followed literally."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.calibration import Grid, Histogram, choose_qparams, find_search
from tests.calibration.histograms import sample, small_histograms

grids = st.builds(Grid, st.sampled_from([2, 3, 4]), st.booleans())


def integral(a: float, b: float, centre: float, power: int) -> float:
    """Of |x - centre|**power, from a to b."""
    if power == 2:
        return ((b - centre) ** 3 - (a - centre) ** 3) / 3
    return ((b - centre) * abs(b - centre) - (a - centre) * abs(a - centre)) / 2


def cost(counts: list[int], start: int, size: int, levels: int, power: int) -> float:
    """In bins: every bin cut at the parts of the candidate, the outer parts without end."""
    step = size / levels
    inner = [start + k * step for k in range(1, levels)]
    total = 0.0
    for i, count in enumerate(counts):
        knots = [i, *(x for x in inner if i < x < i + 1), i + 1]
        for a, b in itertools.pairwise(knots):
            part = min(max(math.floor(((a + b) / 2 - start) / step), 0), levels - 1)
            total += count * integral(a, b, start + (part + 0.5) * step, power)
    return total


def candidates(histogram: Histogram, grid: Grid) -> list[tuple[int, int]]:
    bins, zero = histogram.counts.size, -histogram.first
    if grid.symmetric:
        return [(0 if zero == 0 else zero - size // 2, size) for size in range(1, bins + 1)]
    return [(start, size) for size in range(1, bins + 1) for start in range(bins - size + 1)]


def widened(histogram: Histogram, start: int, size: int) -> tuple[float, float]:
    low, high = ((histogram.first + edge) * histogram.bin_width for edge in (start, start + size))
    return min(low, 0.0), max(high, 0.0)


@settings(max_examples=100)
@given(small_histograms(), grids, st.sampled_from([1, 2]))
def test_optimum_of_the_definition(histogram: Histogram, grid: Grid, power: int) -> None:
    counts, levels = histogram.counts.tolist(), 2**grid.bits
    costs = {pair: cost(counts, *pair, levels, power) for pair in candidates(histogram, grid)}
    chosen = find_search(f"l{power}-dnnlowp")(histogram, grid)
    least = min(costs.values())
    best = [pair for pair, value in costs.items() if value <= least * (1 + 1e-9) + 1e-12]
    assert chosen in [widened(histogram, *pair) for pair in best]


def greedy(counts: list[int], levels: int) -> tuple[int, int]:
    """The quantile walk, a step of 1e-5 at a time."""
    running, total = list(itertools.accumulate(counts)), sum(counts)
    steps, lower, upper = 100_000, 0, 100_000
    first, last, best = 0, len(counts) - 1, math.inf
    while lower < upper:
        head, tail = first, last
        while head < last and running[head] * steps < (lower + 1) * total:
            head += 1
        while tail > first and running[tail] * steps > (upper - 1) * total:
            tail -= 1
        start, end = first, last
        if head - first > last - tail:
            start, lower = head, lower + 1
        else:
            end, upper = tail, upper - 1
        if (start, end) == (first, last):
            continue
        value = cost(counts, start, end - start + 1, levels, 2)
        if value > best:
            break
        best, first, last = value, start, end
    return first, last - first + 1


@settings(max_examples=25)
@given(small_histograms(), st.sampled_from([2, 3, 4]))
def test_greedy_walk_of_the_definition(histogram: Histogram, bits: int) -> None:
    expected = widened(histogram, *greedy(histogram.counts.tolist(), 2**bits))
    assert find_search("l2-approx")(histogram, Grid(bits)) == expected


@pytest.mark.parametrize("kind", ["normal", "heavy", "shifted"])
def test_greedy_walk_over_many_bins(kind: str) -> None:
    data = np.concatenate([sample(kind, seed) for seed in range(3)])
    histogram = Histogram.of(data[: 1 + data.size // 2])
    thin = Histogram(
        histogram.exponent, histogram.first, histogram.counts * 7 // 2, histogram.minimum, histogram.maximum
    )
    expected = widened(thin, *greedy(thin.counts.tolist(), 16))
    assert find_search("l2-approx")(thin, Grid(4)) == expected


def test_published_parameters_of_a_range() -> None:
    """The golden test of the original has start bin 546 and width 1028 of 2048 bins over [-14.4819, 12.6175]."""
    width = (12.6175 + 14.4819) / 2048
    scale, zero_point = choose_qparams(-14.4819 + 546 * width, -14.4819 + (546 + 1028) * width)
    assert (scale, zero_point) == (pytest.approx(0.053343643, rel=2e-6), 136)
