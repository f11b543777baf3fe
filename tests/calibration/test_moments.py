"""Moments beside exact arithmetic: what rounds is one sample's sum in float64, and merging rounds nothing."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sqc.calibration import Moments

finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
rows = arrays(np.float32, st.tuples(st.integers(0, 12), st.integers(1, 9)), elements=finite)


def exact(data: np.ndarray) -> tuple[Fraction, Fraction]:
    values = [Fraction(value) for value in data.ravel().tolist()]
    return sum(values, Fraction(0)), sum((value * value for value in values), Fraction(0))


@given(rows)
def test_moments_are_exact_but_for_float64(data: np.ndarray) -> None:
    moments = Moments.of(data, len(data))
    total, squares = exact(data)
    largest = max((abs(Fraction(value)) for value in data.ravel().tolist()), default=Fraction(0))
    assert moments.count == data.size
    assert abs(Fraction(moments.total, 2**149) - total) <= data.size * 9 * largest / 2**53
    assert abs(Fraction(moments.squares, 2**298) - squares) <= data.size * 9 * largest**2 / 2**53


@given(arrays(np.float32, (7, 5), elements=st.integers(-1000, 1000).map(float)))
def test_mean_and_variance(data: np.ndarray) -> None:
    """Of small integers every sum is exact, so each property is the one nearest float64."""
    moments = Moments.of(data, 7)
    total, squares = exact(data)
    assert moments.mean == float(total / 35)
    assert moments.mean_square == float(squares / 35)
    assert moments.variance == float(squares / 35 - (total / 35) ** 2)


@given(rows, st.data())
def test_any_split_in_any_order_merges_to_the_same(data: np.ndarray, draw: st.DataObject) -> None:
    order = draw.draw(st.permutations(range(len(data))))
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    parts = [Moments.of(part, len(part)) for part in np.split(data[order], cuts)]
    assert reduce(Moments.merge, parts, Moments()) == Moments.of(data, len(data))


@pytest.mark.parametrize("shape", [(6, 40_000), (700, 100), (3, 32_768), (2, 1)])
def test_samples_longer_and_shorter_than_a_chunk_do_not_depend_on_their_company(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(0).standard_normal(shape, np.float32)
    alone = [Moments.of(row) for row in data]
    assert reduce(Moments.merge, alone) == Moments.of(data, len(data)) == Moments.of(data[::-1], len(data))


def test_values_that_samples_do_not_divide_count_as_one() -> None:
    assert Moments.of(np.ones(7), 3) == Moments(7, 7 << 149, 7 << 298)


def test_no_values() -> None:
    empty = Moments.of(np.zeros((0, 4)), 0)
    assert empty == Moments()
    assert (empty.mean, empty.mean_square, empty.variance) == (0, 0, 0)
