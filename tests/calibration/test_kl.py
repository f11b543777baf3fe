"""The KL search against its definition, followed literally with fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.calibration import Grid, Histogram, find_search
from tests.calibration.histograms import KINDS, sample, small_histograms

grids = st.builds(Grid, st.sampled_from([2, 3, 4]), st.booleans())


def trimmed(histogram: Histogram) -> list[int]:
    """The counts as the definition takes them: no more in the bin at zero than in the larger one beside it."""
    counts, zero = histogram.counts.tolist(), -histogram.first
    beside = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < len(counts)]
    return [min(count, max(beside, default=0)) if i == zero else count for i, count in enumerate(counts)]


def divergence(counts: list[int], start: int, end: int, parts: int) -> float:
    """Of the bins [start, end), which may lie outside of `counts`."""
    inside = {i: counts[i] if 0 <= i < len(counts) else 0 for i in range(start, end)}
    tails = dict(inside)
    tails[start] += sum(counts[: max(start, 0)])
    tails[end - 1] += sum(counts[end:])
    total, result = sum(counts), 0.0
    for k in range(parts):
        left, right = (start + Fraction((end - start) * edge, parts) for edge in (k, k + 1))
        shares = {i: min(right, i + 1) - max(left, i) for i in inside if min(right, i + 1) > max(left, i)}
        values = sum(share * inside[i] for i, share in shares.items())
        width = sum(share for i, share in shares.items() if tails[i] > 0)
        for i, share in shares.items():
            if tails[i] > 0:
                if values == 0:
                    return math.inf
                p = share * tails[i] / total
                result += float(p) * math.log(p / (share * values / width / total))
    return result


def candidates(histogram: Histogram, grid: Grid) -> list[tuple[int, int]]:
    zero, bins = -histogram.first, histogram.counts.size
    if grid.symmetric and 0 < zero < bins:
        return [(zero - reach, zero + reach) for reach in range(1, max(zero, bins - zero) + 1)]
    return [(low, high) for low in range(zero + 1) for high in range(zero, bins + 1) if low < high]


@settings(max_examples=100)
@given(small_histograms(), grids)
def test_optimum_of_the_definition(histogram: Histogram, grid: Grid) -> None:
    counts, parts = trimmed(histogram), 2**grid.bits
    if not any(counts):
        return
    costs = {pair: divergence(counts, *pair, parts) for pair in candidates(histogram, grid)}
    least = min(costs.values())
    best = [pair for pair, value in costs.items() if value <= least + 1e-12]
    low, high = find_search("kl")(histogram, grid)
    width, extremes = histogram.bin_width, (min(histogram.minimum, 0), max(histogram.maximum, 0))
    ranges = [[(histogram.first + edge) * width for edge in pair] for pair in best]
    assert (low, high) in [(max(extremes[0], a), min(extremes[1], b)) for a, b in ranges]


@pytest.mark.parametrize("kind", KINDS)
def test_never_worse_than_the_extremes(kind: str) -> None:
    histogram = Histogram.of(sample(kind))
    low, high = find_search("kl")(histogram, Grid(4))
    counts, zero = trimmed(histogram), -histogram.first
    start = 0 if low == histogram.minimum else round(low / histogram.bin_width) + zero
    end = len(counts) if high == histogram.maximum else round(high / histogram.bin_width) + zero
    assert divergence(counts, start, end, 16) <= divergence(counts, 0, len(counts), 16) + 1e-12


def test_all_counts_multiplied_change_nothing() -> None:
    histogram = Histogram.of(sample("heavy"))
    again = Histogram(histogram.exponent, histogram.first, histogram.counts * 8, histogram.minimum, histogram.maximum)
    assert find_search("kl")(histogram, Grid()) == find_search("kl")(again, Grid())
    assert np.all(again.counts >= histogram.counts)
