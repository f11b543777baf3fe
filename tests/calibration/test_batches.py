"""Ranges by batch: in the batches' order, whoever saw them, and each batch once."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqc.calibration.batches import BatchRanges
from sqc.errors import CalibrationError


def batch(number: int, content: bytes = b"") -> BatchRanges:
    return BatchRanges.of(number, content, {"x": (-number, number + 0.5), "y": (0.0, len(content))})


@given(st.permutations(range(7)), st.integers(0, 7))
def test_batches_come_in_their_order(order: list[int], cut: int) -> None:
    whole = reduce(BatchRanges.merge, map(batch, range(7)))
    halves = [reduce(BatchRanges.merge, map(batch, half), BatchRanges()) for half in (order[:cut], order[cut:])]
    assert halves[0].merge(halves[1]) == whole == halves[1].merge(halves[0])
    assert np.array_equal(whole.of_tensor("x"), [[-n, n + 0.5] for n in range(7)])
    assert whole.of_tensor("x").dtype == np.float32
    assert whole.of_tensor("z").shape == (0, 2)


def test_other_data_may_have_the_same_numbers() -> None:
    one, other = batch(3, b"a"), batch(3, b"bc")
    assert one.merge(other) == other.merge(one)
    assert one.merge(other).of_tensor("y")[:, 1].tolist() == [1, 2]


def test_a_batch_does_not_count_twice() -> None:
    some = reduce(BatchRanges.merge, map(batch, range(9)))
    with pytest.raises(CalibrationError, match=r"1 batches \(number 4, counted from 0\) are in both"):
        some.merge(batch(4))
    with pytest.raises(CalibrationError, match=r"9 batches \(number 0, 1, 2, 3, 4, ..., counted"):
        some.merge(some)
