"""Interpolation along axes, as resizing does: weighted sums of elements at known places, float and integer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.quantization import LIMITS
from sqc.ops.shapes import normalize_axes, require_dtype


def _shape(types: Sequence[TensorType], attributes: Mapping[str, Any], dtype: str) -> tuple[int, ...]:
    """Behind ``x`` come, for each of ``axes``, places ``int32[extent, taps]`` and weights of the same shape."""
    x, *tables = types
    shape = list(x.shape)
    axes = normalize_axes(attributes["axes"], x.rank)
    if axes != attributes["axes"] or len(tables) != 2 * len(axes):
        raise ValueError("needs ascending axes, and places and weights for each of them")
    for axis, places, weights in zip(axes, tables[::2], tables[1::2], strict=True):
        require_dtype(places, "int32")
        require_dtype(weights, dtype)
        if places.rank != 2 or places.shape != weights.shape or not places.shape[1]:
            raise ValueError(f"places {places} and weights {weights} of axis {axis} must have equal shapes of rank 2")
        shape[axis] = places.shape[0]
    return tuple(shape)


def _infer_float(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    return TensorType(_shape(types, attributes, "float32"), "float32")


def _infer_integer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "uint8")
    return TensorType(_shape(types, attributes, "int32"), "int32")


def _interpolate(x: np.ndarray, axes: Sequence[int], tables: Sequence[np.ndarray]) -> np.ndarray:
    """One axis after the other, the taps of each summed in order. Places beyond the ends stand for the ends."""
    for axis, places, weights in zip(axes, tables[::2], tables[1::2], strict=True):
        taps = np.take(x, np.clip(places, 0, x.shape[axis] - 1), axis=axis)
        weighted = taps * weights.reshape(*weights.shape, *[1] * (x.ndim - axis - 1))
        x = np.take(weighted, 0, axis=axis + 1)
        for tap in range(1, weights.shape[1]):
            x = x + np.take(weighted, tap, axis=axis + 1)
    return np.ascontiguousarray(x)


def _float(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return _interpolate(arrays[0], op.integers("axes"), arrays[1:])


def _integer(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    centred = arrays[0].astype(np.int32) - op.operands[0].type.zero_point
    return _interpolate(centred, op.integers("axes"), arrays[1:])


def interpolation_weights(weights: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """Weights ``[extent, taps]`` of each axis as int32, and how many bits are behind the point in them.

    There are as few bits as make them exact, and no more than accumulators of 32 have room for. Those of a place sum up
    to 1 exactly where they did.
    """
    most = 22 // len(weights)
    while True:
        bits = [min(most, _exact_bits(array)) for array in weights]
        levels = [_fixed_point(array.astype(np.float64), count) for array, count in zip(weights, bits, strict=True)]
        if interpolation_reach(levels) <= LIMITS["int32"][1]:
            return [array.astype(np.int32) for array in levels], bits
        most -= 1


def interpolation_reach(weights: Sequence[np.ndarray]) -> int:
    """The largest magnitude that sums of eight-bit levels, less any zero point, come to with integer weights."""
    return 255 * math.prod(int(np.abs(array).sum(axis=1).max(initial=0)) for array in weights)


def _exact_bits(weights: np.ndarray) -> int:
    """How many bits behind the point float32 weights have: the least count that makes all of them integers."""
    mantissas, exponents = np.frexp(weights[weights != 0].astype(np.float64))
    digits = (mantissas * 2.0**53).astype(np.int64)
    trailing = np.log2((digits & -digits).astype(np.float64)).astype(int)
    return max(0, int((53 - trailing - exponents).max(initial=0)))


def _fixed_point(weights: np.ndarray, bits: int) -> np.ndarray:
    levels = np.rint(weights * 2.0**bits).astype(np.int64)
    error = np.rint(weights.sum(axis=1) * 2.0**bits).astype(np.int64) - levels.sum(axis=1)
    levels[np.arange(len(levels)), np.abs(levels).argmax(axis=1)] += error
    return levels


_ATTRIBUTES = {"axes": Required(tuple)}

define("interpolate", arity=(3, None), attributes=_ATTRIBUTES, infer=_infer_float, reference=_float)
define("qinterpolate", arity=(3, None), attributes=_ATTRIBUTES, infer=_infer_integer, reference=_integer)
