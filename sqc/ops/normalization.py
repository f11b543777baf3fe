"""Batch normalization (inference) and softmax, in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.shapes import require_dtype


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


def _infer_softmax(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    if not -types[0].rank <= attributes["axis"] < types[0].rank:
        raise ValueError(f"axis {attributes['axis']} does not fit {types[0]}")
    return types[0]


def _softmax(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    axis = op.integer("axis")
    exponentials = np.exp(arrays[0] - arrays[0].max(axis=axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=axis, keepdims=True), dtype=np.float32)


define(
    "batch_norm",
    arity=5,
    attributes={"epsilon": 1e-5, "axis": Required(int)},
    infer=_infer_batch_norm,
    reference=_batch_norm,
)
define("softmax", arity=1, attributes={"axis": -1}, infer=_infer_softmax, reference=_softmax)
