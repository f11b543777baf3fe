"""Gather: slices of a tensor at indices along one axis, known or computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.shapes import normalize_axes, require_dtype


def _infer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x, indices = types
    require_dtype(indices, "int32", "int64")
    (axis,) = normalize_axes([attributes["axis"]], x.rank)
    if x.quantization is not None and x.quantization.axis is not None:
        raise ValueError(f"cannot gather from {x}, which is quantized along an axis")
    if not x.shape[axis]:
        raise ValueError(f"cannot gather from {x}, whose axis {axis} is empty")
    return x.with_shape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def _gather(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Negative indices count from the end. Those beyond either end read the first or the last slice."""
    x, indices = arrays
    axis = op.integer("axis") % x.ndim
    extent = x.shape[axis]
    places = np.clip(np.where(indices < 0, indices + extent, indices), 0, extent - 1)
    return np.ascontiguousarray(np.take(x, places, axis=axis))


define("gather", arity=2, attributes={"axis": Required(int)}, infer=_infer, reference=_gather)
