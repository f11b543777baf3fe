"""Pooling windows and reductions over axes, float and integer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.shapes import from_nhwc, normalize_axes, require_dtype, to_nhwc, windowed_shape, windows

_WINDOW = {
    "kernel": Required(tuple),
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "layout": Required(str),
}


def _infer_max_pool(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32", "uint8", "int8")
    return types[0].with_shape(windowed_shape(types[0], attributes["kernel"], attributes))


def _max_pool(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    layout = op.string("layout")
    lowest = -np.inf if arrays[0].dtype == np.float32 else np.iinfo(arrays[0].dtype).min
    gathered = windows(to_nhwc(arrays[0], layout), op.integers("kernel"), op.attributes, lowest)
    return from_nhwc(gathered.max(axis=(3, 4)), layout)


def _infer_average_pool(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    return types[0].with_shape(windowed_shape(types[0], attributes["kernel"], attributes))


def tap_counts(height: int, width: int, attributes: Mapping[str, Any]) -> np.ndarray:
    """How many taps of each window lie inside an image: int array ``[OH, OW]``."""
    inside = windows(np.ones((1, height, width, 1), np.int64), attributes["kernel"], attributes, 0)
    return np.asarray(inside.sum(axis=(3, 4))[0, :, :, 0])


def _average_pool(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    layout = op.string("layout")
    x = to_nhwc(arrays[0], layout)
    total = windows(x, op.integers("kernel"), op.attributes, 0.0).sum(axis=(3, 4), dtype=np.float32)
    if op.attributes["count_include_pad"]:
        kernel = op.integers("kernel")
        return from_nhwc(total / np.float32(kernel[0] * kernel[1]), layout)
    counts = tap_counts(x.shape[1], x.shape[2], op.attributes)
    return from_nhwc(total / counts[:, :, None].astype(np.float32), layout)


def _infer_sum_pool(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "uint8")
    return TensorType(windowed_shape(types[0], attributes["kernel"], attributes), "int32")


def _sum_pool(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    layout = op.string("layout")
    centred = to_nhwc(arrays[0], layout).astype(np.int32) - op.operands[0].type.zero_point
    total = windows(centred, op.integers("kernel"), op.attributes, 0).sum(axis=(3, 4), dtype=np.int32)
    return from_nhwc(total, layout)


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """The shape after a reduction. Raises ValueError for axes that don't fit."""
    normal = normalize_axes(axes, len(shape))
    if keepdims:
        return tuple(1 if i in normal else extent for i, extent in enumerate(shape))
    return tuple(extent for i, extent in enumerate(shape) if i not in normal)


def _infer_reduce_mean(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    return types[0].with_shape(reduced_shape(types[0].shape, attributes["axes"], attributes["keepdims"]))


def _reduce_mean(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(
        arrays[0].mean(axis=op.integers("axes"), keepdims=bool(op.attributes["keepdims"]), dtype=np.float32)
    )


def _infer_reduce_sum(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "uint8")
    return TensorType(reduced_shape(types[0].shape, attributes["axes"], attributes["keepdims"]), "int32")


def _reduce_sum(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    centred = arrays[0].astype(np.int32) - op.operands[0].type.zero_point
    return np.asarray(centred.sum(axis=op.integers("axes"), keepdims=bool(op.attributes["keepdims"]), dtype=np.int32))


_REDUCTION = {"axes": Required(tuple), "keepdims": True}

define("max_pool", arity=1, attributes=_WINDOW, infer=_infer_max_pool, reference=_max_pool)
define(
    "average_pool",
    arity=1,
    attributes={**_WINDOW, "count_include_pad": False},
    infer=_infer_average_pool,
    reference=_average_pool,
)
define("qsum_pool", arity=1, attributes=_WINDOW, infer=_infer_sum_pool, reference=_sum_pool)
define("reduce_mean", arity=1, attributes=_REDUCTION, infer=_infer_reduce_mean, reference=_reduce_mean)
define("qreduce_sum", arity=1, attributes=_REDUCTION, infer=_infer_reduce_sum, reference=_reduce_sum)
