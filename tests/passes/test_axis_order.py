"""Reshapes of tensors whose axes are held in another order."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.passes.axis_order import channels_last, held_shape, identity, inverse, long_axes, plan_reshape

EXTENTS = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """A shape, how it is held, and another shape of as many elements."""
    shape = draw(EXTENTS)
    left, result = math.prod(shape), []
    while left > 1:
        extent = draw(st.sampled_from([extent for extent in range(2, left + 1) if left % extent == 0]))
        result.append(extent)
        left //= extent
    for _ in range(draw(st.integers(0, 2))):
        result.insert(draw(st.integers(0, len(result))), 1)
    return tuple(shape), tuple(draw(st.permutations(range(len(shape))))), tuple(result)


@given(case=reshapes())
@settings(max_examples=200, deadline=None)
def test_a_planned_reshape_is_the_reshape(case: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> None:
    shape, perm, result = case
    plan = plan_reshape(shape, perm, result)
    value = np.arange(math.prod(shape)).reshape(shape)
    held = value.transpose(inverse(plan.before))
    assert held.shape == held_shape(shape, plan.before)
    reshaped = held.reshape(held_shape(result, plan.after))
    np.testing.assert_array_equal(reshaped.transpose(plan.after), value.reshape(result))


def test_axes_side_by_side_stay_where_they_are() -> None:
    nhwc = channels_last(4)
    for result, after in [
        ((1, 8, 15), (0, 2, 1)),  # pixels merge: N C HW is held as N HW C
        ((1, 2, 4, 3, 5), (0, 3, 4, 1, 2)),  # channels split: N G C H W is held as N H W G C
        ((1, 8, 3, 1, 5), (0, 4, 1, 2, 3)),  # an axis of extent 1 goes where channels-last has it
    ]:
        plan = plan_reshape((1, 8, 3, 5), nhwc, result)
        assert (plan.before, plan.after) == (nhwc, after)


def test_channels_and_pixels_that_mix_need_the_models_order() -> None:
    plan = plan_reshape((1, 8, 3, 5), channels_last(4), (1, 24, 5))
    assert (plan.before, plan.after) == (identity(4), identity(3))


def test_long_axes() -> None:
    assert long_axes((1, 8, 1, 1), channels_last(4)) == long_axes((1, 8, 1, 1), identity(4)) == [1]
    assert long_axes((1, 8, 3, 5), channels_last(4)) == [2, 3, 1]
