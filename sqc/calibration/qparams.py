"""From a range of real numbers to a scale and a zero point: `real = scale * (q - zero_point)`.

Zero is exactly representable under all parameters chosen here, and scales are positive, normal float32 values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqc.errors import CalibrationError

# Of a range without extent any scale serves; this one keeps multipliers derived from it far from over- and underflow.
DEGENERATE_SCALE = float(np.float32(0.1))
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_INT32_MAX = 2**31 - 1
# A channel weaker than the strongest one by more than float32's own precision cannot be told from zero beside it.
_WEAKEST_CHANNEL = 2.0**-24


def choose_qparams(
    minimum: float, maximum: float, dtype: str = "uint8", symmetric: bool = False, bits: int = 8
) -> tuple[float, int]:
    """Scale (exactly a float32) and zero point of a tensor with values in [minimum, maximum].

    The range is widened to hold zero. `symmetric` puts zero at the middle level and leaves both signs the same step;
    data of one sign keep all levels of uint8, since zero then sits at their end. `bits` (2 to 8) narrows the levels:
    0 .. 2**bits - 1 for uint8, -2**(bits - 1) .. 2**(bits - 1) - 1 for int8.

    Raises CalibrationError for a range that is empty or not finite, or for unknown `dtype` or `bits`.
    """
    if not (-_LARGEST <= minimum <= maximum <= _LARGEST):
        raise CalibrationError(
            f"[{minimum}, {maximum}] is no range to quantize; it must be finite in float32 and not empty"
        )
    check_bits(bits)
    if dtype not in ("uint8", "int8"):
        raise CalibrationError(f"cannot quantize to '{dtype}'; choose uint8 or int8")
    if dtype == "int8" and symmetric:
        # A signed type has zero at its middle whatever the signs of the data.
        minimum, maximum = symmetric_range(minimum, maximum, bits)
    scale, zero_point = affine_parameters(np.float64(minimum), np.float64(maximum), bits, symmetric)
    if dtype == "uint8":
        return float(scale), int(zero_point)
    return float(scale), 0 if symmetric else int(zero_point) - 2 ** (bits - 1)


def affine_parameters(
    low: NDArray[np.float64] | np.float64, high: NDArray[np.float64] | np.float64, bits: int, symmetric: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`choose_qparams` of many ranges at once, for unsigned levels: scales (float32 values) and zero points.

    The zero point is rounded (ties to even) from the exact range, not from the rounded scale, so that scaling a range
    by a power of two never moves it.
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    steps, half = 2**bits - 1, 2 ** (bits - 1)
    span = high - low
    centred = symmetric & (low < 0) & (high > 0)
    exact = np.where(centred, np.maximum(-low / half, high / (half - 1)), span / steps)
    with np.errstate(under="ignore"):
        rounded = exact.astype(np.float32).astype(np.float64)
    degenerate = rounded < _SMALLEST_NORMAL
    scale = np.where(degenerate, DEGENERATE_SCALE, rounded)
    position = np.rint(-low * steps / np.where(degenerate, np.inf, span))
    return scale, np.where(centred, half, position).astype(np.int64)


def symmetric_range(minimum: float, maximum: float, bits: int = 8) -> tuple[float, float]:
    """The smallest range around [minimum, maximum] with zero at the middle level; empty if both are zero."""
    half = 2 ** (bits - 1)
    step = max(-minimum / half, maximum / (half - 1), 0.0)
    return -half * step, (half - 1) * step


def choose_weight_scales(
    weights: NDArray[np.float32],
    axis: int | None = 0,
    bits: int = 8,
    bias: NDArray[np.float32] | None = None,
    input_scale: float | None = None,
) -> NDArray[np.float32]:
    """Symmetric scales of weights: `max|w| / (2**(bits - 1) - 1)` for each index of `axis`, or one (`axis=None`).

    Channels of zeros, or nearly so, get a scale that is safe to divide and multiply by. With `bias` (one value a
    channel) and `input_scale`, a scale is also raised until the folded bias and the accumulator fit 32 bits, as far
    as a scale can do that: `|b_q| + 510 * sum|w_q| <= 2**31 - 1`.

    Returns float32, one value a channel. Raises CalibrationError for weights that are not finite.
    """
    check_bits(bits)
    if not np.isfinite(weights).all():
        raise CalibrationError("weights hold NaN or infinite values; mend the model before quantizing it")
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    magnitudes = np.abs(rows.astype(np.float64))
    largest = magnitudes.max(axis=1, initial=0.0)
    scales = largest / (2 ** (bits - 1) - 1)
    scales = np.maximum(scales, scales.max(initial=0.0) * _WEAKEST_CHANNEL)
    scales = np.where(scales < _SMALLEST_NORMAL, DEGENERATE_SCALE, scales.astype(np.float32))
    if bias is not None and input_scale is not None:
        # 255 * sum|w_q| bounds the products, and again the zero point's share of the folded bias.
        products = 510 * np.rint(magnitudes / scales[:, None]).sum(axis=1)
        room = np.maximum(_INT32_MAX - 1 - products, 2.0**24)
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (input_scale * room) * (1 + 2.0**-20))
    return np.asarray(scales, np.float32)


def check_bits(bits: int) -> None:
    """Raises CalibrationError unless 2 <= bits <= 8."""
    if not 2 <= bits <= 8:
        raise CalibrationError(f"cannot quantize to {bits} bits; choose 2 to 8")
