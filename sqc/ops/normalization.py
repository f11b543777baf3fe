"""Normalization over data or by given statistics, and softmax: float and integer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.quantization import ROUNDED, clamp, quantized_type
from sqc.ops.shapes import broadcast, normalize_axes, require_dtype

LARGEST_GROUP = 2**23
"""So many levels can be normalized together, at most: then all sums fit 64 bits and all deviations 32."""


def _infer_batch_norm(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x, *parameters = types
    channels = x.shape[attributes["axis"]]
    for type in types:
        require_dtype(type, "float32")
    if any(type.shape != (channels,) for type in parameters):
        raise ValueError(f"gamma, beta, mean and variance must have shape [{channels}]")
    return x


def _batch_norm(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x, *parameters = arrays
    shape = [1] * x.ndim
    shape[op.integer("axis")] = -1
    gamma, beta, mean, variance = (array.reshape(shape) for array in parameters)
    normal = (x - mean) / np.sqrt(variance + np.float32(op.number("epsilon")))
    return np.asarray(gamma * normal + beta, dtype=np.float32)


def _check_normalize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> None:
    x, *parameters = types
    normalize_axes(attributes["axes"], x.rank)
    for type in parameters:
        require_dtype(type, "float32")
        if broadcast(x.shape, type.shape) != x.shape:
            raise ValueError(f"gamma and beta must broadcast to {list(x.shape)}, not have shape {list(type.shape)}")


def _infer_normalize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    _check_normalize(types, attributes)
    return types[0]


def _normalize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x, gamma, beta = arrays
    axes = op.integers("axes")
    centred = x - x.mean(axis=axes, keepdims=True, dtype=np.float32)
    variance = np.square(centred).mean(axis=axes, keepdims=True, dtype=np.float32)
    normal = centred / np.sqrt(variance + np.float32(op.number("epsilon")))
    return np.asarray(gamma * normal + beta, dtype=np.float32)


def _infer_qnormalize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x = types[0]
    require_dtype(x, "uint8")
    _check_normalize(types, attributes)
    size = math.prod(x.shape[axis] for axis in normalize_axes(attributes["axes"], x.rank))
    if size > LARGEST_GROUP:
        raise ValueError(f"normalizes {size} elements together; at most {LARGEST_GROUP} are supported")
    if not attributes["epsilon"] > 0:
        raise ValueError("epsilon must be positive")
    return quantized_type(x.shape, "uint8", attributes)


def _qnormalize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """In levels, times the size of the group: sqc/NUMERICS.md."""
    x, gamma, beta = arrays
    axes = normalize_axes(op.integers("axes"), x.ndim)
    size = math.prod(x.shape[axis] for axis in axes)
    levels = x.astype(np.int64)
    total = levels.sum(axis=axes, keepdims=True)
    spread = size * (levels * levels).sum(axis=axes, keepdims=True) - total * total
    inverse = np.float32(1.0) / np.sqrt(spread.astype(np.float32) + np.float32(op.number("epsilon")))
    deviation = (size * levels - total).astype(np.int32).astype(np.float32)
    return _to_levels(op, deviation * inverse * gamma + beta)


def _to_levels(op: Op, t: np.ndarray) -> np.ndarray:
    zero_point = op.integer("zero_point")
    return (
        clamp(np.rint(t), op.integer("lo") - zero_point, op.integer("hi") - zero_point).astype(np.int32) + zero_point
    ).astype(np.uint8)


def _check_axis(x: TensorType, attributes: Mapping[str, Any]) -> None:
    if not -x.rank <= attributes["axis"] < x.rank:
        raise ValueError(f"axis {attributes['axis']} does not fit {x}")


def _infer_softmax(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    _check_axis(types[0], attributes)
    return types[0]


def _softmax(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    axis = op.integer("axis")
    exponentials = np.exp(arrays[0] - arrays[0].max(axis=axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=axis, keepdims=True), dtype=np.float32)


def _infer_qsoftmax(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x, table = types
    require_dtype(x, "uint8")
    require_dtype(table, "int32")
    _check_axis(x, attributes)
    if table.shape != (256,):
        raise ValueError(f"the table must have 256 entries, not shape {list(table.shape)}")
    return quantized_type(x.shape, "uint8", attributes)


def _qsoftmax(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """``table`` holds the exponential of each distance from the largest level of a row: sqc/NUMERICS.md."""
    x, table = arrays
    axis = op.integer("axis")
    exponentials = table[x.max(axis=axis, keepdims=True) - x]
    total = exponentials.sum(axis=axis, keepdims=True, dtype=np.int64).astype(np.float32)
    return _to_levels(op, exponentials.astype(np.float32) / total / np.float32(op.number("scale")))


define(
    "batch_norm",
    arity=5,
    attributes={"epsilon": 1e-5, "axis": Required(int)},
    infer=_infer_batch_norm,
    reference=_batch_norm,
)
define(
    "normalize",
    arity=3,
    attributes={"axes": Required(tuple), "epsilon": 1e-5},
    infer=_infer_normalize,
    reference=_normalize,
)
define(
    "qnormalize",
    arity=3,
    attributes={"axes": Required(tuple), "epsilon": Required(float), **ROUNDED},
    infer=_infer_qnormalize,
    reference=_qnormalize,
)
define("softmax", arity=1, attributes={"axis": -1}, infer=_infer_softmax, reference=_softmax)
define(
    "qsoftmax",
    arity=2,
    attributes={"axis": -1, **ROUNDED},
    infer=_infer_qsoftmax,
    reference=_qsoftmax,
)
