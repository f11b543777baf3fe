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


def has_quotients(scale: float) -> bool:
    """Whether :func:`sqc.schedules.functions.quotient` divides exactly by a scale, whatever reasonable number it is."""
    return 2.0**-60 < scale < 2.0**60


def to_levels(t: Expr, limits: Tensor) -> Expr:
    """``t`` rounded, clamped and shifted by what :func:`level_limits` packs; NaN gives the lowest level."""
    from sqc.schedules._tvm import te

    low, high = (limits(i).astype("float32") for i in (1, 2))
    return (te.min(te.max(te.round(t), low), high).astype("int32") + limits(0)).astype("uint8")
