"""Elementwise operators."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value

_UNARY = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Celu": "celu",
    "Elu": "elu",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_swish",
    "LeakyRelu": "leaky_relu",
    "Log": "log",
    "Mish": "mish",
    "Neg": "neg",
    "Relu": "relu",
    "Round": "round",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Swish": "silu",
    "Tanh": "tanh",
    "ThresholdedRelu": "thresholded_relu",
}
_PARAMETERS = ("alpha", "beta", "gamma")
"""Attributes that ONNX and the ops here call the same."""

_BINARY = {"Add": "add", "Div": "div", "Mul": "mul", "Sub": "sub"}


@handler(*_UNARY)
def unary(node: Node) -> Value:
    attributes: dict[str, Any] = {name: node.number(name) for name in _PARAMETERS if node.attribute(name) is not None}
    return node.result(_UNARY[node.op_type], node.value(0), **attributes)


@handler("Gelu")
def gelu(node: Node) -> Value:
    return node.result("gelu_tanh" if node.string("approximate") == "tanh" else "gelu", node.value(0))


@handler(*_BINARY)
def binary(node: Node) -> Value:
    return node.result(_BINARY[node.op_type], node.value(0), node.value(1))


@handler("PRelu")
def prelu(node: Node) -> Value:
    x, slope = node.value(0), node.known(1)
    if slope.size == 1:
        return node.result("leaky_relu", x, alpha=float(slope.reshape(())))
    return node.result("prelu", x, node.constant(slope, node.operand_name(1)))


@handler("Clip")
def clip(node: Node) -> Value:
    if node.version < 11:
        bounds = [node.number("min"), node.number("max")]
    else:
        bounds = [_bound(node, 1, -np.inf), _bound(node, 2, np.inf)]
    # The old defaults stand for "no bound".
    limits = np.finfo(np.float32)
    low = -np.inf if bounds[0] <= limits.min else bounds[0]
    high = np.inf if bounds[1] >= limits.max else bounds[1]
    return node.result("clip", node.value(0), min=low, max=high)


def _bound(node: Node, index: int, default: float) -> float:
    return float(node.known(index).reshape(())) if node.given(index) else default


@handler("Max", "Min")
def extremum(node: Node) -> Tensor:
    """Against known scalars a clip."""
    computed = [tensor for tensor in node.inputs if isinstance(tensor, Value)]
    known = [tensor for tensor in node.inputs if isinstance(tensor, np.ndarray)]
    if len(computed) == 1 and known and all(array.size == 1 and array.ndim <= computed[0].type.rank for array in known):
        numbers = [float(array.reshape(())) for array in known]
        bound: dict[str, Any] = {"min": max(numbers)} if node.op_type == "Max" else {"max": min(numbers)}
        return node.result("clip", computed[0], **bound)
    kind = "maximum" if node.op_type == "Max" else "minimum"
    return _joined(node, kind, [node.value(i) for i in range(len(node.inputs))])


def _joined(node: Node, kind: str, operands: list[Value]) -> Value:
    """The operands joined from left to right by a binary op, as the node's result."""
    if len(operands) == 1:
        return operands[0]
    return node.result(kind, reduce(lambda a, b: node.step(kind, a, b), operands[:-1]), operands[-1])


@handler("Sum", "Mean")
def total(node: Node) -> Tensor:
    operands = [node.value(i) for i in range(len(node.inputs))]
    if node.op_type == "Sum" or len(operands) == 1:
        return _joined(node, "add", operands)
    summed = reduce(lambda a, b: node.step("add", a, b), operands)
    return node.result("mul", summed, node.constant(np.float32(1 / len(operands))))


@handler("Pow")
def power(node: Node) -> Tensor:
    x, exponent = node.value(0), node.known(1)
    if exponent.ndim > x.type.rank or exponent.size != 1:
        raise Unsupported("only a scalar exponent is supported")
    number = float(exponent.reshape(()))
    if number == 1:
        return x
    if number == 0.5:
        return node.result("sqrt", x)
    if 2 * number % 1 or abs(number) > 8:
        raise Unsupported(f"the exponent is {number:g}", "a multiple of 0.5 between -8 and 8")
    return node.result("power", x, exponent=number)


@handler("Reciprocal")
def reciprocal(node: Node) -> Value:
    return node.result("div", node.constant(np.float32(1)), node.value(0))
