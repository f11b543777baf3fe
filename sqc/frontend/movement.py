"""Operators that move elements or leave them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx

from sqc.frontend.gather import take
from sqc.frontend.node import FLOATS, UNIT, Node, Tensor, Unsupported, as_float32
from sqc.frontend.table import handler
from sqc.ir import Value


@handler("Identity")
def identity(node: Node) -> Tensor:
    return node.tensor(0)


@handler("Cast", ignores=("saturate", "round_mode"))
def cast(node: Node) -> Tensor:
    x, target = node.value(0), onnx.helper.tensor_dtype_to_np_dtype(node.integer("to")).name
    if target == "bool":
        return node.result("sub", node.constant(np.float32(1)), node.step("equal", x, _zero(node, x)))
    if target not in FLOATS:
        if target == x.type.dtype or (x.type.dtype == "uint8" and target in ("int32", "int64")):
            return x  # a wider type holds the same integers
        raise Unsupported(f"it casts a computed tensor to {target}", "float types")
    if x.type.dtype == "float32":
        return x
    if x.type.dtype == "int32" and x.type.quantization is None:
        return node.result("dequantize", x, node.constant(np.array(1, np.float32)))
    if x.type.quantization != UNIT:
        raise Unsupported("it casts levels that have a scale", "DequantizeLinear")
    return node.result("dequantize", x)


def _zero(node: Node, x: Value) -> Value:
    return node.constant(np.zeros((), x.type.dtype), "zero")


@handler("CastLike", ignores=("saturate", "round_mode"))
def cast_like(node: Node) -> Tensor:
    x, like = node.tensor(0), node.tensor(1)
    target = like.type.dtype if isinstance(like, Value) else like.dtype.name
    source = x.type.dtype if isinstance(x, Value) else x.dtype.name
    if target not in FLOATS or source not in FLOATS:
        raise Unsupported(f"it casts {source} to {target}", "casts between float types")
    return x if isinstance(x, Value) else as_float32(x)


@handler("Flatten")
def flatten(node: Node) -> Value:
    x = node.value(0)
    axis = node.integer("axis")
    if not -x.type.rank <= axis <= x.type.rank:
        raise Unsupported(f"axis {axis} does not fit rank {x.type.rank}")
    axis += x.type.rank if axis < 0 else 0
    return node.result("reshape", x, shape=(math.prod(x.type.shape[:axis]), math.prod(x.type.shape[axis:])))


@handler("Reshape")
def reshape(node: Node) -> Value:
    x, shape = node.value(0), list(node.known_integers(1))
    if not node.integer("allowzero", 0):
        if any(extent == 0 and i >= x.type.rank for i, extent in enumerate(shape)):
            raise Unsupported(f"shape {shape} copies an extent that {x.type} does not have")
        shape = [x.type.shape[i] if extent == 0 else extent for i, extent in enumerate(shape)]
    if shape.count(-1) == 1:
        rest = math.prod(extent for extent in shape if extent != -1)
        if rest > 0 and x.type.size % rest == 0:
            shape[shape.index(-1)] = x.type.size // rest
    return node.result("reshape", x, shape=tuple(shape))


@handler("Squeeze")
def squeeze(node: Node) -> Tensor:
    x = node.value(0)
    axes = _optional_axes(node)
    if axes is None:
        axes = tuple(i for i, extent in enumerate(x.type.shape) if extent == 1)
    axes = node.axes(axes, x.type.rank)
    if any(x.type.shape[axis] != 1 for axis in axes):
        raise Unsupported(f"it squeezes axes {list(axes)} of {x.type}, which are not all of extent 1")
    if not axes:
        return x
    return node.result("reshape", x, shape=tuple(e for i, e in enumerate(x.type.shape) if i not in axes))


@handler("Unsqueeze")
def unsqueeze(node: Node) -> Value:
    x = node.value(0)
    axes = _optional_axes(node) or ()
    rank = x.type.rank + len(axes)
    rest = iter(x.type.shape)
    inserted = node.axes(axes, rank)
    return node.result("reshape", x, shape=tuple(1 if i in inserted else next(rest) for i in range(rank)))


def _optional_axes(node: Node) -> tuple[int, ...] | None:
    if node.version >= 13:
        return node.known_integers(1) if node.given(1) else None
    return None if node.attribute("axes") is None else node.integers("axes")


@handler("Transpose")
def transpose(node: Node) -> Value:
    x = node.value(0)
    return node.result("transpose", x, perm=node.integers("perm", tuple(reversed(range(x.type.rank)))))


@handler("Concat")
def concat(node: Node) -> Tensor:
    operands = [node.value(i) for i in range(len(node.inputs))]
    (axis,) = node.axes([node.integer("axis")], operands[0].type.rank)
    return node.result("concat", *operands, axis=axis) if len(operands) > 1 else operands[0]


_COPYING: Mapping[str, Literal["edge", "reflect", "wrap"]] = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
"""Modes of Pad that copy elements, as numpy has them too."""


@handler("Pad")
def pad(node: Node) -> Value:
    x, mode, value = node.value(0), node.string("mode"), 0.0
    rank = x.type.rank
    axes = tuple(range(rank))
    if node.version < 11:
        pads, value = node.integers("pads"), node.number("value")
    else:
        pads = node.known_integers(1)
        value = float(node.known(2).reshape(())) if node.given(2) else 0.0
        if node.given(3):
            axes = tuple(axis + rank if axis < 0 else axis for axis in node.known_integers(3))
    copies = _COPYING.get(mode)
    if copies is None and mode != "constant":
        raise Unsupported(f"mode is {mode!r}", f"constant, {', '.join(_COPYING)}")
    if any(number < 0 for number in pads):
        raise Unsupported(f"negative pads {list(pads)}", "a Slice")
    if len(pads) != 2 * len(axes) or sorted(node.axes(axes, rank)) != sorted(axes):
        raise Unsupported(f"pads {list(pads)} do not fit the axes {list(axes)} of rank {rank}")
    full = [0] * 2 * rank
    for i, axis in enumerate(axes):
        full[axis], full[rank + axis] = pads[i], pads[len(axes) + i]
    if copies is not None and any(full):
        pairs = {axis: (full[axis], full[rank + axis]) for axis in range(rank) if full[axis] or full[rank + axis]}
        return take(node, x, {axis: np.pad(np.arange(x.type.shape[axis]), pairs[axis], copies) for axis in pairs})
    return node.result("pad", x, pads=tuple(full), value=value)


@handler("Slice")
def slice_(node: Node) -> Tensor:
    x = node.value(0)
    if node.version < 10:
        starts, ends = node.integers("starts"), node.integers("ends")
        axes = node.integers("axes", tuple(range(len(starts))))
        steps: tuple[int, ...] = (1,) * len(starts)
    else:
        starts, ends = node.known_integers(1), node.known_integers(2)
        axes = node.known_integers(3) if node.given(3) else tuple(range(len(starts)))
        steps = node.known_integers(4) if node.given(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise Unsupported("starts, ends, axes and steps are not equally long")
    if 0 in steps:
        raise Unsupported("a step of 0", "another")
    node.axes(axes, x.type.rank)
    if any(step < 0 for step in steps):
        cuts = zip(axes, map(slice, starts, ends, steps), strict=True)
        return take(node, x, {axis % x.type.rank: np.arange(x.type.shape[axis])[cut] for axis, cut in cuts})
    parts: list[tuple[int, int, int, int]] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        extent = x.type.shape[axis]
        start, end, step = slice(start, end, step).indices(extent)
        if start >= end:
            raise Unsupported("its result is empty", "results with elements")
        # Whole axes are left out, so that the batch is not written into the attributes.
        if (start, end, step) != (0, extent, 1):
            parts.append((axis % x.type.rank, start, end, step))
    if not parts:
        return x
    axes, starts, ends, steps = zip(*sorted(parts), strict=True)
    return node.result("slice", x, axes=axes, starts=starts, ends=ends, steps=steps)


@handler("Split")
def split(node: Node) -> Tensor | tuple[Tensor, ...]:
    x = node.value(0)
    (axis,) = node.axes([node.integer("axis")], x.type.rank)
    count, extent = node.integer("num_outputs", node.output_count), x.type.shape[axis]
    if node.version >= 13:
        sizes = node.known_integers(1) if node.given(1) else None
    else:
        sizes = node.integers("split") if node.attribute("split") else None
    if sizes is None:
        chunk = -(-extent // count)
        sizes = tuple(min(chunk, extent - chunk * i) for i in range(count))
    if len(sizes) < node.output_count or sum(sizes) != extent or min(sizes) < 0:
        raise Unsupported(f"parts {list(sizes)} do not fit {node.output_count} outputs and an extent of {extent}")
    parts: list[Tensor] = []
    start = 0
    for i, size in enumerate(sizes[: node.output_count]):
        parts.append(x if size == extent else node.result("slice", x, output=i, **_span(axis, start, start + size)))
        start += size
    return tuple(parts)


def _span(axis: int, start: int, end: int) -> dict[str, Any]:
    """The attributes of a slice along one axis."""
    return {"axes": (axis,), "starts": (start,), "ends": (end,), "steps": (1,)}


@handler("Expand")
def expand(node: Node) -> Tensor:
    x, shape = node.value(0), node.known_integers(1)
    result = np.broadcast_shapes(x.type.shape, shape)
    if result == x.type.shape:
        return x
    if x.type.dtype != "float32":
        x = node.step("reshape", x, shape=(1,) * (len(result) - x.type.rank) + x.type.shape)
        for axis, (before, after) in enumerate(zip(x.type.shape, result, strict=True)):
            if before != after:
                x = node.step("gather", x, node.constant(np.zeros(after, np.int64)), axis=axis)
        return x
    return node.result("add", x, node.constant(np.zeros(result, np.float32)))


@handler("DepthToSpace")
def depth_to_space(node: Node) -> Value:
    x, size, mode = node.value(0), node.integer("blocksize"), node.string("mode", "DCR")
    batch, channels, height, width = _rank_4(x)
    if mode == "DCR":
        shape, perm = (batch, size, size, channels // size**2, height, width), (0, 3, 4, 1, 5, 2)
    else:
        shape, perm = (batch, channels // size**2, size, size, height, width), (0, 1, 4, 2, 5, 3)
    moved = node.step("transpose", node.step("reshape", x, shape=shape), perm=perm)
    return node.result("reshape", moved, shape=(batch, channels // size**2, height * size, width * size))


@handler("SpaceToDepth")
def space_to_depth(node: Node) -> Value:
    x, size, mode = node.value(0), node.integer("blocksize"), node.string("mode", "DCR")
    batch, channels, height, width = _rank_4(x)
    split = node.step("reshape", x, shape=(batch, channels, height // size, size, width // size, size))
    moved = node.step("transpose", split, perm=(0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return node.result("reshape", moved, shape=(batch, channels * size**2, height // size, width // size))


def _rank_4(x: Value) -> tuple[int, int, int, int]:
    if x.type.rank != 4:
        raise Unsupported(f"its operand has rank {x.type.rank}", "rank 4")
    batch, channels, height, width = x.type.shape
    return batch, channels, height, width
