"""Histograms depend on the values alone: not on their order, their batches, or how parts are merged."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqc.calibration import BINS, Histogram
from sqc.errors import CalibrationError

finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
moderate = st.floats(-8, 8, width=32)
values = st.one_of(
    arrays(np.float32, st.integers(0, 40), elements=finite),
    arrays(np.float32, st.integers(0, 40), elements=moderate),
)


def slow_counts(data: np.ndarray, exponent: int) -> dict[int, int]:
    """Bin index -> count, value by value, in exact arithmetic."""
    counts: dict[int, int] = {}
    for value in data.tolist():
        index = math.floor(math.ldexp(value, -exponent))
        counts[index] = counts.get(index, 0) + 1
    return counts


def nonzero_counts(histogram: Histogram) -> dict[int, int]:
    return {histogram.first + i: int(n) for i, n in enumerate(histogram.counts) if n}


def window(histogram: Histogram, exponent: int) -> int:
    low = min(math.floor(math.ldexp(histogram.minimum, -exponent)), 0)
    return max(math.floor(math.ldexp(histogram.maximum, -exponent)), -1) - low + 1


@given(values)
def test_counts_are_those_of_a_slow_count(data: np.ndarray) -> None:
    histogram = Histogram.of(data)
    assert nonzero_counts(histogram) == slow_counts(data, histogram.exponent)
    assert histogram.total == data.size
    if data.size:
        assert (histogram.minimum, histogram.maximum) == (data.min(), data.max())


@given(values)
def test_bins_are_the_finest_that_fit(data: np.ndarray) -> None:
    histogram = Histogram.of(data)
    assert histogram.counts.size <= BINS
    assert 0.0 in histogram.edges
    if data.size and histogram.exponent > -149:
        assert window(histogram, histogram.exponent) == histogram.counts.size
        assert window(histogram, histogram.exponent - 1) > BINS


@given(values, st.data())
def test_any_split_in_any_order_merges_to_the_same(data: np.ndarray, draw: st.DataObject) -> None:
    whole = Histogram.of(data)
    shuffled = np.array(draw.draw(st.permutations(data.tolist())), np.float32)
    cuts = sorted(draw.draw(st.lists(st.integers(0, data.size), max_size=4)))
    parts = [Histogram.of(part) for part in np.split(shuffled, cuts)]
    assert reduce(Histogram.merge, parts) == whole
    assert reduce(lambda a, b: b.merge(a), reversed(parts)) == whole


@given(values, values, values)
def test_merge_is_associative_and_commutative(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    a, b, c = Histogram.of(x), Histogram.of(y), Histogram.of(z)
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(Histogram.empty()) == a == Histogram.empty().merge(a)


@given(arrays(np.float32, st.integers(1, 40), elements=moderate), st.integers(-20, 20))
def test_scaling_by_a_power_of_two_moves_the_exponent_only(data: np.ndarray, shift: int) -> None:
    data = np.where(np.abs(data) < 2.0**-40, 0, data).astype(np.float32)
    if not data.any():
        return
    one, other = Histogram.of(data), Histogram.of(np.ldexp(data, shift))
    assert (other.exponent, other.first) == (one.exponent + shift, one.first)
    assert np.array_equal(other.counts, one.counts)


@pytest.mark.parametrize(
    ("data", "first", "bins"),
    [
        ([0.0, -0.0], 0, 1),
        ([5.0] * 7, 0, 1281),
        ([-5.0] * 7, -1280, 1280),
        ([1e-45], 0, 2),
        ([-1e-45], -1, 1),
        ([np.finfo(np.float32).max, np.finfo(np.float32).min], -1024, 2048),
    ],
    ids=["zeros", "constant", "negative constant", "denormal", "negative denormal", "extremes"],
)
def test_degenerate_tensors(data: list[float], first: int, bins: int) -> None:
    histogram = Histogram.of(data)
    assert (histogram.first, histogram.counts.size, histogram.total) == (first, bins, len(data))
    assert math.copysign(1, histogram.minimum) == (1 if min(data) >= 0 else -1)


def test_zeros_are_the_finest_of_all() -> None:
    zeros, tiny = Histogram.of([0.0, 0.0]), Histogram.of([1e-30])
    assert zeros.merge(tiny) == tiny.merge(zeros) == Histogram.of([0.0, 1e-30, 0.0])


def test_a_tiny_negative_value_stays_negative_beside_a_large_one() -> None:
    histogram = Histogram.of([-1e-44, 1e30])
    assert nonzero_counts(histogram)[-1] == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_arrays_longer_than_a_chunk(seed: int) -> None:
    data = np.random.default_rng(seed).standard_normal((3, 5, 4999), np.float32)
    histogram = Histogram.of(data)
    edges = histogram.edges
    assert np.array_equal(histogram.counts, np.histogram(data, edges)[0])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([1.0, math.nan], "1 NaN and 0 infinite"),
        ([-math.inf, 2.0, math.inf], "0 NaN and 2 infinite"),
        ([1e300], "1 infinite"),
        (["a"], "holds no real numbers"),
        ([1j], "holds no real numbers"),
    ],
)
def test_what_is_no_number_is_refused_with_the_name_of_the_tensor(data: list[object], complaint: str) -> None:
    with pytest.raises(CalibrationError, match=complaint) as caught:
        Histogram.of(np.array(data), "conv1_out")
    assert "'conv1_out'" in str(caught.value)
