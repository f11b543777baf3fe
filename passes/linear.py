"""Folding affine maps per channel into the convolutions and fully connected layers beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sqc.ir import Op, Quantization, Value, evaluate_op
from sqc.ops.quantization import LIMITS
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

    None unless everything between it and ``reader`` has a single reader and its weights are constants, as numbers or as
    levels.
    """
    path: list[Op] = []
    channels = np.arange(value.type.shape[axis])
    while sweep.feeds_only(value, reader):
        op = sweep.producer(value, "reshape", "transpose", "slice", *LINEAR)
        if op is None:
            return None
        if op.kind in LINEAR:
            found = has_known_parameters(sweep, op) and output_axis(op) == axis
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


def fold_behind(sweep: Sweep, linear: LinearProducer, scale: np.ndarray, shift: np.ndarray, name: str) -> Value | None:
    """Emit the linear op as ``scale * result + shift`` per output channel (float64 ``[C]``), and the path behind it.

    None if its weights are levels that cannot be multiplied so.
    """
    op = linear.op
    scale, shift = scale[linear.channels], shift[linear.channels]
    factor = scale.reshape(-1, *[1] * (op.operands[1].type.rank - 1))
    operands = _operands(sweep, op, sweep.map(op.operands[0]), factor, bias_of(sweep, op) * scale + shift)
    if operands is None:
        return None
    chain = [op, *linear.path]
    names = [*(step.result.name for step in chain[:-1]), name]
    value = sweep.emit(op.kind, operands, op.attributes, name=names[0], source=op.source)
    for step, step_name in zip(linear.path, names[1:], strict=True):
        value = sweep.emit(step.kind, [value], step.attributes, name=step_name, source=step.source)
    return value


def fold_before(sweep: Sweep, op: Op, x: Value, scale: np.ndarray, shift: np.ndarray) -> Value | None:
    """Emit a linear op so that on the new value ``x`` it computes what it did on ``scale * x + shift``.

    ``scale`` and ``shift`` are float64, one entry an input channel. A shift needs an op without padding. None if its
    weights are levels that cannot be multiplied so.
    """
    bias = bias_of(sweep, op)
    weights = real_numbers(sweep, op.operands[1])
    assert weights is not None
    groups = op.integer("groups") if op.kind == "conv2d" else 1
    # Output channel o of group g reads the input channels of its group only.
    by_output = np.repeat(np.arange(groups), weights.shape[0] // groups)
    tail = [1] * (weights.ndim - 2)
    scales = scale.reshape(groups, -1)[by_output].reshape(*weights.shape[:2], *tail)
    shifts = shift.reshape(groups, -1)[by_output].reshape(*weights.shape[:2], *tail)
    bias = bias + (weights * shifts).reshape(weights.shape[0], -1).sum(axis=1)
    operands = _operands(sweep, op, x, scales, bias)
    return None if operands is None else sweep.again(op, operands)


def has_known_parameters(sweep: Sweep, op: Op) -> bool:
    """Whether weights and bias of a linear op are constants, as numbers or as levels with a scale a channel."""
    return all(real_numbers(sweep, operand) is not None for operand in op.operands[1:])


def real_numbers(sweep: Sweep, value: Value) -> np.ndarray | None:
    """The elements of a constant, or of a dequantized one, in float64; None for anything else."""
    levels = stored_levels(sweep, value)
    op = sweep.producer(value, "dequantize")
    array = sweep.array(value) if levels is None or op is None else evaluate_op(op, [sweep.graph.constants[levels]])
    return None if array is None else array.astype(np.float64)


def stored_levels(sweep: Sweep, value: Value) -> Value | None:
    """The constant that ``value`` dequantizes, with one scale for it or for each of its first axis; else None."""
    op = sweep.producer(value, "dequantize")
    quantization = None if op is None else op.operands[0].type.quantization
    if op is None or quantization is None or quantization.axis not in (None, 0):
        return None
    return op.operands[0] if sweep.graph.is_constant(op.operands[0]) else None


def bias_of(sweep: Sweep, op: Op) -> np.ndarray:
    """The bias of a linear op in float64; zeros if it has none."""
    bias = real_numbers(sweep, op.operands[2]) if len(op.operands) == 3 else None
    return np.zeros(op.operands[1].type.shape[0]) if bias is None else bias


def _operands(sweep: Sweep, op: Op, x: Value, factor: np.ndarray, bias: np.ndarray) -> list[Value] | None:
    """``x``, the weights times ``factor``, which broadcasts against them, a bias; None if levels cannot hold that."""
    weights = op.operands[1]
    names = [operand.name for operand in op.operands[1:]]
    bias_name = names[1] if len(names) == 2 else f"{names[0]}.bias"
    levels = stored_levels(sweep, weights)
    if levels is None:
        w = sweep.constant((sweep.graph.constants[weights].astype(np.float64) * factor).astype(np.float32), names[0])
    elif (rescaled := _rescaled(sweep, levels, factor)) is not None:
        w = sweep.emit("dequantize", [rescaled], name=names[0], source=op.source)
    else:
        return None
    return [x, w, sweep.constant(bias.astype(np.float32), bias_name)]


def _rescaled(sweep: Sweep, levels: Value, factor: np.ndarray) -> Value | None:
    """Levels that stand for ``factor`` times as much, by their scales and signs; None if they cannot."""
    stored, array = levels.type.quantization, sweep.graph.constants[levels]
    assert stored is not None
    rows = factor.reshape(factor.shape[0], -1)
    sign = np.sign(rows[:, 0]).astype(np.int64)
    by_row = (-1, *[1] * (array.ndim - 1))
    turned = array * sign.reshape(by_row)
    if (rows != rows[:, :1]).any() or (turned.astype(array.dtype) != turned).any():
        return None
    scales = np.array(stored.scale) * np.where(sign == 0, 1.0, np.abs(rows[:, 0]))
    zero_points = tuple(int(z) for z in np.array(stored.zero_point) * sign)
    quantization = Quantization(tuple(map(float, scales.astype(np.float32))), zero_points, 0)
    return sweep.constant(turned.astype(array.dtype), levels.name, quantization)


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


def _scale_before_product(sweep: Sweep, op: Op) -> Value | None:
    """matmul(a, b) * c -> matmul(a * c, b) for a single number c, where a linear op computes a, or b"""
    product = sweep.producer(op.operands[0], "matmul")
    array = sweep.array(op.operands[1])
    if product is None or array is None or array.size != 1 or not sweep.same_shape(product.result, op.result):
        return None
    if not sweep.feeds_only(product.result, op):
        return None
    for position, operand in enumerate(product.operands):
        for axis, channels in enumerate(operand.type.shape):
            linear = find_linear(sweep, operand, axis, product)
            if linear is None:
                continue
            scale = np.full(channels, float(array.reshape(-1)[0]))
            scaled = fold_behind(sweep, linear, scale, np.zeros(channels), operand.name)
            if scaled is not None:
                operands = list(sweep.operands(product))
                operands[position] = scaled
                return sweep.emit("matmul", operands, product.attributes, name=op.result.name, source=product.source)
    return None


def _fold_before_linear(sweep: Sweep, op: Op) -> Value | None:
    """conv2d(x * c, w, b) -> conv2d(x, w * c, b); conv2d(x + c, w, b) -> conv2d(x, w, b + w @ c) without padding"""
    inner = sweep.producer(op.operands[0], "mul", "add")
    if inner is None or not sweep.feeds_only(inner.result, op):
        return None
    if not has_known_parameters(sweep, op):
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


def _relu_behind_linear(sweep: Sweep, op: Op) -> Value | None:
    """relu(conv2d(x)) * c -> relu(conv2d(x) * c) for positive numbers c, one a channel"""
    relu = sweep.producer(op.operands[0], "relu")
    array = sweep.array(op.operands[1])
    if relu is None or array is None or not bool((array > 0).all()) or not sweep.feeds_only(relu.result, op):
        return None
    x = relu.operands[0]
    for axis, channels in enumerate(x.type.shape):
        vector = channel_vector(array, x.type.rank, axis, channels)
        linear = None if vector is None else find_linear(sweep, x, axis, relu)
        if vector is not None and linear is not None:
            value = fold_behind(sweep, linear, vector, np.zeros(channels), x.name)
            return None if value is None else sweep.emit("relu", [value], name=op.result.name, source=op.source)
    return None


def _clip_of_scaled_rounding(sweep: Sweep, op: Op) -> Value | None:
    """quantize(clip(x, 0, h) * c) -> quantize(relu(x) * c) where the rounding itself cuts at h or below"""
    product = sweep.producer(op.operands[0], "mul")
    clip = None if product is None else sweep.producer(product.operands[0], "clip")
    array = None if product is None else sweep.array(product.operands[1])
    if product is None or clip is None or array is None or not bool((array > 0).all()):
        return None
    if not sweep.feeds_only(clip.result, product) or not sweep.feeds_only(product.result, op):
        return None
    low, high = clip_range(clip)
    levels = np.rint(high * array.astype(np.float64) / op.number("scale")) + op.integer("zero_point")
    if low != 0.0 or not bool((levels >= LIMITS[op.string("dtype")][1]).all()):
        return None
    relu = sweep.emit("relu", [sweep.map(clip.operands[0])], name=clip.result.name, source=clip.source)
    scaled = sweep.again(product, [relu, sweep.map(product.operands[1])])
    return sweep.again(op, [scaled])


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
            if value is None:
                return None
            return sweep.emit("clip", [value], {"min": ends[0], "max": ends[1]}, name=op.result.name, source=op.source)
    return None


RULES: Mapping[str, Sequence[Rule]] = {
    "add": [_fold_behind_linear, _clip_behind_linear],
    "mul": [_fold_behind_linear, _clip_behind_linear, _relu_behind_linear, _scale_before_product],
    "quantize": [_clip_of_scaled_rounding],
    "neg": [_fold_behind_linear],
    "hard_sigmoid": [_hard_sigmoid_behind_linear],
    "conv2d": [_fold_before_linear],
    "fully_connected": [_fold_before_linear],
}
"""Rules of canonicalize that fold sums and products with constants into linear ops."""
