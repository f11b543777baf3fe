"""Results that an op rounds to levels by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Op

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Tensor


def level_limits(op: Op) -> np.ndarray:
    """``int32[3]``: the zero point of an op's result, and its least and largest level relative to that."""
    zero_point = op.integer("zero_point")
    return np.array([zero_point, op.integer("lo") - zero_point, op.integer("hi") - zero_point], np.int32)


def divisor(scale: float) -> list[float]:
    """A scale and its reciprocal in float32, or the scale alone where :func:`sqc.schedules.functions.quotient` might
    come out inexact."""
    return [scale, float(np.float32(1) / np.float32(scale))] if 2.0**-60 < scale < 2.0**60 else [scale]


def reciprocal_parts(scale: float, low: int, high: int) -> list[float]:
    """Two float32 whose sum is next to ``1 / scale``; none where numbers might get other levels by them.

    The level of ``x``, from ``low`` to ``high``, is that of ``x / scale``, and here of ``x * first + f32(x * second)``,
    rounded once. Both rise with ``x``, so they agree everywhere if they do on both sides of every tie.
    """
    if not 2.0**-60 < scale < 2.0**60:
        return []
    divisor, inverse = np.float32(scale), 1 / np.float64(scale)
    first = np.float32(inverse)
    second = np.float32(inverse - np.float64(first))
    ties = ((np.arange(low, high) + 0.5) * np.float64(scale)).astype(np.float32)
    near = (ties.view(np.int32) + np.arange(-4, 5, dtype=np.int32)[:, None]).view(np.float32)
    agree = np.rint(near / divisor) == np.rint(fused(near, first, near * second))
    return [float(first), float(second)] if agree.all() else []


def fused(x: np.ndarray, factor: np.float32, term: np.ndarray) -> np.ndarray:
    """``x * factor + term`` of float32, rounded once (Boldo, Melquiond: Emulation of FMA with rounding to odd)."""
    product, added = x.astype(np.float64) * np.float64(factor), term.astype(np.float64)
    total = product + added
    part = total - product
    rest = (product - (total - part)) + (added - part)
    even = total.view(np.int64) & 1 == 0
    total = np.where((rest != 0) & even, np.nextafter(total, np.copysign(np.inf, rest)), total)
    rounded: np.ndarray = total.astype(np.float32)
    return rounded


def to_levels(t: Expr, limits: Tensor) -> Expr:
    """``t`` rounded, clamped and shifted by what :func:`level_limits` packs; NaN gives the lowest level."""
    from sqc.schedules._tvm import te

    low, high = (limits(i).astype("float32") for i in (1, 2))
    return (te.min(te.max(te.round(t), low), high).astype("int32") + limits(0)).astype("uint8")
