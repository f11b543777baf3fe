"""The exact L2 search against a brute force that follows its definition, bin by bin, level by level."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.calibration import Histogram, choose_qparams, choose_range, l2_cost

grids = st.tuples(st.sampled_from([2, 3, 4, 8]), st.booleans())


@st.composite
def small_histograms(draw: st.DrawFn) -> Histogram:
    low_bin, high_bin = sorted(draw(st.tuples(st.integers(-7, 7), st.integers(-7, 7))))
    counts = draw(st.lists(st.integers(0, 30), min_size=high_bin - low_bin + 1, max_size=high_bin - low_bin + 1))
    counts[0], counts[-1] = counts[0] + 1, counts[-1] + 1
    fractions = sorted(draw(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 0.875])] * 2)))
    if low_bin != high_bin:
        fractions = draw(st.permutations(fractions))
    exponent = draw(st.integers(-3, 3))
    first, last = min(low_bin, 0), max(high_bin, -1)
    padded = [0] * (low_bin - first) + counts + [0] * (last - high_bin)
    minimum, maximum = low_bin + fractions[0], high_bin + fractions[1]
    return Histogram(exponent, first, np.array(padded), math.ldexp(minimum, exponent), math.ldexp(maximum, exponent))


def brute_cost(histogram: Histogram, low: float, high: float, bits: int, symmetric: bool) -> float:
    scale, zero_point = choose_qparams(low, high, bits=bits, symmetric=symmetric)
    top: int = 2**bits - 1

    def level(x: float) -> float:
        index = min(max(round(x / scale) + zero_point, 0), top)
        return scale * (index - zero_point)

    cost = 0.0
    for i, count in enumerate(histogram.counts.tolist()):
        left = max(float(histogram.edges[i]), histogram.minimum)
        right = min(float(histogram.edges[i + 1]), histogram.maximum)
        if count == 0:
            continue
        if left >= right:
            cost += count * (left - level(left)) ** 2
            continue
        steps = range(math.floor(left / scale), math.ceil(right / scale))
        knots = [left, *(m for m in ((k + 0.5) * scale for k in steps) if left < m < right), right]
        for a, b in itertools.pairwise(knots):
            v = level((a + b) / 2)
            cost += count / (right - left) * ((b - v) ** 3 - (a - v) ** 3) / 3
    return cost


def candidates(histogram: Histogram, symmetric: bool) -> list[tuple[float, float]]:
    edges = histogram.edges.tolist()
    pairs = [(a, b) for a in edges for b in edges if a <= 0 <= b and a < b]
    if symmetric and histogram.minimum < 0 < histogram.maximum:
        pairs = [(a, b) for a, b in pairs if a < 0 < b]
    return [*pairs, (min(histogram.minimum, 0), max(histogram.maximum, 0))]


@settings(max_examples=60, deadline=None)
@given(small_histograms(), grids)
def test_finds_the_optimum_of_the_definition(histogram: Histogram, grid: tuple[int, bool]) -> None:
    bits, symmetric = grid
    least = min(brute_cost(histogram, *pair, bits, symmetric) for pair in candidates(histogram, symmetric))
    chosen = choose_range(histogram, "l2", bits, symmetric)
    assert chosen in candidates(histogram, symmetric)
    assert brute_cost(histogram, *chosen, bits, symmetric) <= least * (1 + 1e-9) + 1e-12


@settings(max_examples=80, deadline=None)
@given(small_histograms(), grids, st.tuples(st.floats(-9, 0), st.floats(0.125, 9)))
def test_cost_is_the_integral(histogram: Histogram, grid: tuple[int, bool], span: tuple[float, float]) -> None:
    expected = brute_cost(histogram, *span, *grid)
    assert l2_cost(histogram, *span, *grid) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def sample(kind: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(20_000)
    return {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "relu6": np.clip(normal * 4, 0, 6),
        "negative": -np.abs(normal) - 0.5,
        "shifted": normal + 3,
        "heavy": rng.standard_t(2, 20_000),
        "two points": np.where(normal > 1, 3.0, -1.0),
    }[kind].astype(np.float32)


KINDS = ["normal", "relu", "relu6", "negative", "shifted", "heavy", "two points"]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_never_worse_than_minmax(kind: str, symmetric: bool) -> None:
    histogram = Histogram.of(sample(kind))
    for bits in (2, 4, 8):
        least = l2_cost(histogram, *choose_range(histogram, "l2", bits, symmetric), bits, symmetric)
        extremes = l2_cost(histogram, *choose_range(histogram, "minmax", bits, symmetric), bits, symmetric)
        assert least <= extremes


@pytest.mark.parametrize("shift", [-60, -3, 5, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_scaling_the_data_by_a_power_of_two_scales_the_range(kind: str, shift: int) -> None:
    data = sample(kind)
    low, high = choose_range(Histogram.of(data), "l2")
    scaled = choose_range(Histogram.of(np.ldexp(data, shift)), "l2")
    assert scaled == (math.ldexp(low, shift), math.ldexp(high, shift))


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_one_sign_get_a_range_of_one_sign(kind: str) -> None:
    data = sample(kind)
    low, high = choose_range(Histogram.of(data), "l2")
    assert low <= 0 <= high
    if data.min() >= 0:
        assert low == 0
    if data.max() <= 0:
        assert high == 0


def test_predicts_the_error_that_quantization_makes() -> None:
    data = sample("normal")
    histogram = Histogram.of(data)
    for search in ("minmax", "l2"):
        low, high = choose_range(histogram, search)
        scale, zero_point = choose_qparams(low, high)
        quantized = scale * (np.clip(np.rint(data / scale) + zero_point, 0, 255) - zero_point)
        actual = float(((data - quantized) ** 2).sum())
        assert l2_cost(histogram, low, high) == pytest.approx(actual, rel=0.02)


def test_clips_outliers_but_keeps_a_saturated_end() -> None:
    heavy = sample("heavy")
    low, high = choose_range(Histogram.of(heavy), "l2")
    assert heavy.min() < low < 0 < high < heavy.max()
    assert choose_range(Histogram.of(sample("relu6")), "l2") == (0.0, 6.0)


@pytest.mark.parametrize("data", [[], [0.0], [5.0] * 9, [-5.0], [1e-45], [-1e-40, 1e-41], [3e38, -3e38]])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("search", ["minmax", "l2"])
def test_degenerate_tensors_get_a_usable_range(data: list[float], symmetric: bool, search: str) -> None:
    low, high = choose_range(Histogram.of(np.array(data, np.float32)), search, symmetric=symmetric)
    scale, _ = choose_qparams(low, high, symmetric=symmetric)
    assert low <= 0 <= high
    assert scale >= np.finfo(np.float32).tiny
    if len(set(data)) == 1 and abs(data[0]) > 1:
        assert (low, high) == (min(data[0], 0), max(data[0], 0))
