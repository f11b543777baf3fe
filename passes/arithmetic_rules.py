"""Rules of canonicalize for elementwise arithmetic: clips, constants, hard-swish."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sqc.ir import Op, Value
from sqc.passes.rules import Rule, Sweep

NEVER_NEGATIVE = ("relu", "sigmoid", "hard_sigmoid", "exp", "sqrt", "abs", "softmax", "softplus")
"""Kinds whose results are never negative."""


def clip_range(op: Op) -> tuple[float, float]:
    """The range that relu or clip cuts to."""
    return (0.0, math.inf) if op.kind == "relu" else (op.number("min"), op.number("max"))


def _relu_of_positive(sweep: Sweep, op: Op) -> Value | None:
    """relu(sigmoid(x)) -> sigmoid(x)"""
    return sweep.map(op.operands[0]) if sweep.producer(op.operands[0], *NEVER_NEGATIVE) else None


def _clip_of_clip(sweep: Sweep, op: Op) -> Value | None:
    """clip(clip(x)) -> clip(x), relu being one of them"""
    inner = sweep.producer(op.operands[0], "clip", "relu")
    if inner is None:
        return None
    low, high = clip_range(op)
    ends = [min(max(end, low), high) for end in clip_range(inner)]
    return _clip(sweep, op, inner.operands[0], ends[0], ends[1])


def _simple_clip(sweep: Sweep, op: Op) -> Value | None:
    """clip(x, 0, inf) -> relu(x); clip(x, -inf, inf) -> x"""
    low, high = clip_range(op)
    if (low, high) == (-math.inf, math.inf):
        return sweep.map(op.operands[0])
    return _clip(sweep, op, op.operands[0], low, high) if (low, high) == (0.0, math.inf) else None


def _clip(sweep: Sweep, op: Op, x: Value, low: float, high: float) -> Value:
    if (low, high) == (0.0, math.inf):
        return sweep.emit("relu", [sweep.map(x)], name=op.result.name, source=op.source)
    return sweep.emit("clip", [sweep.map(x)], {"min": low, "max": high}, name=op.result.name, source=op.source)


def _constant_second(sweep: Sweep, op: Op) -> Value | None:
    """c + x -> x + c; c * x -> x * c"""
    a, b = op.operands
    if sweep.graph.is_constant(a) and not sweep.graph.is_constant(b):
        return sweep.again(op, [sweep.map(b), sweep.map(a)])
    return None


def _sub_to_add(sweep: Sweep, op: Op) -> Value | None:
    """x - c -> x + (-c)"""
    return _with_constant(sweep, op, "add", lambda array: -array)


def _div_to_mul(sweep: Sweep, op: Op) -> Value | None:
    """x / c -> x * (1 / c), where the reciprocal is a normal number"""
    array = sweep.array(op.operands[1])
    if array is None or bool((np.abs(array) < 1e-37).any()) or bool((np.abs(array) > 1e37).any()):
        return None
    return _with_constant(sweep, op, "mul", lambda divisor: 1.0 / divisor)


def _with_constant(sweep: Sweep, op: Op, kind: str, function: Callable[[np.ndarray], np.ndarray]) -> Value | None:
    x, c = op.operands
    array = sweep.array(c)
    if array is None:
        return None
    constant = sweep.constant(function(array.astype(np.float64)).astype(np.float32), c.name)
    return sweep.emit(kind, [sweep.map(x), constant], name=op.result.name, source=op.source)


def _neutral(sweep: Sweep, op: Op) -> Value | None:
    """x + 0 -> x; x * 1 -> x"""
    x, c = op.operands
    array = sweep.array(c)
    if array is None or not sweep.same_shape(x, op.result):
        return None
    return sweep.map(x) if bool((array == (0.0 if op.kind == "add" else 1.0)).all()) else None


def _combine_constants(sweep: Sweep, op: Op) -> Value | None:
    """(x + c) + d -> x + (c + d); (x * c) * d -> x * (c * d)"""
    inner = sweep.producer(op.operands[0], op.kind)
    d = sweep.array(op.operands[1])
    c = None if inner is None else sweep.array(inner.operands[1])
    if inner is None or c is None or d is None:
        return None
    function = np.add if op.kind == "add" else np.multiply
    combined = function(c.astype(np.float64), d.astype(np.float64))
    if bool((np.abs(combined) > 1e37).any()):
        return None
    constant = sweep.constant(combined.astype(np.float32), inner.operands[1].name)
    return sweep.again(op, [sweep.map(inner.operands[0]), constant])


def _hard_sigmoid(sweep: Sweep, op: Op) -> Value | None:
    """clip(x + b, 0, h) * (1 / h) -> hard_sigmoid(x, 1 / h, b / h)"""
    factor = sweep.number(op.operands[1])
    clip = sweep.producer(op.operands[0], "clip")
    shift = None if clip is None else sweep.producer(clip.operands[0], "add")
    if factor is None or clip is None or shift is None or not sweep.same_shape(clip.result, op.result):
        return None
    low, high = clip_range(clip)
    term = sweep.number(shift.operands[1])
    x = shift.operands[0]
    if term is None or low != 0.0 or not math.isclose(factor * high, 1.0, rel_tol=1e-6):
        return None
    if not sweep.same_shape(x, op.result):
        return None
    attributes = {"alpha": 1.0 / high, "beta": term / high}
    return sweep.emit("hard_sigmoid", [sweep.map(x)], attributes, name=op.result.name, source=op.source)


def _scale_clip_first(sweep: Sweep, op: Op) -> Value | None:
    """(x * clip(y)) * c -> x * (clip(y) * c) for a single number c, so that the hard sigmoid shows"""
    if sweep.number(op.operands[1]) is None or not sweep.same_shape(op.operands[0], op.result):
        return None
    product = sweep.producer(op.operands[0], "mul")
    if product is None or not sweep.feeds_only(product.result, op):
        return None
    for clip, x in (product.operands, product.operands[::-1]):
        if sweep.producer(clip, "clip") and sweep.feeds_only(clip, product):
            name = f"{op.result.name}.gate"
            gate = sweep.emit("mul", [sweep.map(clip), sweep.map(op.operands[1])], name=name, source=op.source)
            return sweep.again(op, [sweep.map(x), gate])
    return None


def _hard_swish(sweep: Sweep, op: Op) -> Value | None:
    """x * hard_sigmoid(x, 1/6, 1/2) -> hard_swish(x)"""
    for gate, x in (op.operands, op.operands[::-1]):
        inner = sweep.producer(gate, "hard_sigmoid")
        if inner is None or inner.operands[0] != x:
            continue
        if math.isclose(inner.number("alpha"), 1 / 6, rel_tol=1e-6) and inner.number("beta") == 0.5:
            return sweep.emit("hard_swish", [sweep.map(x)], name=op.result.name, source=op.source)
    return None


RULES: Mapping[str, Sequence[Rule]] = {
    "relu": [_relu_of_positive, _clip_of_clip],
    "clip": [_simple_clip, _clip_of_clip],
    "add": [_constant_second, _neutral, _combine_constants],
    "mul": [_constant_second, _neutral, _combine_constants, _hard_sigmoid, _scale_clip_first, _hard_swish],
    "sub": [_sub_to_add],
    "div": [_div_to_mul],
}
