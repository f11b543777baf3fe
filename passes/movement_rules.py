"""Rules of canonicalize for ops that move elements, and for pooling that is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqc.ir import Op, Value
from sqc.passes.rules import Rule, Sweep, open_shape_attribute


def _drop_if_unchanged(sweep: Sweep, op: Op) -> Value | None:
    """reshape, pad, slice to the same shape -> x"""
    x = op.operands[0]
    return sweep.map(x) if sweep.same_shape(x, op.result) else None


def _reshape_of_reshape(sweep: Sweep, op: Op) -> Value | None:
    """reshape(reshape(x)) -> reshape(x)"""
    inner = sweep.producer(op.operands[0], "reshape")
    return None if inner is None else sweep.again(op, [sweep.map(inner.operands[0])])


def _transpose_of_transpose(sweep: Sweep, op: Op) -> Value | None:
    """transpose(transpose(x)) -> transpose(x)"""
    inner = sweep.producer(op.operands[0], "transpose")
    if inner is None:
        return None
    perm = tuple(inner.integers("perm")[axis] for axis in op.integers("perm"))
    return sweep.again(op, [sweep.map(inner.operands[0])], perm=perm)


def _transpose_of_units(sweep: Sweep, op: Op) -> Value | None:
    """transpose(x) that keeps the order of all axes longer than 1 -> reshape(x), or x"""
    x, perm = op.operands[0], op.integers("perm")
    if list(perm) == sorted(perm):
        return sweep.map(x)
    moved = [axis for axis in perm if sweep.open_shapes[x][axis] != 1]
    if moved != sorted(moved):
        return None
    shape = open_shape_attribute(op.result.type.shape, sweep.open_shapes[op.result])
    return sweep.emit("reshape", [sweep.map(x)], {"shape": shape}, name=op.result.name, source=op.source)


def _clamp_before_movement(sweep: Sweep, op: Op) -> Value | None:
    """relu(reshape(x)), clip(slice(x)) ... -> reshape(relu(x)), so that the clamp joins the op that computes x"""
    movement = sweep.producer(op.operands[0], *_ONE_OPERAND)
    if movement is None or not sweep.feeds_only(movement.result, op):
        return None
    if movement.kind == "transpose" and sweep.graph.producer(movement.operands[0]) is None:
        return None  # inputs are transposed before all else
    x = sweep.map(movement.operands[0])
    clamped = sweep.emit(op.kind, [x], op.attributes, name=op.result.name, source=op.source)
    return sweep.emit(movement.kind, [clamped], movement.attributes, name=op.result.name, source=movement.source)


def _sum_before_movement(sweep: Sweep, op: Op) -> Value | None:
    """reshape(x) + reshape(y), of equal shapes -> reshape(x + y), so that the sum joins a convolution"""
    first, second = (sweep.producer(operand, *_ONE_OPERAND) for operand in op.operands)
    if first is None or second is None or (first.kind, first.attributes) != (second.kind, second.attributes):
        return None
    x, y = first.operands[0], second.operands[0]
    if not sweep.same_shape(x, y) or not any(sweep.feeds_only(step.result, op) for step in (first, second)):
        return None
    result = sweep.emit(op.kind, [sweep.map(x), sweep.map(y)], name=op.result.name, source=op.source)
    return sweep.emit(first.kind, [result], first.attributes, name=op.result.name, source=first.source)


def _pad_of_pad(sweep: Sweep, op: Op) -> Value | None:
    """pad(pad(x, p), q) -> pad(x, p + q) for equal values"""
    inner = sweep.producer(op.operands[0], "pad")
    if inner is None or inner.number("value") != op.number("value"):
        return None
    pads = tuple(a + b for a, b in zip(inner.integers("pads"), op.integers("pads"), strict=True))
    return sweep.again(op, [sweep.map(inner.operands[0])], pads=pads)


def _concat_of_one(sweep: Sweep, op: Op) -> Value | None:
    """concat(x) -> x"""
    return sweep.map(op.operands[0]) if len(op.operands) == 1 else None


def _pool_of_nothing(sweep: Sweep, op: Op) -> Value | None:
    """max_pool, average_pool with a 1x1 kernel at every position -> x"""
    trivial = op.integers("kernel") == (1, 1) and op.integers("strides") == (1, 1) and not any(op.integers("pads"))
    return sweep.map(op.operands[0]) if trivial else None


def _global_average_pool(sweep: Sweep, op: Op) -> Value | None:
    """average_pool whose one window is the image -> reduce_mean"""
    axes = (2, 3) if op.string("layout") == "NCHW" else (1, 2)
    image = tuple(op.operands[0].type.shape[axis] for axis in axes)
    if op.integers("kernel") != image or any(op.integers("pads")) or op.integers("dilations") != (1, 1):
        return None
    return sweep.emit(
        "reduce_mean",
        sweep.operands(op),
        {"axes": axes, "keepdims": True},
        name=op.result.name,
        source=op.source,
    )


_ONE_OPERAND = ("reshape", "transpose", "slice")

RULES: Mapping[str, Sequence[Rule]] = {
    "relu": [_clamp_before_movement],
    "clip": [_clamp_before_movement],
    "add": [_sum_before_movement],
    "reshape": [_drop_if_unchanged, _reshape_of_reshape],
    "slice": [_drop_if_unchanged],
    "pad": [_drop_if_unchanged, _pad_of_pad],
    "transpose": [_transpose_of_units, _transpose_of_transpose],
    "concat": [_concat_of_one],
    "max_pool": [_pool_of_nothing],
    "average_pool": [_pool_of_nothing, _global_average_pool],
}
