"""How large sums can become: what decides how they may be rounded, clamped and multiplied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from sqc.ir import Value
from sqc.ops.quantization import LIMITS
from sqc.schedules.kernel import Pattern

Magnitude: TypeAlias = "float | np.ndarray"


def is_moderate(magnitudes: Sequence[Magnitude], multipliers: Sequence[np.ndarray | None]) -> bool:
    """Whether the sum of terms times their multipliers, as far as those are known, stays below 2**30.

    ``magnitudes`` are the largest of each term, zero point included: one number, or one for each channel.
    """
    bound = 0.0
    for magnitude, multiplier in zip(magnitudes, multipliers, strict=True):
        bound += math.inf if multiplier is None else float(np.max(np.abs(magnitude * multiplier.astype(np.float64))))
    return bound < 2**30


def largest(value: Value) -> float:
    """The largest magnitude that ``value`` minus its zero point can have."""
    least, most = LIMITS[value.type.dtype]
    return float(most - least)


def largest_sums(limits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The largest magnitudes of accumulators, of each channel, between their :func:`sum_limits`."""
    largest_of_each: np.ndarray = np.maximum(-limits[0], limits[1])
    return largest_of_each


def sum_limits(pattern: Pattern) -> tuple[np.ndarray, np.ndarray] | None:
    """The least and the largest accumulator of each channel, int64[O] both; None if weights or biases aren't known."""
    anchor = pattern.anchor
    if anchor.kind not in ("qconv2d", "qfully_connected"):
        return None
    w, bias = (pattern.constants.get(pattern.operand[value]) for value in anchor.operands[1:3])
    if w is None or bias is None:
        return None
    weights = w.reshape(len(w), -1)
    _, most = LIMITS["uint8"]
    lowest, highest = (end(weights, 0).sum(axis=1, dtype=np.int64) * most + bias for end in (np.minimum, np.maximum))
    return lowest, highest
