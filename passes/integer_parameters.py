"""The numbers inside integer ops, derived in float64: multipliers, folded biases, clamps, tables (sqc/NUMERICS.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, TensorType
from sqc.ops.pooling import tap_counts

Function: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A function of one number, applied to a float64 array."""

_LARGEST = 2**31 - 1
_NORMAL = np.finfo(np.float32)


def multiplier(scale: np.ndarray | float, result_scale: float = 1.0) -> np.ndarray:
    """``scale / result_scale``, of either sign, as float32, kept finite and normal.

    What lies outside the normal numbers saturates or vanishes in any case: accumulators are whole and below 2**31.
    """
    exact = np.asarray(scale, np.float64) / np.float64(result_scale)
    magnitude = np.clip(np.abs(exact), float(_NORMAL.tiny), float(_NORMAL.max))
    return np.asarray(np.copysign(magnitude, exact).astype(np.float32))


def slope_multiplier(slope: np.ndarray, x: TensorType, result_scale: float) -> np.ndarray:
    """The multipliers of levels of ``x`` for a slope, float32."""
    return multiplier(slope.astype(np.float64) * x.scale, result_scale)


def slope_of(factor: np.ndarray, x: TensorType, result_scale: float) -> np.ndarray | None:
    """The float32 slope whose :func:`slope_multiplier` is ``factor``; None if there is none."""
    slope = (factor.astype(np.float64) * result_scale / x.scale).astype(np.float32)
    for candidate in (np.nextafter(slope, np.float32(-np.inf)), np.nextafter(slope, np.float32(np.inf))):
        exact = slope_multiplier(slope, x, result_scale) == factor
        slope = np.where(exact, slope, candidate)
    return slope if (slope_multiplier(slope, x, result_scale) == factor).all() else None


def offset_levels(offset: np.ndarray) -> tuple[np.ndarray, float]:
    """A constant term of a sum as int32 levels, and what one of them is worth: a power of two.

    The largest of them is about 2**20, so that levels times a multiplier are as exact as float32 is.
    """
    _, exponent = np.frexp(np.float64(np.abs(offset).max(initial=0.0)))
    unit = float(np.ldexp(1.0, int(exponent) - 20))
    return np.rint(offset.astype(np.float64) / unit).astype(np.int32), unit


def level(value: float, scale: float, zero_point: int) -> int:
    """The uint8 level of a real number, infinities included."""
    return int(np.clip(np.rint(np.float64(value) / np.float64(scale)) + zero_point, 0, 255))


def fold_bias(
    op: Op,
    x: TensorType,
    weights: np.ndarray,
    scales: np.ndarray,
    bias: np.ndarray,
    stored: np.ndarray | None = None,
) -> np.ndarray:
    """The int32 bias of an integer convolution or fully connected layer, with the input's zero point folded in.

    ``weights`` are int8 with output channels first, ``scales`` float64, one a channel; ``bias`` is in real numbers,
    ``stored`` the same in units of the accumulators where a model has it so.
    Raises CompileError, naming op and channel, where an accumulator could leave 32 bits.
    """
    rows = weights.reshape(weights.shape[0], -1).astype(np.int64)
    with np.errstate(over="ignore"):
        levels = np.rint(bias.astype(np.float64) / (x.scale * scales)) if stored is None else stored.astype(np.float64)
    if not np.isfinite(levels).all() or (np.abs(levels) > 2.0**62).any():
        channel = int(np.argmax(~(np.abs(levels) <= 2.0**62)))
        raise CompileError(_overflow(op, channel, float(levels[channel])))
    folded, reach = _folded(x, rows, levels)
    if (reach > _LARGEST).any():
        channel = int(np.argmax(reach > _LARGEST))
        raise CompileError(_overflow(op, channel, float(reach[channel])))
    return np.asarray(folded.astype(np.int32))


def halvings(x: TensorType, weights: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """How often each channel of a stored layer must be halved, weights and bias, until its accumulators fit 32 bits.

    int64, one a channel: zero but for near-zero weights whose bias fills 32 bits by itself. Operands as of
    :func:`fold_bias`.
    """
    rows = weights.reshape(weights.shape[0], -1).astype(np.float64)
    counts = np.zeros(len(rows), np.int64)
    for count in range(1, 32):
        _, reach = _folded(x, halved(rows, counts).astype(np.int64), halved(stored, counts))
        counts[reach > _LARGEST] = count
    return counts


def halved(levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Levels, channels first, each channel halved as often as ``counts`` says: rounded once, ties to even."""
    return np.asarray(np.rint(levels / np.exp2(counts).reshape(-1, *[1] * (levels.ndim - 1))))


def _folded(x: TensorType, rows: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bias with the input's zero point folded in, and what an accumulator may reach: int64, one a channel."""
    folded = levels.astype(np.int64) - x.zero_point * rows.sum(axis=1)
    return folded, np.abs(folded) + 255 * np.abs(rows).sum(axis=1)


def check_products(op: Op, weights: np.ndarray) -> None:
    """Raise CompileError, naming op and channel, if sums of any levels times ``weights[N, K]`` could leave 32 bits."""
    # Twice: levels times weights, and the zero point times them.
    reach = 510 * np.abs(weights.astype(np.int64)).sum(axis=1)
    if (reach > _LARGEST).any():
        channel = int(np.argmax(reach))
        raise CompileError(_overflow(op, channel, float(reach[channel])))


def check_sum(op: Op, taps: int) -> None:
    """Raise CompileError if the sum of ``taps`` centred uint8 numbers could leave 32 bits."""
    if 255 * taps > _LARGEST:
        raise CompileError(f"{op.label()} sums {taps} elements, too many for 32-bit accumulators; exclude it")


def counted_taps(op: Op, x: TensorType, include_pad: bool) -> np.ndarray:
    """How many taps each window of a pool counts: one number where all are alike, else to broadcast over channels."""
    if include_pad:
        return np.array(math.prod(op.integers("kernel")))
    channels_first = op.string("layout") == "NCHW"
    height, width = x.shape[2:] if channels_first else x.shape[1:3]
    counts = np.maximum(tap_counts(height, width, op.attributes), 1)
    if (counts == counts.flat[0]).all():
        return np.array(counts.flat[0])
    return counts if channels_first else np.asarray(counts[:, :, None])


def table(functions: Sequence[Function], x: TensorType, scale: float, zero_point: int) -> np.ndarray:
    """``uint8[256]``: ``functions`` one after another, from the levels of ``x`` to those of scale and zero point."""
    y = (np.arange(256) - x.zero_point) * np.float64(x.scale)
    with np.errstate(all="ignore"):
        for function in functions:
            y = function(y)
        t = np.rint(y / np.float64(scale)) + zero_point
    return np.where(t > 0, np.minimum(t, 255), 0).astype(np.uint8)


def exponentials(x: TensorType) -> np.ndarray:
    """``int32[256]``: the exponential of each number of levels below the largest, times 2**23."""
    return np.asarray(np.rint(2.0**23 * np.exp(-np.float64(x.scale) * np.arange(256))), np.int32)


def in_steps(array: np.ndarray, scale: float) -> np.ndarray:
    """Real numbers in steps of a result, as finite float32."""
    return np.asarray(np.clip(array.astype(np.float64) / scale, -float(_NORMAL.max), float(_NORMAL.max)), np.float32)


def _overflow(op: Op, channel: int, reach: float) -> str:
    return (
        f"{op.label()}: accumulators of output channel {channel} could reach {reach:.4g}, beyond 32 bits; "
        "exclude the layer, or give its input a larger range"
    )
