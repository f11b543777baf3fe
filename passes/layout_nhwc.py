"""Images with their channels last, in which the integer kernels work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from sqc.ir import Graph, Op, Value
from sqc.ops.elementwise import BINARY, COMPARISONS, UNARY
from sqc.ops.products import permutation
from sqc.ops.shapes import normalize_axes
from sqc.passes.axis_order import (
    Permutation,
    channels_last,
    held_shape,
    identity,
    inverse,
    long_axes,
    plan_reshape,
)
from sqc.passes.base import Notes
from sqc.passes.rules import Sweep, open_shape_attribute


@dataclass(frozen=True)
class LayoutNhwc:
    """Bring convolutions and pools to NHWC (or to NCHW, the other way round), and let the transposes cancel.

    conv2d(x) {NCHW}               ->  transpose(conv2d(transpose(x)) {NHWC})
    f(transpose(x))                ->  transpose(f(x)), with axes renamed
    fully_connected(flatten(transpose(x)), w)  ->  fully_connected(flatten(x), w with its columns permuted)

    The walk keeps for each value how its axes are held, and transposes only where an op or an output asks for another
    order. Transposes of the model itself dissolve in that. What remains is noted.
    """

    name: ClassVar[str] = "layout-nhwc"
    layout: str = "NHWC"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        sweep = _Layout(graph, self.layout)
        for op in graph.ops:
            handler = _HANDLERS.get(op.kind)
            if handler is None or not handler(sweep, op):
                sweep.keep(op)
        result = sweep.finish()
        for op in result.ops:
            if op.kind == "transpose":
                notes.add(self, op, f"a transpose of {op.operands[0].type} by {list(op.integers('perm'))} remains")
        return result


class _Layout(Sweep):
    """Knows for each old value the new tensor that holds it, and how."""

    def __init__(self, graph: Graph, layout: str) -> None:
        super().__init__(graph)
        self.layout = layout
        self._held: dict[Value, tuple[Value, Permutation]] = {}
        self._placed: dict[tuple[Value, Permutation], Value] = {}
        for value in graph.inputs:
            wanted = _image_order(graph, value, layout)
            if wanted is not None and wanted != identity(value.type.rank):
                self._placed[value, identity(value.type.rank)] = super().map(value)
                self._held[value] = (self.place(value, wanted), wanted)

    def map(self, value: Value) -> Value:
        """The new value with the axes in the model's order."""
        return self.place(value, identity(value.type.rank)) if value in self._held else super().map(value)

    def perm(self, value: Value) -> Permutation:
        """How ``value`` is held."""
        return self._held[value][1] if value in self._held else identity(value.type.rank)

    def held(self, value: Value) -> Value:
        """The tensor that holds ``value``."""
        return self._held[value][0] if value in self._held else super().map(value)

    def hold(self, op: Op, held: Value, perm: Permutation) -> bool:
        """The result of ``op`` is held by ``held`` as ``perm``."""
        if perm == identity(len(perm)):
            self.replace(op, held)
        else:
            self._held[op.result] = (held, perm)
        return True

    def emit_held(self, op: Op, operands: Sequence[Value], perm: Permutation, **changes: Any) -> bool:
        """Emit ``op`` on held tensors; its result is held as ``perm``."""
        return self.hold(op, self.again(op, operands, **changes), perm)

    def place(self, value: Value, perm: Permutation, rank: int | None = None) -> Value:
        """``value``, made of ``rank`` axes by leading ones if that is given, as a tensor that holds it as ``perm``."""
        rank = value.type.rank if rank is None else rank
        extra = rank - value.type.rank
        array = self.array(value)
        if array is not None:
            expanded = array.reshape((1,) * extra + array.shape).transpose(inverse(perm))
            return self.constant(expanded, value.name, value.type.quantization)
        key = (value, perm)
        if key not in self._placed:
            self._placed[key] = self._transposed(value, perm, extra)
        return self._placed[key]

    def _transposed(self, value: Value, perm: Permutation, extra: int) -> Value:
        tensor, now = self.held(value), self.perm(value)
        now = (*range(extra), *(axis + extra for axis in now))
        shape = (1,) * extra + value.type.shape
        open_shape = (1,) * extra + self.open_shapes[value]
        source = self._source(value)
        if long_axes(open_shape, now) == long_axes(open_shape, perm):
            if held_shape(open_shape, perm) == held_shape(self.open_shapes[value], self.perm(value)):
                return tensor
            attribute = open_shape_attribute(held_shape(shape, perm), held_shape(open_shape, perm))
            return self.emit("reshape", [tensor], {"shape": attribute}, name=value.name, source=source)
        if extra:
            attribute = open_shape_attribute(held_shape(shape, now), held_shape(open_shape, now))
            tensor = self.emit("reshape", [tensor], {"shape": attribute}, name=value.name, source=source)
        axes = tuple(now[axis] for axis in inverse(perm))
        return self.emit("transpose", [tensor], {"perm": axes}, name=value.name, source=source)

    def _source(self, value: Value) -> str:
        op = self.graph.producer(value)
        return value.name if op is None else op.source


_HELD_AS: Mapping[str, Permutation] = {"NHWC": channels_last(4), "NCHW": inverse(channels_last(4))}
"""How a tensor of the other layout is held in this one."""


def _image_order(graph: Graph, value: Value, layout: str) -> Permutation | None:
    """How an input should be held for the first convolution, pool or reshape that reads it in another order than the
    model's, perhaps through elementwise ops."""
    axes = {value: identity(value.type.rank)}  # of what derives from it, as axes of the input
    for op in graph.ops:
        perm = next((axes[operand] for operand in op.operands if operand in axes), None)
        if perm is None or len(perm) < 4:
            continue
        if op.kind in WINDOWED:
            reached = op.string("layout") == layout
            return inverse(perm if reached else tuple(perm[axis] for axis in inverse(_HELD_AS[layout])))
        if op.kind == "reshape" and perm != identity(len(perm)):
            return inverse(perm)
        if op.kind == "transpose":
            axes[op.result] = tuple(perm[axis] for axis in op.integers("perm"))
        elif op.kind in _KEEP_ORDER and op.result.type.rank == len(perm):
            axes[op.result] = perm
    return None


def _along_images(sweep: _Layout, x: Value, axes: Sequence[int]) -> Permutation:
    """How to hold ``x`` for an op that goes along ``axes``: channels last if it is held as the model has it, with
    channels in the second place that fill vectors, and if the op would take elements of the last axis one by one."""
    perm, rank = sweep.perm(x), x.type.rank
    spatial = sweep.layout == "NHWC" and rank >= 4 and rank - 1 in axes and min(axes) > 1
    return channels_last(rank) if spatial and perm == identity(rank) and x.type.shape[1] >= VECTOR else perm


def _windowed(sweep: _Layout, op: Op) -> bool:
    """Convolutions and pools"""
    if op.string("layout") == sweep.layout:
        return False
    perm = _HELD_AS[sweep.layout]
    operands = [sweep.place(op.operands[0], perm), *(sweep.map(operand) for operand in op.operands[1:])]
    return sweep.emit_held(op, operands, perm, layout=sweep.layout)


def _unary(sweep: _Layout, op: Op) -> bool:
    """Elementwise in the first operand, the others being parameters of the whole tensor"""
    quantization = op.operands[0].type.quantization
    if quantization is not None and quantization.axis is not None:
        return False
    operands = [sweep.held(op.operands[0]), *(sweep.map(operand) for operand in op.operands[1:])]
    return sweep.emit_held(op, operands, sweep.perm(op.operands[0]))


def _binary(sweep: _Layout, op: Op) -> bool:
    """Elementwise with broadcasting"""
    rank = op.result.type.rank
    perm = _common_perm(sweep, op, rank)
    if perm is None:
        return False
    operands = []
    for operand in op.operands:
        array = sweep.array(operand)
        if array is None:
            operands.append(sweep.place(operand, perm, rank))
        else:
            operands.append(_small_constant(sweep, operand, array, perm))
    return sweep.emit_held(op, operands, perm)


def _common_perm(sweep: _Layout, op: Op, rank: int) -> Permutation | None:
    """How to hold the result: as the largest operand that is not held in the model's order; None if all are."""
    candidates = [
        operand
        for operand in op.operands
        if operand.type.rank == rank and sweep.perm(operand) != identity(rank) and not sweep.graph.is_constant(operand)
    ]
    return sweep.perm(max(candidates, key=lambda operand: operand.type.size)) if candidates else None


def _small_constant(sweep: _Layout, value: Value, array: np.ndarray, perm: Permutation) -> Value:
    """A constant to broadcast against tensors held as ``perm``, without leading axes of extent 1."""
    expanded = array.reshape((1,) * (len(perm) - array.ndim) + array.shape).transpose(inverse(perm))
    leading = next((axis for axis, extent in enumerate(expanded.shape) if extent != 1), expanded.ndim)
    return sweep.constant(expanded.reshape(expanded.shape[leading:]), value.name, value.type.quantization)


def _dynamic_parameters(sweep: _Layout, op: Op) -> bool:
    """The extremes of a whole tensor are the same in any order"""
    if op.attributes["per_row"]:
        return False
    return sweep.emit_held(op, [sweep.held(op.operands[0])], identity(1))


def _dynamic_quantize(sweep: _Layout, op: Op) -> bool:
    """Elementwise, unless rows have parameters of their own"""
    return op.operands[1].type.rank == 1 and _unary(sweep, op)


def _concat(sweep: _Layout, op: Op) -> bool:
    rank = op.result.type.rank
    perm = _common_perm(sweep, op, rank)
    if perm is None:
        return False
    operands = [sweep.place(operand, perm) for operand in op.operands]
    return sweep.emit_held(op, operands, perm, axis=perm[op.integer("axis") % rank])


def _one_axis(sweep: _Layout, op: Op) -> bool:
    """softmax, batch_norm: the axis renamed"""
    x = op.operands[0]
    perm = sweep.perm(x)
    operands = [sweep.held(x), *(sweep.map(operand) for operand in op.operands[1:])]
    return sweep.emit_held(op, operands, perm, axis=perm[op.integer("axis") % x.type.rank])


def _normalize(sweep: _Layout, op: Op) -> bool:
    """The axes renamed, gamma and beta transposed"""
    x, *parameters = op.operands
    perm = sweep.perm(x)
    arrays = [sweep.array(value) for value in parameters]
    if perm == identity(x.type.rank) or any(array is None for array in arrays):
        return False
    operands = [
        _small_constant(sweep, value, array, perm)
        for value, array in zip(parameters, arrays, strict=True)
        if array is not None
    ]
    axes = tuple(sorted(perm[axis] for axis in normalize_axes(op.integers("axes"), x.type.rank)))
    return sweep.emit_held(op, [sweep.held(x), *operands], perm, axes=axes)


def _interpolate(sweep: _Layout, op: Op) -> bool:
    """The axes renamed, and what belongs to each reordered with them"""
    x, *tables = op.operands
    perm = _along_images(sweep, x, op.integers("axes"))
    places = sorted((perm[axis], i) for i, axis in enumerate(op.integers("axes")))
    operands = [sweep.map(table) for _, i in places for table in tables[2 * i : 2 * i + 2]]
    return sweep.emit_held(op, [sweep.place(x, perm), *operands], perm, axes=tuple(axis for axis, _ in places))


def _pad(sweep: _Layout, op: Op) -> bool:
    x = op.operands[0]
    perm, rank, pads = sweep.perm(x), x.type.rank, op.integers("pads")
    changed = held_shape(pads[:rank], perm) + held_shape(pads[rank:], perm)
    return sweep.emit_held(op, [sweep.held(x)], perm, pads=changed)


def _slice(sweep: _Layout, op: Op) -> bool:
    x = op.operands[0]
    perm = sweep.perm(x)
    axes = tuple(perm[axis % x.type.rank] for axis in op.integers("axes"))
    return sweep.emit_held(op, [sweep.held(x)], perm, axes=axes)


def _gather(sweep: _Layout, op: Op) -> bool:
    """A list of indices keeps the axes where they are"""
    x, indices = op.operands
    if indices.type.rank != 1:
        return False
    axis = op.integer("axis") % x.type.rank
    perm = _along_images(sweep, x, [axis])
    return sweep.emit_held(op, [sweep.place(x, perm), sweep.map(indices)], perm, axis=perm[axis])


def _reduce_mean(sweep: _Layout, op: Op) -> bool:
    x = op.operands[0]
    perm = sweep.perm(x)
    reduced = normalize_axes(op.integers("axes"), x.type.rank)
    axes = tuple(sorted(perm[axis] for axis in reduced))
    if not op.attributes["keepdims"]:
        kept = [perm[axis] for axis in range(x.type.rank) if axis not in reduced]
        perm = tuple(sorted(kept).index(axis) for axis in kept)
    return sweep.emit_held(op, [sweep.held(x)], perm, axes=axes)


def _transpose(sweep: _Layout, op: Op) -> bool:
    """No op at all: only the way in which its operand is held is seen otherwise"""
    perm = sweep.perm(op.operands[0])
    return sweep.hold(op, sweep.held(op.operands[0]), tuple(perm[axis] for axis in op.integers("perm")))


def _reshape(sweep: _Layout, op: Op) -> bool:
    x, y = op.operands[0], op.result
    perm = sweep.perm(x)
    if perm == identity(x.type.rank):
        return False
    plan = plan_reshape(sweep.open_shapes[x], perm, sweep.open_shapes[y])
    attribute = open_shape_attribute(held_shape(y.type.shape, plan.after), held_shape(sweep.open_shapes[y], plan.after))
    return sweep.emit_held(op, [sweep.place(x, plan.before)], plan.after, shape=attribute)


def _fully_connected(sweep: _Layout, op: Op) -> bool:
    """Behind a flatten of an image: permute the columns of the weights instead of the image"""
    flatten = sweep.producer(op.operands[0], "reshape")
    levels = _levels(sweep, op.operands[1])
    weights = sweep.array(levels)
    if flatten is None or weights is None:
        return False
    image = flatten.operands[0]
    shape, perm = image.type.shape, sweep.perm(image)
    in_order = long_axes(sweep.open_shapes[image], perm) == long_axes(sweep.open_shapes[image], identity(len(shape)))
    if in_order or perm[0] != 0 or shape[0] != op.operands[0].type.shape[0]:
        return False
    x = sweep.again(flatten, [sweep.held(image)])
    columns = weights.reshape(weights.shape[0], *shape[1:]).transpose(inverse(perm)).reshape(weights.shape)
    w = sweep.constant(columns, levels.name, levels.type.quantization)
    if levels != op.operands[1]:
        w = sweep.emit("dequantize", [w], name=op.operands[1].name, source=op.source)
    return sweep.emit_held(op, [x, w, *(sweep.map(operand) for operand in op.operands[2:])], identity(2))


def _levels(sweep: _Layout, value: Value) -> Value:
    """What ``value`` dequantizes, one scale for the tensor or each row; else the value itself."""
    producer = sweep.producer(value, "dequantize")
    quantization = None if producer is None else producer.operands[0].type.quantization
    return producer.operands[0] if producer and quantization and quantization.axis in (None, 0) else value


def _matmul(sweep: _Layout, op: Op) -> bool:
    """The product reads its operands as they are held, and holds its result as a transpose behind it wants it"""
    permutations = {}
    for name, operand in zip(("perm_a", "perm_b"), op.operands, strict=True):
        perm, order = sweep.perm(operand), permutation(op.integers(name), operand.type.rank)
        permutations[name] = _written(tuple(perm[axis] for axis in order))
    rank = op.result.type.rank
    user = sweep.graph.only_user(op.result)
    wanted = user.integers("perm") if user is not None and user.kind == "transpose" else identity(rank)
    wanted = wanted if wanted[-1] == rank - 1 else identity(rank)
    order = permutation(op.integers("perm_y"), rank)
    permutations["perm_y"] = _written(tuple(order[axis] for axis in wanted))
    operands = [sweep.held(operand) for operand in op.operands]
    return sweep.emit_held(op, operands, inverse(wanted), **permutations)


def _written(perm: Permutation) -> Permutation:
    """A permutation as an attribute of a product: empty where it changes nothing."""
    return () if perm == identity(len(perm)) else perm


VECTOR = 16
"""Channels that make it worth to bring them together."""

WINDOWED = ("conv2d", "qconv2d", "max_pool", "average_pool")
_KEEP_ORDER = (
    *UNARY,
    *BINARY,
    *COMPARISONS,
    "where",
    "quantize",
    "dequantize",
    "lookup",
    "concat",
    "batch_norm",
    "softmax",
    "normalize",
    "interpolate",
    "pad",
    "slice",
    "gather",
    "reduce_mean",
)

_Handler: TypeAlias = Callable[[_Layout, Op], bool]

_HANDLERS: Mapping[str, _Handler] = {
    **{kind: _windowed for kind in WINDOWED},
    **{kind: _unary for kind in (*UNARY, "quantize", "dequantize", "lookup")},
    **{kind: _binary for kind in (*BINARY, *COMPARISONS, "where", "center")},
    "dynamic_parameters": _dynamic_parameters,
    "dynamic_quantize": _dynamic_quantize,
    "concat": _concat,
    "softmax": _one_axis,
    "batch_norm": _one_axis,
    "normalize": _normalize,
    "interpolate": _interpolate,
    "pad": _pad,
    "slice": _slice,
    "gather": _gather,
    "reduce_mean": _reduce_mean,
    "transpose": _transpose,
    "reshape": _reshape,
    "fully_connected": _fully_connected,
    "matmul": _matmul,
}
