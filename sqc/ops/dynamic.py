"""Quantization whose parameters are found at run time, for each row or for the whole tensor (sqc/NUMERICS.md).

A pair of float32 numbers, scale and zero point, describes a row ``x[..., :]``, several rows or a tensor; pairs have the
shape ``[2]``, or one that but for its last extent broadcasts to the rows. Levels are u8 without quantization
parameters in their type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, TensorType, define
from sqc.ops.quantization import clamp
from sqc.ops.shapes import broadcast, require_dtype


def _infer_parameters(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    (x,) = types
    require_dtype(x, "float32")
    if not x.size or not x.rank:
        raise ValueError("needs at least one axis, and elements")
    return TensorType((*x.shape[:-1], 2) if attributes["per_row"] else (2,), "float32")


def _parameters(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x = arrays[0] if op.attributes["per_row"] else arrays[0].reshape(-1)
    # A NaN counts for nothing, so that the order of the elements does not matter.
    low, high = np.fmin.reduce(x, axis=-1, initial=0.0), np.fmax.reduce(x, axis=-1, initial=0.0)
    with np.errstate(all="ignore"):
        scale = np.where(high == low, np.float32(1), high - low) / np.float32(255)
        zero_point = np.rint(clamp(np.float32(0) - low / scale, 0, 255))
    return np.stack([scale, zero_point], axis=-1).astype(np.float32)


def _check_pairs(shape: Sequence[int], pairs: TensorType) -> None:
    require_dtype(pairs, "float32")
    rows = tuple(shape[:-1])
    whole = pairs.shape == (2,) or (pairs.rank == len(shape) and broadcast(pairs.shape[:-1], rows) == rows)
    if not whole or pairs.shape[-1] != 2:
        raise ValueError(f"parameters of shape {list(pairs.shape)} fit neither the tensor nor its rows {list(shape)}")


def _infer_quantize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x, pairs = types
    require_dtype(x, "float32")
    _check_pairs(x.shape, pairs)
    return TensorType(x.shape, "uint8")


def _quantize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x, pairs = arrays
    scale, zero_point = pairs[..., :1], pairs[..., 1:]
    with np.errstate(all="ignore"):
        t = np.rint(x / scale) + zero_point
    return clamp(t, 0, 255).astype(np.uint8)


def _infer_center(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    acc, zero_point, sums = types
    require_dtype(acc, "int32")
    require_dtype(zero_point, "uint8")
    require_dtype(sums, "int32")
    if zero_point.size != 1 or zero_point.rank > acc.rank or broadcast(acc.shape, sums.shape) != acc.shape:
        raise ValueError(f"needs one zero point, and sums that broadcast to {list(acc.shape)}, not {sums}")
    return acc


def _center(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    acc, zero_point, sums = arrays
    return np.asarray(acc - zero_point.astype(np.int32) * sums, np.int32)


def _infer_dequantize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    acc, pairs, sums, scales, *bias = types
    require_dtype(acc, "int32")
    require_dtype(sums, "int32")
    _check_pairs(acc.shape, pairs)
    for type in (scales, *bias):
        require_dtype(type, "float32")
    if any(type.shape != acc.shape[-1:] for type in (sums, scales, *bias)):
        raise ValueError(f"sums, scales and bias must have shape {list(acc.shape[-1:])}")
    return TensorType(acc.shape, "float32")


def _dequantize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    acc, pairs, sums, scales, *bias = arrays
    scale, zero_point = pairs[..., :1], pairs[..., 1:].astype(np.int32)
    y = (acc - zero_point * sums).astype(np.float32) * (scale * scales)
    return np.asarray(y + bias[0] if bias else y, np.float32)


define(
    "dynamic_parameters",
    arity=1,
    attributes={"per_row": True},
    infer=_infer_parameters,
    reference=_parameters,
)
define("dynamic_quantize", arity=2, infer=_infer_quantize, reference=_quantize)
define("center", arity=3, infer=_infer_center, reference=_center)
"""Sums of products of levels less ``zero_point * sums``: the sums of the levels less their zero point."""
define("dynamic_dequantize", arity=(4, 5), infer=_infer_dequantize, reference=_dequantize)
