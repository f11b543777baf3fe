"""Accumulators that are floats already: every one of them gets the level of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sqc.schedules import Target, lower
from sqc.schedules.affine import FIRST, Affine, Levels, fit
from tests.schedules.cases import Case, check


def as_kernels_do(affine: Affine, channel: int, sums: np.ndarray, levels: Levels) -> np.ndarray:
    bits = (sums + affine.starts[channel]).astype(np.int32)
    x = bits.view(np.float32).astype(np.longdouble)
    total = x * np.longdouble(affine.multipliers[channel]) + np.longdouble(affine.offsets[channel])
    return levels.rounded(total.astype(np.float32))


channels = st.tuples(st.integers(-60_000, 10_000), st.integers(0, 90_000), st.floats(2**-13, 3.0, width=32))
# Beyond 2**24 neighbouring sums are the same float.
far = st.tuples(st.integers(2**24, 2**31 - 100_000), st.integers(0, 90_000), st.floats(0.5, 260.0)).map(
    lambda drawn: (-drawn[0], drawn[1], drawn[2] / drawn[0])
)


@settings(deadline=None)
@given(st.lists(channels | far, min_size=1, max_size=4), st.integers(-255, 0))
@example([(-2_145_520_657, 3_957_600, 8e-08)], -255)
def test_every_sum_gets_its_level(drawn: list[tuple[int, int, float]], lo: int) -> None:
    least, width, multipliers = (np.array(column) for column in zip(*drawn, strict=True))
    levels = Levels(multipliers.astype(np.float32), lo, lo + 255)
    affine = fit(least, least + width, levels)
    if affine is None:
        return
    for channel, first in enumerate(least):
        sums = np.arange(first, first + width[channel] + 1)
        expected = levels.some(np.array([channel])).of(sums[None])[0]
        np.testing.assert_array_equal(as_kernels_do(affine, channel, sums, levels), expected)


def test_most_channels_find_a_start() -> None:
    rng = np.random.default_rng(0)
    least = rng.integers(-500_000, -1000, 400)
    found = [
        fit(least[i : i + 1], -least[i : i + 1], Levels(rng.uniform(5e-4, 2e-2, 1).astype(np.float32), 0, 255))
        for i in range(len(least))
    ]
    assert sum(affine is not None for affine in found) > 390


@pytest.mark.parametrize("multiplier", [0.0, -1.0, np.inf, np.nan])
def test_multipliers_that_no_level_rises_with(multiplier: float) -> None:
    assert fit(np.array([0]), np.array([10]), Levels(np.array([multiplier], np.float32), 0, 255)) is None


def test_a_channel_without_weights_may_have_any_multiplier() -> None:
    fit(np.array([0]), np.array([0]), Levels(np.array([3e38], np.float32), 0, 255))


def test_sums_that_no_float_holds() -> None:
    levels = Levels(np.array([2**-13], np.float32), 0, 255)
    assert fit(np.array([-1]), np.array([FIRST - 2]), levels) is not None
    assert fit(np.array([-1]), np.array([FIRST - 1]), levels) is None


@pytest.mark.parametrize("target", ["x86-64-v3", "icelake-server"])
def test_known_weights_allow_it(target: str) -> None:
    case = Case(0)
    acc = case.emit("qfully_connected", case.u8(5, 32), case.s8(24, 32), case.bias(24))
    case.requantize(acc, 9000)
    kernel = lower(case.op(), Target.parse(target), case.arrays)
    assert "affine=True" in kernel.workload
    assert "affine=True" not in lower(case.op(), Target.parse(target)).workload
    check(case, target)
