"""Operators that only move elements: they keep values, element type and quantization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Required, TensorType, define
from sqc.ops.shapes import normalize_axes

TILE = 16
"""Rows and columns of the tiles by which bytes are transposed; a power of two below it if an axis is no longer."""


def turned_axes(ops: Sequence[Op]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The axes, as few as possible, of a chain that gives bytes side by side places far from each other: shape, order.

    None if the chain does something else, is too small for a tile, or has more than an axis between a tile's two, or
    any where one of these is shorter than a tile.
    """
    axes = moved_axes(ops)
    if not axes or ops[-1].result.type.dtype not in ("uint8", "int8"):
        return None
    shape, perm = ordered(axes)
    last = len(perm) - 1
    gap, gap_behind, rows, columns = last - perm[-1], last - perm.index(last), axes[-1][0], shape[-1]
    tiled = rows >= TILE or (rows in (2, 4, 8) and gap_behind == 1)
    tiled &= columns >= TILE or (columns in (2, 4, 8) and gap == 1)
    if gap == 0 or max(gap, gap_behind) > 2 or max(rows, columns) < TILE or not tiled:
        return None
    return shape, perm


def ordered(axes: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape that such axes have in their operand, and their order in it."""
    source = sorted(axes, key=lambda axis: -axis[1])
    return tuple(extent for extent, _ in source), tuple(map(source.index, axes))


def moved_axes(ops: Sequence[Op]) -> list[tuple[int, int]] | None:
    """The axes of what a chain of transposes and reshapes gives, merged: extents, and distances in its operand.

    None if it holds other ops, or a reshape that does not keep to whole parts of axes.
    """
    shape = ops[0].operands[0].type.shape
    axes = [[(extent, math.prod(shape[axis + 1 :]))] for axis, extent in enumerate(shape)]
    for op in ops:
        if op.kind == "transpose":
            axes = [axes[axis] for axis in op.integers("perm")]
        elif op.kind == "reshape":
            split = _split([part for axis in axes for part in axis], op.result.type.shape)
            if split is None:
                return None
            axes = split
        else:
            return None
    merged: list[tuple[int, int]] = []
    for extent, stride in (part for axis in axes for part in axis if part[0] > 1):
        if merged and merged[-1][1] == extent * stride:
            merged[-1] = merged[-1][0] * extent, stride
        else:
            merged.append((extent, stride))
    return merged


def _split(parts: list[tuple[int, int]], shape: Sequence[int]) -> list[list[tuple[int, int]]] | None:
    """The parts of each axis of ``shape``, which reshapes them; None if an axis ends within what cannot be divided."""
    left = [part for part in parts if part[0] > 1]
    result = []
    for wanted in shape:
        axis = []
        while wanted > 1:
            extent, stride = left.pop(0)
            taken = math.gcd(extent, wanted)
            if taken not in (extent, wanted):
                return None
            if taken < extent:
                left.insert(0, (extent // taken, stride))
            axis.append((taken, stride * (extent // taken)))
            wanted //= taken
        result.append(axis)
    return result


def _infer_reshape(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    (x,) = types
    shape = list(attributes["shape"])
    if shape.count(-1) > 1 or any(extent < -1 for extent in shape):
        raise ValueError(f"shape {shape} may hold one -1 and no other negative number")
    if -1 in shape:
        rest = math.prod(extent for extent in shape if extent != -1)
        if rest == 0 or x.size % rest:
            raise ValueError(f"{x.size} elements do not fit shape {shape}")
        shape[shape.index(-1)] = x.size // rest
    if math.prod(shape) != x.size:
        raise ValueError(f"{x.size} elements do not fit shape {shape}")
    return _moved(x, shape)


def _infer_transpose(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    (x,) = types
    perm = attributes["perm"]
    if sorted(perm) != list(range(x.rank)):
        raise ValueError(f"perm {list(perm)} is no permutation of {x.rank} axes")
    return _moved(x, [x.shape[axis] for axis in perm])


def _slices(shape: Sequence[int], attributes: Mapping[str, Any]) -> tuple[slice, ...]:
    slices = [slice(None)] * len(shape)
    fields = (attributes["axes"], attributes["starts"], attributes["ends"], attributes["steps"])
    if len({len(field) for field in fields}) != 1:
        raise ValueError("axes, starts, ends and steps must be equally long")
    for axis, start, end, step in zip(*fields, strict=True):
        if step < 1 or start < 0 or end < start:
            raise ValueError("starts and ends must be counted from the front, steps be positive")
        slices[axis] = slice(start, end, step)
    return tuple(slices)


def _infer_slice(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    (x,) = types
    slices = _slices(x.shape, attributes)
    return _moved(x, [len(range(extent)[part]) for extent, part in zip(x.shape, slices, strict=True)])


def _infer_pad(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    (x,) = types
    pads = attributes["pads"]
    if len(pads) != 2 * x.rank or any(pad < 0 for pad in pads):
        raise ValueError(f"pads {list(pads)} must give a number before and after each of {x.rank} axes")
    if x.dtype == "uint8" and not (0 <= attributes["value"] <= 255 and attributes["value"] == int(attributes["value"])):
        raise ValueError(f"the padding value {attributes['value']} is no uint8 number")
    return _moved(x, [pads[i] + extent + pads[x.rank + i] for i, extent in enumerate(x.shape)])


def _pad(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    pads = op.integers("pads")
    rank = arrays[0].ndim
    widths = [(pads[i], pads[rank + i]) for i in range(rank)]
    return np.pad(arrays[0], widths, constant_values=op.number("value"))


def _infer_concat(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    first = types[0]
    (axis,) = normalize_axes([attributes["axis"]], first.rank)
    for type in types[1:]:
        same = type.rank == first.rank and all(
            a == b for i, (a, b) in enumerate(zip(type.shape, first.shape, strict=True)) if i != axis
        )
        if not same or (type.dtype, type.quantization) != (first.dtype, first.quantization):
            raise ValueError(f"operands differ in more than the extent of axis {axis}")
    shape = list(first.shape)
    shape[axis] = sum(type.shape[axis] for type in types)
    return first.with_shape(shape)


def _moved(x: TensorType, shape: Sequence[int]) -> TensorType:
    if x.quantization is not None and x.quantization.axis is not None:
        raise ValueError(f"cannot move {x}, which is quantized along an axis")
    return x.with_shape(shape)


define(
    "reshape",
    arity=1,
    attributes={"shape": Required(tuple)},
    infer=_infer_reshape,
    reference=lambda op, arrays: arrays[0].reshape(op.result.type.shape),
)
define(
    "transpose",
    arity=1,
    attributes={"perm": Required(tuple)},
    infer=_infer_transpose,
    reference=lambda op, arrays: np.ascontiguousarray(arrays[0].transpose(op.integers("perm"))),
)
define(
    "slice",
    arity=1,
    attributes={
        "axes": Required(tuple),
        "starts": Required(tuple),
        "ends": Required(tuple),
        "steps": Required(tuple),
    },
    infer=_infer_slice,
    reference=lambda op, arrays: np.ascontiguousarray(arrays[0][_slices(arrays[0].shape, op.attributes)]),
)
define(
    "pad",
    arity=1,
    attributes={"pads": Required(tuple), "value": 0.0},
    infer=_infer_pad,
    reference=_pad,
)
define(
    "concat",
    arity=(1, None),
    attributes={"axis": Required(int)},
    infer=_infer_concat,
    reference=lambda op, arrays: np.concatenate(arrays, axis=op.integer("axis")),
)
define("copy", arity=1, infer=lambda types, attributes: types[0], reference=lambda op, arrays: arrays[0].copy())
