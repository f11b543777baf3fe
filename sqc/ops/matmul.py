"""Fully connected layers: ``x[M, K] @ w[N, K].T + bias[N]``, float and integer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, TensorType, define
from sqc.ops.shapes import require_dtype


def _shape(types: Sequence[TensorType]) -> tuple[int, int]:
    x, w = types[:2]
    if x.rank != 2 or w.rank != 2 or x.shape[1] != w.shape[1]:
        raise ValueError("needs x[M, K] and weights [N, K]")
    if len(types) == 3 and types[2].shape != (w.shape[0],):
        raise ValueError(f"the bias must have shape [{w.shape[0]}], not {list(types[2].shape)}")
    return (x.shape[0], w.shape[0])


def _infer_float(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    return TensorType(_shape(types), "float32")


def _infer_integer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type, dtype in zip(types, ("uint8", "int8", "int32"), strict=True):
        require_dtype(type, dtype)
    return TensorType(_shape(types), "int32")


def _float(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    y = np.matmul(arrays[0], arrays[1].T, dtype=np.float32)
    return np.asarray(y + arrays[2] if len(arrays) == 3 else y)


def _integer(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x, w, bias = arrays
    total = np.matmul(x.astype(np.float64), w.T.astype(np.float64)) + bias
    return np.asarray(total.astype(np.int64).astype(np.int32))


define("fully_connected", arity=(2, 3), infer=_infer_float, reference=_float)
define("qfully_connected", arity=3, infer=_infer_integer, reference=_integer)
