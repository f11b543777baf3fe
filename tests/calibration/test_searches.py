"""What holds for every search: zero in range, exact scaling and mirroring, usable ranges of degenerate data."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.calibration import (
    Grid,
    Histogram,
    choose_qparams,
    choose_range,
    find_search,
    quantization_error,
    search_names,
)
from sqc.calibration.moving_average import moving_average
from sqc.calibration.ranges import bounded
from sqc.errors import CalibrationError
from tests.calibration.histograms import KINDS, grids, sample, small_histograms

SEARCHES = [*search_names(), "p99", "percentile:99.99"]


@settings(max_examples=150)
@given(small_histograms(), grids, st.sampled_from(SEARCHES))
def test_zero_is_in_every_range(histogram: Histogram, grid: Grid, search: str) -> None:
    low, high = find_search(search)(histogram, grid)
    assert low <= 0 <= high


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_scaling_the_data_by_a_power_of_two_scales_the_range(kind: str, search: str) -> None:
    data = sample(kind)
    low, high = choose_range(Histogram.of(data), search)
    for shift in (-60, -3, 5, 60):
        scaled = choose_range(Histogram.of(np.ldexp(data, shift)), search)
        assert scaled == (math.ldexp(low, shift), math.ldexp(high, shift))


def symmetric_sample(kind: str) -> np.ndarray:
    """Off the edges of bins, so that the bins mirror as well."""
    return np.asarray(np.round(sample(kind) * 1024) + 0.5, np.float32)


@pytest.mark.parametrize("search", ["minmax", "l1", "l2", "p99", "percentile:99.9"])
@pytest.mark.parametrize("kind", ["normal", "shifted", "negative"])
def test_mirroring_the_data_mirrors_the_range(kind: str, search: str) -> None:
    data = symmetric_sample(kind)
    histogram, mirrored = Histogram.of(data), Histogram.of(-data)
    low, high = choose_range(histogram, search)
    left, right = choose_range(mirrored, search)
    if search in ("l1", "l2"):  # level 0 and the last one are no mirror images: zero points are rounded
        grid = Grid()
        power: Literal[1, 2] = 1 if search == "l1" else 2
        error = quantization_error(histogram, low, high, grid, power)
        assert quantization_error(mirrored, left, right, grid, power) == pytest.approx(error, rel=0.01)
    else:
        assert (-right, -left) == (low, high)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("search", SEARCHES)
def test_data_of_one_sign_get_a_range_of_one_sign(kind: str, search: str) -> None:
    data = sample(kind)
    low, high = choose_range(Histogram.of(data), search)
    if data.min() >= 0:
        assert low == 0
    if data.max() <= 0:
        assert high == 0


@pytest.mark.parametrize("data", [[], [0.0], [5.0] * 9, [-5.0], [1e-45], [-1e-40, 1e-41], [3e38, -3e38]])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("search", SEARCHES)
def test_degenerate_tensors_get_a_usable_range(data: list[float], symmetric: bool, search: str) -> None:
    low, high = choose_range(Histogram.of(np.array(data, np.float32)), search, symmetric=symmetric)
    assert low <= 0 <= high
    if "dnnlowp" not in search and "approx" not in search:  # which take whole bins
        scale, _ = choose_qparams(low, high, symmetric=symmetric)
        assert scale >= np.finfo(np.float32).tiny
        if len(set(data)) == 1 and abs(data[0]) > 1:
            assert (low, high) == (min(data[0], 0), max(data[0], 0))


@settings(max_examples=150)
@given(small_histograms(), st.decimals("50.001", 100, places=3))
def test_a_percentile_keeps_its_share(histogram: Histogram, percent: Decimal) -> None:
    low, high = choose_range(histogram, f"percentile:{percent}")
    edges = np.clip(histogram.edges, histogram.minimum, histogram.maximum)
    kept = histogram.counts[(edges[:-1] >= low) & (edges[1:] <= high)].sum()
    assert Fraction(int(kept), histogram.total) >= Fraction(percent) / 100


def test_a_percentile_gives_up_what_it_may() -> None:
    histogram = Histogram(0, -2, np.array([1, 9, 80, 9, 1]), -1.5, 2.5)
    assert choose_range(histogram, "p100") == (-1.5, 2.5)
    assert choose_range(histogram, "p98") == (-1.0, 2.0)
    assert choose_range(histogram, "percentile:97.9") == (-1.0, 2.0)
    assert choose_range(histogram, "percentile:98.1") == (-1.5, 2.5)
    assert choose_range(histogram, "p80") == (0.0, 1.0)


@pytest.mark.parametrize("name", ["p50", "p100.1", "percentile:", "percentile:nan", "p1e9", "percentile:1/0"])
def test_no_percentage(name: str) -> None:
    with pytest.raises(CalibrationError, match="is no percentage to keep"):
        find_search(name)


def test_unknown_names() -> None:
    with pytest.raises(CalibrationError, match="no range search 'l2dnnlowp'; did you mean l2-dnnlowp"):
        find_search("l2dnnlowp")
    with pytest.raises(CalibrationError, match="no range search 'percent'"):
        find_search("percent")


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 9)), min_size=1, max_size=9))
def test_moving_average_follows_the_batches(batches: list[tuple[float, float]]) -> None:
    rows = [(low, low + extent) for low, extent in batches]
    low, high = rows[0]
    for least, most in rows[1:]:
        low += 0.1 * (least - low)
        high += 0.1 * (most - high)
    assert moving_average(rows) == (min(low, 0.0), max(high, 0.0))
    assert moving_average(rows, 1.0) == pytest.approx((min(rows[-1][0], 0.0), max(rows[-1][1], 0.0)))


def test_moving_average_of_no_batches() -> None:
    assert moving_average([]) == (0.0, 0.0)


@given(
    st.lists(st.floats(-8, 8, width=16), min_size=1, max_size=50),
    st.sampled_from([-math.inf, -3.0, -0.25, 0.0]),
    st.sampled_from([0.0, 0.25, 3.0, math.inf]),
)
def test_bounded_is_near_the_histogram_of_bounded_values(values: list[float], low: float, high: float) -> None:
    cut = np.clip(np.array(values, np.float32), low, high)
    histogram = bounded(Histogram.of(values), low, high)
    assert histogram.total == len(values)
    assert (histogram.minimum, histogram.maximum) == (cut.min(), cut.max())
    for search in SEARCHES:
        chosen = find_search(search)(histogram, Grid())
        assert chosen[0] <= 0 <= chosen[1]
