"""Rules of canonicalize for normalizations that exporters write as several operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sqc.ir import Op, Value
from sqc.passes.rules import Rule, Sweep


def _normalize(sweep: Sweep, op: Op) -> Value | None:
    """d / sqrt(mean(d * d) + epsilon) with d = x - mean(x) -> normalize(x)"""
    centred = sweep.producer(op.operands[0], "sub")
    deviation = sweep.producer(op.operands[1], "sqrt")
    shifted = None if deviation is None else sweep.producer(deviation.operands[0], "add")
    if centred is None or shifted is None:
        return None
    epsilon, variance = sweep.number(shifted.operands[1]), sweep.producer(shifted.operands[0], "reduce_mean")
    mean, x = sweep.producer(centred.operands[1], "reduce_mean"), centred.operands[0]
    if epsilon is None or not epsilon > 0 or variance is None or mean is None or mean.operands[0] != x:
        return None
    kept = mean.attributes["keepdims"] and variance.attributes["keepdims"]
    if not kept or mean.attributes != variance.attributes or not _is_square(sweep, variance.operands[0], centred):
        return None
    operands = [sweep.map(x), *_parameters(sweep, op, np.ones((), np.float32), np.zeros((), np.float32))]
    attributes = {"axes": mean.integers("axes"), "epsilon": epsilon}
    return sweep.emit("normalize", operands, attributes, name=op.result.name, source=op.source)


def _is_square(sweep: Sweep, value: Value, centred: Op) -> bool:
    """Whether ``value`` is the square of what ``centred`` computes, or of another such op."""
    square = sweep.producer(value, "mul", "power")
    if square is None or (square.kind == "power" and square.number("exponent") != 2.0):
        return False
    factors = [sweep.producer(operand, "sub") for operand in square.operands]
    return all(factor is not None and factor.operands == centred.operands for factor in factors)


def _scale(sweep: Sweep, op: Op) -> Value | None:
    """normalize(x, gamma, beta) * c -> normalize(x, gamma * c, beta * c); + c likewise"""
    inner = sweep.producer(op.operands[0], "normalize")
    c = sweep.array(op.operands[1])
    if inner is None or c is None or not sweep.feeds_only(inner.result, op):
        return None
    gamma, beta = (sweep.array(value) for value in inner.operands[1:])
    if gamma is None or beta is None or not sweep.same_shape(inner.result, op.result):
        return None
    gamma, beta = (gamma, beta + c) if op.kind == "add" else (gamma * c, beta * c)
    return sweep.again(inner, [sweep.map(inner.operands[0]), *_parameters(sweep, op, gamma, beta)])


def _parameters(sweep: Sweep, op: Op, gamma: np.ndarray, beta: np.ndarray) -> list[Value]:
    return [sweep.constant(array, f"{op.result.name}.{name}") for array, name in ((gamma, "gamma"), (beta, "beta"))]


RULES: Mapping[str, Sequence[Rule]] = {"div": [_normalize], "mul": [_scale], "add": [_scale]}
