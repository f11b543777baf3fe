"""Folding affine maps per channel into the convolutions and fully connected layers beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sqc.ir import Op, Value
from sqc.ops.shapes import channel_axis
from sqc.passes.arithmetic_rules import clip_range
from sqc.passes.rules import Rule, Sweep

LINEAR = ("conv2d", "fully_connected")


@dataclass(frozen=True)
class LinearProducer:
    """A conv2d or fully_connected with constant weights, and the movement ops between it and the value asked for.

    ``channels`` maps each of its output channels to the place along the axis asked for to which it goes.
    """

    op: Op
    path: tuple[Op, ...]
    channels: np.ndarray


def output_axis(op: Op) -> int:
    """The axis of the output channels of a linear op's result."""
    return channel_axis(op.string("layout")) if op.kind == "conv2d" else 1


def find_linear(sweep: Sweep, value: Value, axis: int, reader: Op) -> LinearProducer | None:
    """The linear op whose output channels run along ``axis`` of ``value``, seen through ops that move elements.

    None unless everything between it and ``reader`` has a single reader and its weights are constants.
    """
    path: list[Op] = []
    channels = np.arange(value.type.shape[axis])
    while sweep.feeds_only(value, reader):
        op = sweep.producer(value, "reshape", "transpose", "slice", *LINEAR)
        if op is None:
            return None
        if op.kind in LINEAR:
            constant = all(sweep.graph.is_constant(operand) for operand in op.operands[1:])
            found = constant and output_axis(op) == axis
            return LinearProducer(op, tuple(reversed(path)), channels) if found else None
        source = _source_axis(op, axis)
        if source is None:
            return None
        path.append(op)
        value, axis, reader = op.operands[0], source, op
        channels = np.tile(channels, value.type.shape[axis] // channels.size)
    return None


def _source_axis(op: Op, axis: int) -> int | None:
    """Which axis of a movement op's operand becomes ``axis`` of its result, whole; None if there is none.

    It may be an axis that a reshape splits: then ``axis`` is the innermost part, which repeats along the source.
    """
    if op.kind == "transpose":
        return op.integers("perm")[axis]
    before, after = op.operands[0].type.shape, op.result.type.shape
    if op.kind == "slice":
        return axis if before[axis] == after[axis] else None
    for source, extent in enumerate(before):
        split = {math.prod(after[first : axis + 1]) for first in range(axis + 1)}
        if extent in split and math.prod(before[: source + 1]) == math.prod(after[: axis + 1]) and extent != 1:
            return source
    return None


def fold_behind(sweep: Sweep, linear: LinearProducer, scale: np.ndarray, shift: np.ndarray, name: str) -> Value:
    """Emit the linear op as ``scale * result + shift`` per output channel (float64 ``[C]``), and the path behind it."""
    op = linear.op
    scale, shift = scale[linear.channels], shift[linear.channels]
    weights, bias = weights_of(sweep, op)
    weights *= scale.reshape(-1, *[1] * (weights.ndim - 1))
    operands = _operands(sweep, op, sweep.map(op.operands[0]), weights, bias * scale + shift)
    chain = [op, *linear.path]
    names = [*(step.result.name for step in chain[:-1]), name]
    value = sweep.emit(op.kind, operands, op.attributes, name=names[0], source=op.source)
    for step, step_name in zip(linear.path, names[1:], strict=True):
        value = sweep.emit(step.kind, [value], step.attributes, name=step_name, source=step.source)
    return value


def fold_before(sweep: Sweep, op: Op, x: Value, scale: np.ndarray, shift: np.ndarray) -> Value:
    """Emit a linear op so that on the new value ``x`` it computes what it did on ``scale * x + shift``.

    ``scale`` and ``shift`` are float64, one entry an input channel. A shift needs an op without padding.
    """
    weights, bias = weights_of(sweep, op)
    groups = op.integer("groups") if op.kind == "conv2d" else 1
    # Output channel o of group g reads the input channels of its group only.
    by_output = np.repeat(np.arange(groups), weights.shape[0] // groups)
    tail = [1] * (weights.ndim - 2)
    scales = scale.reshape(groups, -1)[by_output].reshape(*weights.shape[:2], *tail)
    shifts = shift.reshape(groups, -1)[by_output].reshape(*weights.shape[:2], *tail)
    bias = bias + (weights * shifts).reshape(weights.shape[0], -1).sum(axis=1)
    return sweep.again(op, _operands(sweep, op, x, weights * scales, bias))


def weights_of(sweep: Sweep, op: Op) -> tuple[np.ndarray, np.ndarray]:
    """Copies of weights and bias (zeros if it has none) of a linear op in float64."""
    arrays = [sweep.graph.constants[operand].astype(np.float64) for operand in op.operands[1:]]
    return arrays[0], arrays[1] if len(arrays) == 2 else np.zeros(arrays[0].shape[0])


def _operands(sweep: Sweep, op: Op, x: Value, weights: np.ndarray, bias: np.ndarray) -> list[Value]:
    names = [operand.name for operand in op.operands[1:]]
    bias_name = names[1] if len(names) == 2 else f"{names[0]}.bias"
    return [
        x,
        sweep.constant(weights.astype(np.float32), names[0]),
        sweep.constant(bias.astype(np.float32), bias_name),
    ]


def channel_vector(array: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """A constant that broadcasts against ``rank`` axes as one float64 number a channel, ``[channels]``; None if not."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(extent != 1 for i, extent in enumerate(shape) if i != axis) or shape[axis] not in (1, channels):
        return None
    return np.array(np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,)))


def _fold_behind_linear(sweep: Sweep, op: Op) -> Value | None:
    """conv2d(x, w, b) * c -> conv2d(x, w * c, b * c); + c -> conv2d(x, w, b + c); neg likewise"""
    x = op.operands[0]
    if op.kind == "neg":
        array: np.ndarray | None = np.array(-1.0)
    else:
        array = sweep.array(op.operands[1])
    if array is None or not sweep.same_shape(x, op.result):
        return None
    for axis in range(x.type.rank):
        channels = x.type.shape[axis]
        vector = channel_vector(array, x.type.rank, axis, channels)
        linear = None if vector is None else find_linear(sweep, x, axis, op)
        if vector is not None and linear is not None:
            scale, shift = (np.ones(channels), vector) if op.kind == "add" else (vector, np.zeros(channels))
            return fold_behind(sweep, linear, scale, shift, op.result.name)
    return None


def _fold_before_linear(sweep: Sweep, op: Op) -> Value | None:
    """conv2d(x * c, w, b) -> conv2d(x, w * c, b); conv2d(x + c, w, b) -> conv2d(x, w, b + w @ c) without padding"""
    inner = sweep.producer(op.operands[0], "mul", "add")
    if inner is None or not sweep.feeds_only(inner.result, op):
        return None
    if not all(sweep.graph.is_constant(operand) for operand in op.operands[1:]):
        return None
    x, array = inner.operands[0], sweep.array(inner.operands[1])
    padded = op.kind == "conv2d" and any(op.integers("pads"))
    if array is None or not sweep.same_shape(x, inner.result) or (inner.kind == "add" and padded):
        return None
    axis = 1 if op.kind == "fully_connected" or op.string("layout") == "NCHW" else 3
    channels = x.type.shape[axis]
    vector = channel_vector(array, x.type.rank, axis, channels)
    if vector is None:
        return None
    scale, shift = (np.ones(channels), vector) if inner.kind == "add" else (vector, np.zeros(channels))
    return fold_before(sweep, op, sweep.map(x), scale, shift)


def _clip_behind_linear(sweep: Sweep, op: Op) -> Value | None:
    """clip(conv2d(x)) * c -> clip(conv2d(x) * c) for one number c > 0; clip(conv2d(x)) + c likewise"""
    clip = sweep.producer(op.operands[0], "clip", "relu")
    array = sweep.array(op.operands[1])
    if clip is None or array is None or array.size != 1 or not sweep.same_shape(clip.result, op.result):
        return None
    number = float(array.reshape(-1)[0])
    scale, shift = (1.0, number) if op.kind == "add" else (number, 0.0)
    if scale <= 0.0 or not math.isfinite(number) or not sweep.feeds_only(clip.result, op):
        return None
    low, high = (end * scale + shift for end in clip_range(clip))
    return _affine_then_clip(sweep, op, clip, scale, shift, (low, high))


def _hard_sigmoid_behind_linear(sweep: Sweep, op: Op) -> Value | None:
    """hard_sigmoid(conv2d(x)) -> clip(alpha * conv2d(x) + beta, 0, 1)"""
    return _affine_then_clip(sweep, op, op, op.number("alpha"), op.number("beta"), (0.0, 1.0))


def _affine_then_clip(
    sweep: Sweep, op: Op, reader: Op, scale: float, shift: float, ends: tuple[float, float]
) -> Value | None:
    """In place of ``op``: the linear result that ``reader`` reads, as ``scale * it + shift``, clipped."""
    x = reader.operands[0]
    for axis, channels in enumerate(x.type.shape):
        linear = find_linear(sweep, x, axis, reader)
        if linear is not None:
            affine = np.full(channels, scale), np.full(channels, shift)
            value = fold_behind(sweep, linear, *affine, x.name)
            return sweep.emit("clip", [value], {"min": ends[0], "max": ends[1]}, name=op.result.name, source=op.source)
    return None


RULES: Mapping[str, Sequence[Rule]] = {
    "add": [_fold_behind_linear, _clip_behind_linear],
    "mul": [_fold_behind_linear, _clip_behind_linear],
    "neg": [_fold_behind_linear],
    "hard_sigmoid": [_hard_sigmoid_behind_linear],
    "conv2d": [_fold_before_linear],
    "fully_connected": [_fold_before_linear],
}
"""Rules of canonicalize that fold sums and products with constants into linear ops."""
