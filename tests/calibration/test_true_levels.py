"""The exact L1 and L2 searches against a brute force that follows their definition, bin by bin, level by level."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.calibration import Grid, Histogram, choose_qparams, choose_range, find_search, quantization_error
from tests.calibration.histograms import KINDS, grids, sample, small_histograms

Power = Literal[1, 2]
powers: st.SearchStrategy[Power] = st.sampled_from((1, 2))


def brute_cost(histogram: Histogram, low: float, high: float, grid: Grid, power: Power) -> float:
    scale, zero_point = choose_qparams(low, high, "uint8", grid.symmetric, grid.bits, grid.power_of_two)

    def level(x: float) -> float:
        index = min(max(round(x / scale) + zero_point, 0), grid.steps)
        return scale * (index - zero_point)

    def integral(a: float, b: float, v: float) -> float:  # of |x - v|**power, from a to b
        if power == 2:
            return ((b - v) ** 3 - (a - v) ** 3) / 3
        return ((b - v) * abs(b - v) - (a - v) * abs(a - v)) / 2

    cost = 0.0
    for i, count in enumerate(histogram.counts.tolist()):
        left = max(float(histogram.edges[i]), histogram.minimum)
        right = min(float(histogram.edges[i + 1]), histogram.maximum)
        if count == 0:
            continue
        if left >= right:
            cost += count * abs(left - level(left)) ** power
            continue
        steps = range(math.floor(left / scale), math.ceil(right / scale))
        knots = [left, *(m for m in ((k + 0.5) * scale for k in steps) if left < m < right), right]
        for a, b in itertools.pairwise(knots):
            cost += count / (right - left) * integral(a, b, level((a + b) / 2))
    return cost


def candidates(histogram: Histogram, symmetric: bool) -> list[tuple[float, float]]:
    edges = histogram.edges.tolist()
    pairs = [(a, b) for a in edges for b in edges if a <= 0 <= b and a < b]
    if symmetric and histogram.minimum < 0 < histogram.maximum:
        pairs = [(a, b) for a, b in pairs if a < 0 < b]
    return [*pairs, (min(histogram.minimum, 0), max(histogram.maximum, 0))]


@settings(max_examples=100)
@given(small_histograms(), grids, powers)
def test_finds_the_optimum_of_the_definition(histogram: Histogram, grid: Grid, power: Power) -> None:
    pairs = candidates(histogram, grid.symmetric)
    least = min(brute_cost(histogram, *pair, grid, power) for pair in pairs)
    chosen = find_search(f"l{power}")(histogram, grid)
    assert chosen in pairs
    assert brute_cost(histogram, *chosen, grid, power) <= least * (1 + 1e-9) + 1e-12


@settings(max_examples=120)
@given(small_histograms(), grids, powers, st.tuples(st.floats(-9, 0), st.floats(0.125, 9)))
def test_cost_is_the_integral(histogram: Histogram, grid: Grid, power: Power, span: tuple[float, float]) -> None:
    expected = brute_cost(histogram, *span, grid, power)
    assert quantization_error(histogram, *span, grid, power) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_never_worse_than_any_other_search(kind: str, symmetric: bool, power: Power) -> None:
    histogram = Histogram.of(sample(kind))
    for bits in (2, 4, 8):
        grid = Grid(bits, symmetric)
        least = quantization_error(histogram, *find_search(f"l{power}")(histogram, grid), grid, power)
        extremes = quantization_error(histogram, *find_search("minmax")(histogram, grid), grid, power)
        assert least <= extremes


def test_predicts_the_error_that_quantization_makes() -> None:
    data = sample("normal").astype(np.float64)
    histogram = Histogram.of(data)
    for search in ("minmax", "l1", "l2"):
        low, high = choose_range(histogram, search)
        scale, zero_point = choose_qparams(low, high)
        quantized = scale * (np.clip(np.rint(data / scale) + zero_point, 0, 255) - zero_point)
        powers: tuple[Power, ...] = (1, 2)
        for power in powers:
            actual = float((np.abs(data - quantized) ** power).sum())
            assert quantization_error(histogram, low, high, Grid(), power) == pytest.approx(actual, rel=0.02)


def test_clips_outliers_but_keeps_a_saturated_end() -> None:
    heavy = sample("heavy")
    low, high = choose_range(Histogram.of(heavy), "l2")
    assert heavy.min() < low < 0 < high < heavy.max()
    assert choose_range(Histogram.of(sample("relu6")), "l2") == (0.0, 6.0)
