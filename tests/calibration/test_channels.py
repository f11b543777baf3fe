"""Extremes of channels, wherever the axis lies, beside numpy's own."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sqc.calibration import ChannelRanges
from sqc.errors import CalibrationError

values = arrays(np.float32, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-2, 2, width=32))


@given(values, st.data())
def test_extremes_are_numpys(data: np.ndarray, draw: st.DataObject) -> None:
    axis = draw.draw(st.integers(1, data.ndim - 1))
    ranges = ChannelRanges.of(data, axis)
    others = tuple(i for i in range(data.ndim) if i != axis)
    assert ranges.axis == axis
    assert np.array_equal(ranges.minima, data.min(axis=others))
    assert np.array_equal(ranges.maxima, data.max(axis=others))
    assert ranges.minima.dtype == ranges.maxima.dtype == np.float32


@pytest.mark.parametrize("shape", [(3, 50, 50, 7), (2, 4097, 1), (1, 5, 4096)])
def test_many_pixels(shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).standard_normal(shape, np.float32)
    ranges = ChannelRanges.of(data, len(shape) - 1)
    assert np.array_equal(ranges.minima, data.reshape(-1, shape[-1]).min(axis=0))
    assert np.array_equal(ranges.maxima, data.reshape(-1, shape[-1]).max(axis=0))


@given(arrays(np.float32, (9, 3), elements=st.sampled_from([-1.0, -0.0, 0.0, 2.0])), st.permutations(range(9)))
def test_any_order_gives_the_same_bytes(data: np.ndarray, order: list[int]) -> None:
    whole = ChannelRanges.of(data, 1)
    merged = reduce(ChannelRanges.merge, [ChannelRanges.of(data[i : i + 1], 1) for i in order])
    assert merged == whole
    assert (merged.minima.tobytes(), merged.maxima.tobytes()) == (whole.minima.tobytes(), whole.maxima.tobytes())


def test_no_values_are_the_identity() -> None:
    some, none = ChannelRanges.of(np.ones((2, 3), np.float32), 1), ChannelRanges.of(np.ones((0, 3), np.float32), 1)
    assert some.merge(none) == some == none.merge(some)


def test_other_channels_do_not_merge() -> None:
    with pytest.raises(CalibrationError, match="3 channels on axis 1 in one and 2 on axis 1 in the other"):
        ChannelRanges.of(np.ones((2, 3), np.float32), 1).merge(ChannelRanges.of(np.ones((2, 2), np.float32), 1))
