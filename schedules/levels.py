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


def to_levels(t: Expr, limits: Tensor) -> Expr:
    """``t`` rounded, clamped and shifted by what :func:`level_limits` packs; NaN gives the lowest level."""
    from sqc.schedules._tvm import te

    low, high = (limits(i).astype("float32") for i in (1, 2))
    return (te.min(te.max(te.round(t), low), high).astype("int32") + limits(0)).astype("uint8")
