"""Float functions of one variable as expressions: every rounding is written out, so that their bits never vary.

Products that feed a sum are fenced or explicit FMAs; exponentials, logarithms and error functions are polynomials, for
kernels call no libm. Errors stay below 1e-6 of the result (1e-5 in the tail of GELU's tanh form, which exponentiates a
rounded cubic). NaN goes in and out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from sqc.schedules._tvm import fence, fma, te, tirx

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr

_LOG2E = 1.4426950408889634
# ln 2 in two parts: products of the first, which has few bits, with small integers are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_TERMS = [1.0 / math.factorial(n) for n in range(8)]

_SQRT_HALF_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))
_ATANH = [2.0 / (2 * n + 1) for n in range(1, 9)]
# Least relative error over Chebyshev points, by numpy.polynomial against scipy.special.
_TAIL = [
    0.67240798, 0.33140418, 0.028799757, -0.036713008, -4.9764552e-4, 6.7011742e-3, -1.830586e-3, -7.7536004e-4,
    6.1284099e-4, -1.0928367e-4,
]  # fmt: skip
_ERF = [1.1283791, -0.37612626, 0.11283582, -0.026853692, 5.1880991e-3, -8.0081890e-4, 7.8472593e-5]


def constant(value: float) -> Expr:
    return te.const(value, "float32")


def bind(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """``body`` of a value that is computed once, however often ``body`` reads it.

    What a function here returns may hold such bindings, and must then not be used twice without another.
    """
    if isinstance(value, tirx.Var):
        # TVM replaces second names of variables within values of further bindings, which then differ from themselves.
        return body(value)
    variable = tirx.Var("t", value.ty.dtype)
    return tirx.Let(variable, value, body(variable))


def quotient(x: Expr, divisor: Expr, reciprocal: Expr) -> Expr:
    """``x / divisor``, correctly rounded, where ``reciprocal`` is the float32 next to ``1 / divisor``.

    Markstein's method: the first correction leaves less than a unit in the last place, from where the second is exact
    (Cornea, Harrison, Tang: Scientific Computing on Itanium-based Systems, theorem 8.1). Numbers must be finite and no
    remainder may underflow. A division takes as long as several such quotients.
    """

    def divided(x: Expr) -> Expr:
        def corrected(value: Expr) -> Expr:
            return bind(value, lambda q: fma(fma(-divisor, q, x), reciprocal, q))

        return corrected(corrected(fence(x * reciprocal)))

    return bind(x, divided)


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
    def body(x: Expr, decay: Expr) -> Expr:
        return tirx.Select(x < constant(0.0), decay, constant(1.0)) / (decay + constant(1.0))

    return bind(x, lambda x: bind(exp(constant(0.0) - te.abs(x)), lambda decay: body(x, decay)))


def tanh(x: Expr) -> Expr:
    def body(t: Expr) -> Expr:
        return t / (t + constant(2.0)) * tirx.Select(x < constant(0.0), constant(-1.0), constant(1.0))

    return bind(expm1(at_most(te.abs(x), 10.0) * constant(2.0)), body)


def elu(x: Expr, alpha: float) -> Expr:
    return bind(x, lambda x: tirx.Select(x < constant(0.0), expm1(at_most(x, 0.0)) * constant(alpha), x))


def silu(x: Expr, alpha: float) -> Expr:
    return x * sigmoid(x * constant(alpha))


def log(x: Expr) -> Expr:
    def split(t: Expr) -> Expr:
        # t = 2**n * m with m in [sqrt(1/2), sqrt(2))
        bits = tirx.reinterpret("int32", t)
        n = (bits - _SQRT_HALF_BITS) >> 23
        m = tirx.reinterpret("float32", bits - (n << 23))
        exponent = n.astype("float32") - tirx.Select(tiny, constant(23.0), constant(0.0))
        return bind(exponent, lambda n: bind(m - constant(1.0), lambda f: bind(f / (f + constant(2.0)), sum_of(n, f))))

    def sum_of(n: Expr, f: Expr) -> Callable[[Expr], Expr]:
        # log(1 + f) = 2 atanh(s) = f - s (f - z R(z)), s = f / (2 + f), z = s**2
        def total(s: Expr, z: Expr) -> Expr:
            small = fma(n, constant(_LN2_LOW), f - fence(s * (f - fence(z * _polynomial(z, _ATANH)))))
            return fma(n, constant(_LN2_HIGH), small)

        return lambda s: bind(fence(s * s), lambda z: total(s, z))

    def outside(value: Expr) -> Expr:
        edge = tirx.Select(x == constant(0.0), constant(-math.inf), constant(math.nan))
        return tirx.Select(x > constant(0.0), tirx.Select(x < constant(math.inf), value, x), edge)

    tiny = x < constant(2.0**-126)
    return bind(bind(x * tirx.Select(tiny, constant(2.0**23), constant(1.0)), split), outside)


def _log1p(u: Expr) -> Expr:
    """``log(1 + u)`` for ``0 <= u <= 1``: 2 atanh(u / (2 + u))."""

    def series(s: Expr) -> Expr:
        return bind(fence(s * s), lambda z: fence(s * fma(z, _polynomial(z, _ATANH), constant(2.0))))

    return bind(u / (u + constant(2.0)), series)


def softplus(x: Expr) -> Expr:
    return bind(exp(constant(0.0) - te.abs(x)), lambda u: at_least(x, 0.0) + _log1p(u))


def mish(x: Expr) -> Expr:
    def body(u: Expr) -> Expr:
        # tanh(log(1 + u)) = w / (w + 2) with w = u (u + 2)
        return bind(fence(u * (u + constant(2.0))), lambda w: x * (w / (w + constant(2.0))))

    return bind(exp(at_most(x, 20.0)), body)


def power(x: Expr, exponent: float) -> Expr:
    """``x ** exponent`` by products and a square root, for multiples of one half."""

    def product(x: Expr) -> Expr:
        factors = [x] * int(abs(exponent)) + [te.sqrt(x)] * (exponent % 1 != 0)
        result = factors[0] if factors else constant(1.0)
        for factor in factors[1:]:
            result = result * factor
        return constant(1.0) / result if exponent < 0 else result

    return bind(x, product)


def _normal_tail(a: Expr) -> Expr:
    """``erfc(a / sqrt(2))`` for ``a >= 0``: exp(-a**2 / 2) times a polynomial in 1 / (1 + a / 2)."""

    def tail(a: Expr) -> Expr:
        u = constant(1.0) / fma(a, constant(0.5), constant(1.0))
        scaled = bind(u, lambda u: fence(u * _polynomial(fma(u, constant(2.0), constant(-1.0)), _TAIL)))
        return fence(bind(fence(a * a), lambda square: decay(a, square)) * scaled)

    def decay(a: Expr, square: Expr) -> Expr:
        # The exponential would magnify the rounding error of the square.
        error = fma(a, a, constant(0.0) - square)
        return bind(exp(square * constant(-0.5)), lambda e: fma(e, error * constant(-0.5), e))

    return bind(at_most(a, 15.0), tail)


def erf(x: Expr) -> Expr:
    def body(magnitude: Expr) -> Expr:
        near = bind(fence(x * x), lambda s: x * _polynomial(s, _ERF))
        far = constant(1.0) - _normal_tail(magnitude * constant(math.sqrt(2.0)))
        signed = bind(far, lambda far: tirx.Select(x < constant(0.0), constant(0.0) - far, far))
        return tirx.Select(magnitude < constant(1.0), near, signed)

    return bind(te.abs(x), body)


def gelu(x: Expr) -> Expr:
    def body(half: Expr) -> Expr:
        return x * tirx.Select(x < constant(0.0), half, constant(1.0) - half)

    return bind(_normal_tail(te.abs(x)) * constant(0.5), body)


def gelu_tanh(x: Expr) -> Expr:
    inner = fma(fence(fence(x * x) * constant(0.044715)), x, x)
    return x * sigmoid(inner * constant(2.0 * math.sqrt(2.0 / math.pi)))


def _hard_sigmoid(x: Expr, a: Mapping[str, float]) -> Expr:
    return clip(fence(x * constant(a["alpha"])) + constant(a["beta"]), 0.0, 1.0)


def _extremum(a: Expr, b: Expr, wins: Callable[[Expr, Expr], Expr]) -> Expr:
    return bind(a, lambda a: bind(b, lambda b: tirx.Select(wins(a, b) | (a != a), a, b)))


def _sign(x: Expr) -> Expr:
    # What is neither is 0 or NaN.
    return tirx.Select(x > constant(0.0), constant(1.0), tirx.Select(x < constant(0.0), constant(-1.0), x))


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
    "celu": lambda x, a: elu(x / constant(a["alpha"]), 1.0) * constant(a["alpha"]),
    "selu": lambda x, a: elu(x, a["alpha"]) * constant(a["gamma"]),
    "thresholded_relu": lambda x, a: tirx.Select(x > constant(a["alpha"]), x, constant(0.0)),
    "silu": lambda x, a: silu(x, a["alpha"]),
    "gelu": lambda x, a: gelu(x),
    "gelu_tanh": lambda x, a: gelu_tanh(x),
    "mish": lambda x, a: mish(x),
    "softplus": lambda x, a: softplus(x),
    "softsign": lambda x, a: x / (te.abs(x) + constant(1.0)),
    "erf": lambda x, a: erf(x),
    "exp": lambda x, a: exp(x),
    "log": lambda x, a: log(x),
    "power": lambda x, a: power(x, a["exponent"]),
    "sqrt": lambda x, a: te.sqrt(x),
    "floor": lambda x, a: te.floor(x),
    "ceil": lambda x, a: te.ceil(x),
    "round": lambda x, a: te.round(x),
    "sign": lambda x, a: _sign(x),
    "abs": lambda x, a: te.abs(x),
    "neg": lambda x, a: x * constant(-1.0),
}
"""The kinds of ``sqc.ops.elementwise.UNARY``: expression of the operand and the attributes."""

BINARY: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": lambda a, b: _extremum(a, b, lambda a, b: a > b),
    "minimum": lambda a, b: _extremum(a, b, lambda a, b: a < b),
    "prelu": lambda a, b: bind(a, lambda a: tirx.Select(a < constant(0.0), b * a, a)),
}
"""The kinds of ``sqc.ops.elementwise.BINARY``."""

COMPARISONS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "equal": lambda a, b: tirx.EQ(a, b),
    "greater": lambda a, b: a > b,
    "greater_or_equal": lambda a, b: a >= b,
}
"""The kinds of ``sqc.ops.elementwise.COMPARISONS``, as conditions."""


def evaluate_unary(kind: str, x: Expr, attributes: Mapping[str, float]) -> Expr:
    """The function ``kind`` of ``x``; the result cannot be contracted with what follows."""
    return bind(x, lambda t: fence(UNARY[kind](t, attributes)))


def evaluate_binary(kind: str, a: Expr, b: Expr) -> Expr:
    """``a kind b``; the result cannot be contracted with what follows."""
    return fence(BINARY[kind](a, b))
