"""Two-dimensional convolution, float and integer. Weights are OIHW in either layout of the activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.shapes import channel_axis, from_nhwc, require_dtype, to_nhwc, windowed_shape, windows

_ATTRIBUTES = {
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
    "groups": 1,
    "layout": Required(str),
}


def _shape(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> tuple[int, ...]:
    x, w = types[:2]
    if w.rank != 4:
        raise ValueError(f"weights must be OIHW, not {w}")
    groups, outputs = attributes["groups"], w.shape[0]
    shape = windowed_shape(x, w.shape[2:], attributes, outputs)
    channels = x.shape[channel_axis(attributes["layout"])]
    if groups < 1 or channels != w.shape[1] * groups or outputs % groups:
        raise ValueError(f"{channels} input channels and weights {list(w.shape)} do not fit {groups} groups")
    if len(types) == 3 and types[2].shape != (outputs,):
        raise ValueError(f"the bias must have shape [{outputs}], not {list(types[2].shape)}")
    return shape


def _infer_float(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    return TensorType(_shape(types, attributes), "float32")


def _infer_integer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type, dtype in zip(types, ("uint8", "int8", "int32"), strict=True):
        require_dtype(type, dtype)
    return TensorType(_shape(types, attributes), "int32")


def convolve(x: np.ndarray, w: np.ndarray, attributes: Mapping[str, Any], padding: float) -> np.ndarray:
    """Grouped convolution of an NHWC array as one matrix product a group, in the arrays' own element type."""
    groups = attributes["groups"]
    outputs, depth, *kernel = w.shape
    gathered = windows(x, kernel, attributes, padding)
    n, oh, ow = gathered.shape[:3]
    split = gathered.reshape(n, oh, ow, *kernel, groups, depth)
    columns = np.moveaxis(split, 5, 0).reshape(groups, n * oh * ow, -1)
    matrices = w.reshape(groups, outputs // groups, depth, *kernel).transpose(0, 3, 4, 2, 1)
    product = np.matmul(columns, matrices.reshape(groups, -1, outputs // groups))
    return np.asarray(np.moveaxis(product, 0, 1).reshape(n, oh, ow, outputs))


def _float(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    layout = op.string("layout")
    y = convolve(to_nhwc(arrays[0], layout), arrays[1], op.attributes, 0.0)
    if len(arrays) == 3:
        y = y + arrays[2]
    return from_nhwc(y, layout)


def _integer(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    # Products and sums of eight-bit integers stay far below 2**53, so float64 is exact, and uses BLAS.
    layout = op.string("layout")
    x, w, bias = arrays
    padding = op.operands[0].type.zero_point
    y = convolve(to_nhwc(x, layout).astype(np.float64), w.astype(np.float64), op.attributes, padding)
    return from_nhwc((y + bias).astype(np.int64).astype(np.int32), layout)


define("conv2d", arity=(2, 3), attributes=_ATTRIBUTES, infer=_infer_float, reference=_float)
define("qconv2d", arity=3, attributes=_ATTRIBUTES, infer=_infer_integer, reference=_integer)
