"""Elementwise operators: unary functions, clip, arithmetic and comparisons with broadcasting, the integer product."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from sqc.ir import Op, TensorType, define
from sqc.ops.quantization import ROUNDED, clamp, quantized_type
from sqc.ops.shapes import broadcast, require_dtype

Function: TypeAlias = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]


def _hard_sigmoid(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(np.clip(attributes["alpha"] * x + attributes["beta"], 0.0, 1.0))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a non-positive number never overflows.
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0 / (1.0 + decay), decay / (1.0 + decay)))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf, otypes=[x.dtype])(x))


def _gelu(x: np.ndarray) -> np.ndarray:
    """``x * Phi(x)``, which does not cancel for negative ``x``."""
    # In float64, for the exponential behind erfc would magnify a rounding error of its argument.
    t = x.astype(np.float64) * -math.sqrt(0.5)
    return np.asarray(0.5 * x * np.vectorize(math.erfc, otypes=[np.float64])(t))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    # (1 + tanh(t)) / 2 = sigmoid(2 t)
    return np.asarray(x * _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


UNARY: dict[str, tuple[Mapping[str, float], Function]] = {
    "relu": ({}, lambda x, a: np.maximum(x, 0.0)),
    "clip": ({"min": -np.inf, "max": np.inf}, lambda x, a: np.minimum(np.maximum(x, a["min"]), a["max"])),
    "sigmoid": ({}, lambda x, a: _sigmoid(x)),
    "tanh": ({}, lambda x, a: np.tanh(x)),
    "hard_sigmoid": ({"alpha": 0.2, "beta": 0.5}, _hard_sigmoid),
    "hard_swish": ({}, lambda x, a: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    "leaky_relu": ({"alpha": 0.01}, lambda x, a: np.where(x >= 0, x, a["alpha"] * x)),
    "elu": ({"alpha": 1.0}, lambda x, a: _elu(x, a["alpha"])),
    "celu": ({"alpha": 1.0}, lambda x, a: a["alpha"] * _elu(x / a["alpha"], 1.0)),
    "selu": (
        {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
        lambda x, a: a["gamma"] * _elu(x, a["alpha"]),
    ),
    "thresholded_relu": ({"alpha": 1.0}, lambda x, a: np.where(x > a["alpha"], x, 0.0)),
    "silu": ({"alpha": 1.0}, lambda x, a: x * _sigmoid(a["alpha"] * x)),
    "gelu": ({}, lambda x, a: _gelu(x)),
    "gelu_tanh": ({}, lambda x, a: _gelu_tanh(x)),
    "mish": ({}, lambda x, a: x * np.tanh(_softplus(x))),
    "softplus": ({}, lambda x, a: _softplus(x)),
    "softsign": ({}, lambda x, a: x / (1.0 + np.abs(x))),
    "erf": ({}, lambda x, a: _erf(x)),
    "exp": ({}, lambda x, a: np.exp(x)),
    "log": ({}, lambda x, a: np.log(x)),
    "power": ({"exponent": 2.0}, lambda x, a: np.power(x, x.dtype.type(a["exponent"]))),
    "sqrt": ({}, lambda x, a: np.sqrt(x)),
    "floor": ({}, lambda x, a: np.floor(x)),
    "ceil": ({}, lambda x, a: np.ceil(x)),
    "round": ({}, lambda x, a: np.rint(x)),
    "sign": ({}, lambda x, a: np.sign(x)),
    "abs": ({}, lambda x, a: np.abs(x)),
    "neg": ({}, lambda x, a: -x),
}
"""Unary functions by kind: attributes with defaults, and the function, exact for float32 and float64 arrays."""

BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "prelu": lambda x, slope: np.where(x >= 0, x, slope * x),
}

COMPARISONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "equal": np.equal,
    "greater": np.greater,
    "greater_or_equal": np.greater_equal,
}
"""Their results are float32: 1 where it is so, else 0."""


def _infer_unary(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    if "exponent" in attributes and (2 * attributes["exponent"] % 1 or abs(attributes["exponent"]) > 8):
        raise ValueError(f"the exponent {attributes['exponent']} is no multiple of 0.5 between -8 and 8")
    return types[0]


def _unary_reference(function: Function) -> Callable[[Op, Sequence[np.ndarray]], np.ndarray]:
    return lambda op, arrays: np.asarray(function(arrays[0], op.attributes), dtype=np.float32)


def _infer_binary(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    return TensorType(broadcast(types[0].shape, types[1].shape), "float32")


def _binary_reference(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[Op, Sequence[np.ndarray]], np.ndarray]:
    return lambda op, arrays: function(arrays[0], arrays[1]).astype(np.float32, copy=False)


def _infer_comparison(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32", "int32", "int64")
    require_dtype(types[1], types[0].dtype)
    return TensorType(broadcast(types[0].shape, types[1].shape), "float32")


def _infer_where(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    condition, x, y = (type.shape for type in types)
    return TensorType(broadcast(condition, broadcast(x, y)), "float32")


def _infer_qmul(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "uint8")
    return TensorType(broadcast(types[0].shape, types[1].shape), "int32")


def _qmul(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    a, b = (
        array.astype(np.int32) - operand.type.zero_point for array, operand in zip(arrays, op.operands, strict=True)
    )
    return a * b


def _infer_qprelu(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x, *multipliers = types
    require_dtype(x, "uint8")
    for type in multipliers:
        require_dtype(type, "float32")
        if broadcast(x.shape, type.shape) != x.shape:
            raise ValueError("the multipliers do not broadcast to the levels")
    return quantized_type(x.shape, "uint8", attributes)


def _qprelu(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x, above, below = arrays
    zero_point = op.integer("zero_point")
    centred = x.astype(np.int32) - op.operands[0].type.zero_point
    t = np.rint(centred.astype(np.float32) * np.where(centred >= 0, above, below))
    t = clamp(t, op.integer("lo") - zero_point, op.integer("hi") - zero_point)
    return (t.astype(np.int32) + zero_point).astype(np.uint8)


for _kind, (_attributes, _function) in UNARY.items():
    define(_kind, arity=1, attributes=_attributes, infer=_infer_unary, reference=_unary_reference(_function))
for _kind, _operation in BINARY.items():
    define(_kind, arity=2, infer=_infer_binary, reference=_binary_reference(_operation))
for _kind, _operation in COMPARISONS.items():
    define(_kind, arity=2, infer=_infer_comparison, reference=_binary_reference(_operation))
define("where", arity=3, infer=_infer_where, reference=lambda op, arrays: np.where(arrays[0] != 0, *arrays[1:]))
define("qprelu", arity=3, attributes=ROUNDED, infer=_infer_qprelu, reference=_qprelu)
define("qmul", arity=2, infer=_infer_qmul, reference=_qmul)
