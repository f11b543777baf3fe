"""Bins to other bins: by the rule as it is stated, bin by bin, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqc.calibration import Histogram
from sqc.calibration.rebinning import from_uniform, to_uniform

values = arrays(np.float32, st.integers(1, 60), elements=st.floats(-8, 8, width=32))


def slow(sources: list[float], counts: list[int], edges: list[float]) -> list[int]:
    """Each source bin by itself: how much of it lies before each edge, then the differences."""
    result = [0] * (len(edges) - 1)
    for begin, end, count in zip(sources, sources[1:], counts, strict=False):
        gone = 0
        for i, edge in enumerate(edges[1:]):
            if i == len(result) - 1 or edge >= end:
                share = count
            elif edge <= begin:
                share = 0
            else:
                share = max(0, min(round((edge - begin) / (end - begin) * count), count))
            result[i] += share - gone
            gone = share
    return result


@given(values, st.sampled_from([1, 3, 64, 2048]))
def test_equal_bins_follow_the_rule(data: np.ndarray, bins: int) -> None:
    histogram = Histogram.of(data)
    counts = to_uniform(histogram, bins)
    assert counts.sum() == data.size and (counts >= 0).all()
    filled = np.flatnonzero(histogram.counts)
    edges = np.clip(histogram.edges, histogram.minimum, histogram.maximum)
    targets = np.linspace(histogram.minimum, histogram.maximum, bins + 1).tolist()
    expected = np.zeros(bins, int)
    for i in filled:
        expected += slow(edges[i : i + 2].tolist(), [int(histogram.counts[i])], targets)
    assert counts.tolist() == expected.tolist()


@given(
    st.floats(-8, 8, width=32),
    st.floats(-8, 8, width=32),
    arrays(np.int64, st.sampled_from([1, 7, 2048]), elements=st.integers(0, 99)),
)
def test_grids_of_powers_of_two_follow_the_rule(one: float, other: float, counts: np.ndarray) -> None:
    minimum, maximum = min(one, other) + 0.0, max(one, other) + 0.0
    histogram = from_uniform(minimum, maximum, counts)
    assert histogram.total == counts.sum() and (histogram.counts >= 0).all()
    ends = Histogram.of([minimum, maximum])
    assert (histogram.exponent, histogram.first, histogram.counts.size) == (ends.exponent, ends.first, ends.counts.size)
    if minimum < maximum and counts.size < 2048:
        sources = np.linspace(minimum, maximum, counts.size + 1).tolist()
        assert histogram.counts.tolist() == slow(sources, counts.tolist(), histogram.edges.tolist())


@given(values)
def test_there_and_back_moves_values_by_less_than_two_bins(data: np.ndarray) -> None:
    histogram = Histogram.of(data)
    back = from_uniform(histogram.minimum, histogram.maximum, to_uniform(histogram, 2048))
    assert (back.exponent, back.first) == (histogram.exponent, histogram.first)
    before, after = (np.concatenate([[0], np.cumsum(h.counts)]) for h in (histogram, back))
    assert (after[2:] >= before[:-2]).all() and (before[2:] >= after[:-2]).all()


@pytest.mark.parametrize("value", [0.0, -3.0, 5.5, 1.0])
def test_one_value(value: float) -> None:
    histogram = Histogram.of([value] * 6)
    counts = to_uniform(histogram, 2048)
    assert counts.sum() == 6
    assert from_uniform(value, value, counts) == histogram
