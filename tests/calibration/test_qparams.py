"""Scales and zero points: zero exact, scales usable, DNNLOWP's published values, weights that fit their bias."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqc.calibration import choose_qparams, choose_weight_scales
from sqc.errors import CalibrationError

ends = st.floats(width=32, allow_nan=False, allow_infinity=False)
ranges = st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))
TINY = float(np.finfo(np.float32).tiny)


@given(ranges, st.sampled_from(["uint8", "int8"]), st.booleans(), st.integers(2, 8))
def test_zero_is_a_level_and_the_scale_is_a_usable_float32(
    span: tuple[float, float], dtype: str, symmetric: bool, bits: int
) -> None:
    scale, zero_point = choose_qparams(*span, dtype=dtype, symmetric=symmetric, bits=bits)
    least = 0 if dtype == "uint8" else -(2 ** (bits - 1))
    assert least <= zero_point < least + 2**bits
    assert float(np.float32(scale)) == scale
    assert TINY <= scale < math.inf


@given(ranges, st.booleans(), st.integers(2, 8))
def test_the_levels_cover_the_range_up_to_half_a_step(span: tuple[float, float], symmetric: bool, bits: int) -> None:
    scale, zero_point = choose_qparams(*span, symmetric=symmetric, bits=bits)
    slack = scale * (0.5 + 1e-4)
    assert -zero_point * scale - slack <= span[0]
    assert span[1] <= (2**bits - 1 - zero_point) * scale + slack


@given(ranges)
def test_int8_is_uint8_moved_by_128(span: tuple[float, float]) -> None:
    scale, zero_point = choose_qparams(*span, dtype="uint8")
    assert choose_qparams(*span, dtype="int8") == (scale, zero_point - 128)


@pytest.mark.parametrize(
    ("span", "symmetric", "scale", "zero_point"),
    [
        ((-7.2547355, 6.3478932), False, 0.053343643, 136),  # the golden test of the original's L2 search
        ((-7.128932, 7.0732374), True, 0.055694781, 128),
        ((-1.0, 1.0), False, 2 / 255, 128),
        ((0.0, 6.0), True, 6 / 255, 0),
        ((2.0, 6.0), False, 6 / 255, 0),
        ((-6.0, -2.0), False, 6 / 255, 255),
        ((0.0, 0.0), False, 0.1, 0),
        ((0.0, 0.0), True, 0.1, 0),
        ((0.0, 1e-44), False, 0.1, 0),
    ],
)
def test_known_parameters(span: tuple[float, float], symmetric: bool, scale: float, zero_point: int) -> None:
    actual = choose_qparams(*span, symmetric=symmetric)
    assert actual[0] == pytest.approx(scale, rel=2e-7)
    assert actual[1] == zero_point


@pytest.mark.parametrize("span", [(-3.0, 2.0), (0.0, 2.0), (-2.0, -1.0), (0.0, 0.0), (-1e-44, 1e-44)])
def test_symmetric_int8_has_its_zero_at_0(span: tuple[float, float]) -> None:
    assert choose_qparams(*span, dtype="int8", symmetric=True)[1] == 0


@pytest.mark.parametrize("span", [(1.0, -1.0), (math.nan, 1.0), (0.0, math.inf), (0.0, 1e300)])
def test_no_range(span: tuple[float, float]) -> None:
    with pytest.raises(CalibrationError, match="no range to quantize"):
        choose_qparams(*span)


def test_unknown_types() -> None:
    with pytest.raises(CalibrationError, match="'float16'; choose uint8 or int8"):
        choose_qparams(0, 1, dtype="float16")
    with pytest.raises(CalibrationError, match="9 bits; choose 2 to 8"):
        choose_qparams(0, 1, bits=9)


def test_weight_scales_are_per_channel() -> None:
    weights = np.random.default_rng(0).standard_normal((5, 4, 3, 3), np.float32)
    per_channel = np.abs(weights).max(axis=(1, 2, 3)) / 127
    assert np.allclose(choose_weight_scales(weights), per_channel, rtol=1e-6)
    assert np.allclose(choose_weight_scales(np.moveaxis(weights, 0, 1), axis=1), per_channel, rtol=1e-6)
    assert np.allclose(choose_weight_scales(weights, axis=None), per_channel.max(keepdims=True), rtol=1e-6)
    assert np.allclose(choose_weight_scales(weights, bits=7), per_channel * 127 / 63, rtol=1e-6)
    assert choose_weight_scales(weights).dtype == np.float32


def test_channels_of_zeros_get_safe_scales() -> None:
    weights = np.zeros((3, 8), np.float32)
    assert choose_weight_scales(weights).tolist() == [np.float32(0.1)] * 3
    weights[0], weights[1] = 127.0, 1e-40
    scales = choose_weight_scales(weights)
    assert scales[0] == 1.0
    assert (scales[1:] == 2.0**-24).all()


@given(st.floats(0.01, 100), st.floats(1e-3, 1e3), st.integers(1, 9000), st.floats(1e-12, 10))
def test_bias_and_accumulator_fit_32_bits(share: float, input_scale: float, taps: int, magnitude: float) -> None:
    weights = np.full((1, taps), magnitude, np.float32)
    input_scale = float(np.float32(input_scale))
    bias = np.array([share * 2**31 * magnitude / 127 * input_scale], np.float32)  # share 1 alone fills an int32
    scale = choose_weight_scales(weights, bias=bias, input_scale=input_scale)
    quantized = np.rint(weights / scale).astype(np.int64)
    assert quantized.max() <= 127
    bias_steps = np.rint(float(bias[0]) / (input_scale * float(scale[0])))
    assert abs(bias_steps) + 255 * quantized.sum() + 255 * quantized.sum() <= 2**31 - 1


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        choose_weight_scales(np.array([[1.0, np.nan]], np.float32))


@given(ranges, st.booleans(), st.integers(2, 8))
def test_powers_of_two_are_the_least_that_cover_the_range(
    span: tuple[float, float], symmetric: bool, bits: int
) -> None:
    exact, _ = choose_qparams(*span, symmetric=symmetric, bits=bits)
    scale, zero_point = choose_qparams(*span, symmetric=symmetric, bits=bits, power_of_two=True)
    assert math.frexp(scale)[0] == 0.5
    assert 0 <= zero_point < 2**bits
    if exact not in (float(np.float32(0.1)), TINY) and exact < 2.0**127:
        assert scale / 2 < exact * (1 + 1e-6) and exact <= scale * (1 + 1e-6)


@pytest.mark.parametrize(
    ("span", "symmetric", "scale", "zero_point"),
    [
        ((0.0, 255.0), False, 1.0, 0),
        ((0.0, 255.5), False, 2.0, 0),
        ((-1.0, 254.0), False, 1.0, 1),
        ((-0.3, 1.5), False, 2.0**-7, 38),
        ((-300.0, 0.0), False, 2.0, 150),
        ((-1.0, 1.0), True, 2.0**-6, 128),
    ],
)
def test_known_powers_of_two(span: tuple[float, float], symmetric: bool, scale: float, zero_point: int) -> None:
    assert choose_qparams(*span, symmetric=symmetric, power_of_two=True) == (scale, zero_point)
