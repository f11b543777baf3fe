"""Scales of weights: the searches against their definitions, sharing, powers of two, room for the bias."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sqc.calibration import choose_weight_scales
from sqc.errors import CalibrationError

layers = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def error(weights: np.ndarray, scale: float, bits: int, power: int) -> float:
    limit, total = 2 ** (bits - 1) - 1, 0.0
    for w in weights.ravel().tolist():
        total += abs(w - scale * min(max(round(w / scale), -limit), limit)) ** power
    return total


@settings(max_examples=60)
@given(layers, st.integers(2, 8), st.sampled_from([1, 2]), st.booleans())
def test_least_error_of_the_definition(weights: np.ndarray, bits: int, power: int, power_of_two: bool) -> None:
    extremes = choose_weight_scales(weights, bits=bits, power_of_two=power_of_two)
    chosen = choose_weight_scales(weights, bits=bits, search=f"l{power}", power_of_two=power_of_two)
    for row, widest, scale in zip(weights, extremes.astype(float), chosen.astype(float), strict=True):
        own = np.abs(row).max() / (2 ** (bits - 1) - 1)
        if not row.any() or widest > 1.5 * own * (2 if power_of_two else 1):
            continue  # weaker than the strongest channel by more than float32 tells
        shares = [2.0**-i for i in range(8)] if power_of_two else [k / 128 for k in range(128, 15, -1)]
        costs = [error(row, float(np.float32(widest * share)), bits, power) for share in shares]
        assert error(row, scale, bits, power) <= min(costs) * (1 + 1e-6) + 1e-12
        assert error(row, scale, bits, power) <= error(row, widest, bits, power) * (1 + 1e-9)


@settings(max_examples=60)
@given(layers, st.decimals("50.1", 100, places=1))
def test_a_percentile_clips_no_more_than_the_rest(weights: np.ndarray, percent: object) -> None:
    scales = choose_weight_scales(weights, search=f"p{percent}").astype(np.float64) * 127
    share = Fraction(str(percent)) / 100
    for row, limit in zip(np.abs(weights.reshape(len(weights), -1)), scales, strict=True):
        assert (row <= limit * (1 + 1e-6)).sum() >= share * row.size


@pytest.mark.parametrize("search", ["minmax", "l1", "l2", "p95"])
def test_scaling_and_mirroring(search: str) -> None:
    weights = np.random.default_rng(0).standard_t(3, (8, 50)).astype(np.float32)
    scales = choose_weight_scales(weights, bits=4, search=search)
    assert np.array_equal(choose_weight_scales(-weights, bits=4, search=search), scales)
    assert np.array_equal(choose_weight_scales(np.ldexp(weights, 9), bits=4, search=search), np.ldexp(scales, 9))
    widest = choose_weight_scales(weights, bits=4)
    assert (scales <= widest).all()
    assert (scales < widest).any() == (search != "minmax")


def test_weights_that_share_a_scale() -> None:
    weights = np.random.default_rng(0).standard_normal((6, 5, 3)).astype(np.float32)
    whole = choose_weight_scales(weights, groups=1, search="l2")
    assert np.array_equal(whole, np.repeat(choose_weight_scales(weights, None, search="l2"), 6))
    pairs = choose_weight_scales(weights, groups=3, search="l2")
    single = choose_weight_scales(weights.reshape(3, 10, 3), search="l2")
    assert np.array_equal(pairs, np.repeat(single, 2))
    with pytest.raises(CalibrationError, match="6 channels cannot share scales in 4 equal groups"):
        choose_weight_scales(weights, groups=4)


def test_a_bias_raises_the_scale_of_its_group() -> None:
    weights = np.full((4, 3), 1e-9, np.float32)
    scales = choose_weight_scales(weights, bias=np.array([0, 9, 0, 0], np.float32), input_scale=1.0, groups=2)
    assert scales[0] == scales[1] > scales[2] == scales[3]
    powers = choose_weight_scales(weights, bias=np.full(4, 9, np.float32), input_scale=1.0, power_of_two=True)
    assert all(math.frexp(scale)[0] == 0.5 for scale in powers.tolist())
    assert (powers >= scales[0]).all()


def test_no_weights() -> None:
    for search in ("minmax", "l2", "p99"):
        assert choose_weight_scales(np.zeros((2, 0), np.float32), search=search).shape == (2,)
        assert choose_weight_scales(np.zeros((0, 2), np.float32), search=search).shape == (0,)
