"""Rules of canonicalize for activation functions that exporters write as several operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sqc.ir import Op, Value
from sqc.passes.rules import Rule, Sweep


def _gated(sweep: Sweep, op: Op, *kinds: str) -> tuple[Value, Op] | None:
    """The ``x`` and the op ``f`` of ``x * f``, f of one of ``kinds``."""
    for gate, x in (op.operands, op.operands[::-1]):
        inner = sweep.producer(gate, *kinds)
        if inner is not None and sweep.same_shape(x, op.result) and sweep.same_shape(gate, op.result):
            return x, inner
    return None


def _function(sweep: Sweep, op: Op, kind: str, x: Value, **attributes: float) -> Value:
    return sweep.emit(kind, [sweep.map(x)], attributes, name=op.result.name, source=op.source)


def _scaled(sweep: Sweep, value: Value, x: Value) -> float | None:
    """The number ``a`` of ``value == a * x``; None if it is no multiple."""
    if value == x:
        return 1.0
    product = sweep.producer(value, "mul")
    factor = None if product is None or product.operands[0] != x else sweep.number(product.operands[1])
    return factor


def _silu(sweep: Sweep, op: Op) -> Value | None:
    """x * sigmoid(a * x) -> silu(x)"""
    found = _gated(sweep, op, "sigmoid")
    if found is None:
        return None
    x, gate = found
    alpha = _scaled(sweep, gate.operands[0], x)
    return None if alpha is None else _function(sweep, op, "silu", x, alpha=alpha)


def _mish(sweep: Sweep, op: Op) -> Value | None:
    """x * tanh(softplus(x)) -> mish(x)"""
    found = _gated(sweep, op, "tanh")
    softplus = None if found is None else sweep.producer(found[1].operands[0], "softplus")
    if found is None or softplus is None or softplus.operands[0] != found[0]:
        return None
    return _function(sweep, op, "mish", found[0])


def _gelu(sweep: Sweep, op: Op) -> Value | None:
    """x * (1 + erf(x / sqrt 2)) * 0.5 -> gelu(x), in any order of the factors; likewise with tanh"""
    factors = _factors(sweep, op)
    sums = [inner for value in factors.values if (inner := sweep.producer(value, "add")) is not None]
    for inner in sums:
        function = sweep.producer(inner.operands[0], "erf", "tanh")
        others = [value for value in factors.values if value != inner.result]
        if function is None or sweep.number(inner.operands[1]) != 1.0 or len(others) != 1:
            continue
        (x,) = others
        if not math.isclose(factors.number, 0.5) or not sweep.same_shape(x, op.result):
            continue
        argument = function.operands[0]
        if function.kind == "erf" and _is(_scaled(sweep, argument, x), math.sqrt(0.5)):
            return _function(sweep, op, "gelu", x)
        if function.kind == "tanh" and _is_tanh_argument(sweep, argument, x):
            return _function(sweep, op, "gelu_tanh", x)
    return None


def _is_tanh_argument(sweep: Sweep, value: Value, x: Value) -> bool:
    """Whether ``value`` is sqrt(2 / pi) * (x + 0.044715 * x**3)."""
    product = sweep.producer(value, "mul")
    if product is None or not _is(sweep.number(product.operands[1]), math.sqrt(2.0 / math.pi)):
        return False
    total = sweep.producer(product.operands[0], "add")
    if total is None or x not in total.operands:
        return False
    cubic = total.operands[1] if total.operands[0] == x else total.operands[0]
    factors = _factors(sweep, sweep.producer(cubic, "mul"))
    return _is(factors.number, 0.044715) and (factors.values == [x] * 3)


class _Factors:
    """A product taken apart: the number in it, and the values."""

    def __init__(self) -> None:
        self.number = 1.0
        self.values: list[Value] = []


def _factors(sweep: Sweep, op: Op | None) -> _Factors:
    factors = _Factors()
    rest = [] if op is None else list(op.operands)
    while rest and len(factors.values) < 4:
        value = rest.pop(0)
        number = sweep.number(value)
        inner = sweep.producer(value, "mul", "power")
        if number is not None:
            factors.number *= number
        elif inner is None:
            factors.values.append(value)
        elif inner.kind == "mul":
            rest = [*inner.operands, *rest]
        elif inner.number("exponent") in (2.0, 3.0):
            factors.values += [inner.operands[0]] * int(inner.number("exponent"))
        else:
            factors.values.append(value)
    return factors


def _is(number: float | None, expected: float) -> bool:
    """Equal but for the rounding of constants, which models store with few digits at times."""
    return number is not None and math.isclose(number, expected, rel_tol=1e-4)


RULES: Mapping[str, Sequence[Rule]] = {"mul": [_silu, _mish, _gelu]}
