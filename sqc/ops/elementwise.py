"""Elementwise operators: unary functions, clip, arithmetic with broadcasting, the integer product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from sqc.ir import Op, TensorType, define
from sqc.ops.shapes import broadcast, require_dtype

Function: TypeAlias = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]


def _hard_sigmoid(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(np.clip(attributes["alpha"] * x + attributes["beta"], 0.0, 1.0))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a non-positive number never overflows.
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0 / (1.0 + decay), decay / (1.0 + decay)))


UNARY: dict[str, tuple[Mapping[str, float], Function]] = {
    "relu": ({}, lambda x, a: np.maximum(x, 0.0)),
    "clip": ({"min": -np.inf, "max": np.inf}, lambda x, a: np.minimum(np.maximum(x, a["min"]), a["max"])),
    "sigmoid": ({}, lambda x, a: _sigmoid(x)),
    "tanh": ({}, lambda x, a: np.tanh(x)),
    "hard_sigmoid": ({"alpha": 0.2, "beta": 0.5}, _hard_sigmoid),
    "hard_swish": ({}, lambda x, a: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    "leaky_relu": ({"alpha": 0.01}, lambda x, a: np.where(x >= 0, x, a["alpha"] * x)),
    "elu": ({"alpha": 1.0}, lambda x, a: np.where(x >= 0, x, a["alpha"] * np.expm1(np.minimum(x, 0.0)))),
    "exp": ({}, lambda x, a: np.exp(x)),
    "sqrt": ({}, lambda x, a: np.sqrt(x)),
    "abs": ({}, lambda x, a: np.abs(x)),
    "neg": ({}, lambda x, a: -x),
}
"""Unary functions by kind: attributes with defaults, and the function, exact for float32 and float64 arrays."""

BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}


def _infer_unary(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
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
    return lambda op, arrays: function(arrays[0], arrays[1])


def _infer_qmul(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "uint8")
    return TensorType(broadcast(types[0].shape, types[1].shape), "int32")


def _qmul(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    a, b = (
        array.astype(np.int32) - operand.type.zero_point for array, operand in zip(arrays, op.operands, strict=True)
    )
    return a * b


for _kind, (_attributes, _function) in UNARY.items():
    define(_kind, arity=1, attributes=_attributes, infer=_infer_unary, reference=_unary_reference(_function))
for _kind, _operation in BINARY.items():
    define(_kind, arity=2, infer=_infer_binary, reference=_binary_reference(_operation))
define("qmul", arity=2, infer=_infer_qmul, reference=_qmul)
