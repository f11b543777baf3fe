"""Float functions of one variable as expressions: every rounding is written out, so that their bits never vary.

Products that feed a sum are fenced or explicit FMAs; exponentials are polynomials, for kernels call no libm. Errors
stay below 1e-6 of the result. NaN goes in and out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sqc.schedules._tvm import fence, fma, te, tirx

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr

_LOG2E = 1.4426950408889634
# ln 2 in two parts: products of the first, which has few bits, with small integers are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_TERMS = [1.0 / math.factorial(n) for n in range(8)]


def constant(value: float) -> Expr:
    return te.const(value, "float32")


def bind(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """``body`` of a value that is computed once, however often ``body`` reads it.

    What a function here returns may hold such bindings, and must then not be used twice without another.
    """
    if isinstance(value, tirx.Var):
        return body(value)
    variable = tirx.Var("t", value.ty.dtype)
    return tirx.Let(variable, value, body(variable))


def at_most(x: Expr, limit: float) -> Expr:
    """``min(x, limit)`` that keeps NaN, as numpy does."""
    return bind(x, lambda t: tirx.Select(t > constant(limit), constant(limit), t))


def at_least(x: Expr, limit: float) -> Expr:
    """``max(x, limit)`` that keeps NaN, as numpy does."""
    return bind(x, lambda t: tirx.Select(t < constant(limit), constant(limit), t))


def relu(x: Expr) -> Expr:
    return at_least(x, 0.0)


def clip(x: Expr, low: float, high: float) -> Expr:
    return at_most(at_least(x, low), high)


def _polynomial(r: Expr, coefficients: list[float]) -> Expr:
    """Horner's rule, highest coefficient last."""
    total = constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, r, constant(coefficient))
    return total


def _reduced(x: Expr, body: Callable[[Expr, Expr, Expr], Expr]) -> Expr:
    """``body(n, r)`` with ``x = n ln 2 + r``, |r| < 0.35; ``n`` as an integer, which is arbitrary where x is NaN."""

    def parts(n: Expr) -> Expr:
        r = fma(n, constant(-_LN2_LOW), fma(n, constant(-_LN2_HIGH), x))
        return bind(r, lambda r: bind(te.max(n, constant(-200.0)).astype("int32"), lambda k: body(k, r, n)))

    return bind(te.round(x * constant(_LOG2E)), parts)


def _power_of_two(n: Expr) -> Expr:
    return tirx.reinterpret("float32", (n + 127) << 23)


def exp(x: Expr) -> Expr:
    def body(n: Expr, r: Expr, _: Expr) -> Expr:
        # In two steps, because results can be subnormal, or overflow, where 2**n alone does.
        half = n >> 1
        return _polynomial(r, _TERMS) * _power_of_two(half) * _power_of_two(n - half)

    return bind(at_most(at_least(x, -104.0), 89.0), lambda t: _reduced(t, body))


def expm1(x: Expr) -> Expr:
    """``exp(x) - 1`` for ``x <= 80``, also accurate next to 0."""

    def body(n: Expr, r: Expr, _: Expr) -> Expr:
        power = _power_of_two(n)
        return fma(power, fma(fence(r * r), _polynomial(r, _TERMS[2:]), r), power - constant(1.0))

    return bind(at_least(x, -18.0), lambda t: _reduced(t, body))


def sigmoid(x: Expr) -> Expr:
    def body(decay: Expr) -> Expr:
        return tirx.Select(x < constant(0.0), decay, constant(1.0)) / (decay + constant(1.0))

    return bind(exp(constant(0.0) - te.abs(x)), body)


def tanh(x: Expr) -> Expr:
    def body(t: Expr) -> Expr:
        return t / (t + constant(2.0)) * tirx.Select(x < constant(0.0), constant(-1.0), constant(1.0))

    return bind(expm1(at_most(te.abs(x), 10.0) * constant(2.0)), body)


def elu(x: Expr, alpha: float) -> Expr:
    return tirx.Select(x < constant(0.0), expm1(at_most(x, 0.0)) * constant(alpha), x)


def _hard_sigmoid(x: Expr, a: Mapping[str, float]) -> Expr:
    return clip(fence(x * constant(a["alpha"])) + constant(a["beta"]), 0.0, 1.0)


def _leaky_relu(x: Expr, a: Mapping[str, float]) -> Expr:
    return tirx.Select(x < constant(0.0), x * constant(a["alpha"]), x)


UNARY: dict[str, Callable[[Expr, Mapping[str, float]], Expr]] = {
    "relu": lambda x, a: relu(x),
    "clip": lambda x, a: clip(x, a["min"], a["max"]),
    "sigmoid": lambda x, a: sigmoid(x),
    "tanh": lambda x, a: tanh(x),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x, a: x * clip(x / constant(6.0) + constant(0.5), 0.0, 1.0),
    "leaky_relu": _leaky_relu,
    "elu": lambda x, a: elu(x, a["alpha"]),
    "exp": lambda x, a: exp(x),
    "sqrt": lambda x, a: te.sqrt(x),
    "abs": lambda x, a: te.abs(x),
    "neg": lambda x, a: x * constant(-1.0),
}
"""The kinds of ``sqc.ops.elementwise.UNARY``: expression of the operand and the attributes."""

BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}
"""The kinds of ``sqc.ops.elementwise.BINARY``."""


def evaluate_unary(kind: str, x: Expr, attributes: Mapping[str, float]) -> Expr:
    """The function ``kind`` of ``x``; the result cannot be contracted with what follows."""
    return bind(x, lambda t: fence(UNARY[kind](t, attributes)))


def evaluate_binary(kind: str, a: Expr, b: Expr) -> Expr:
    """``a kind b``; the result cannot be contracted with what follows."""
    return fence(BINARY[kind](a, b))
