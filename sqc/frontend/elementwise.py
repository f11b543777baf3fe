"""Elementwise operators."""

from __future__ import annotations

from functools import reduce

import numpy as np

from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value

_UNARY = {
    "Abs": "abs",
    "Exp": "exp",
    "HardSwish": "hard_swish",
    "Neg": "neg",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
_BINARY = {"Add": "add", "Div": "div", "Mul": "mul", "Sub": "sub"}


@handler(*_UNARY)
def unary(node: Node) -> Value:
    return node.result(_UNARY[node.op_type], node.value(0))


@handler(*_BINARY)
def binary(node: Node) -> Value:
    return node.result(_BINARY[node.op_type], node.value(0), node.value(1))


@handler("HardSigmoid")
def hard_sigmoid(node: Node) -> Value:
    return node.result("hard_sigmoid", node.value(0), alpha=node.number("alpha"), beta=node.number("beta"))


@handler("LeakyRelu")
def leaky_relu(node: Node) -> Value:
    return node.result("leaky_relu", node.value(0), alpha=node.number("alpha"))


@handler("Elu")
def elu(node: Node) -> Value:
    return node.result("elu", node.value(0), alpha=node.number("alpha"))


@handler("PRelu")
def prelu(node: Node) -> Value:
    x, slope = node.value(0), node.known(1)
    if slope.size == 1:
        return node.result("leaky_relu", x, alpha=float(slope.reshape(())))
    below = node.step("relu", node.step("neg", x))
    return node.result("sub", node.step("relu", x), node.step("mul", below, node.constant(slope)))


@handler("Swish")
def swish(node: Node) -> Value:
    x, alpha = node.value(0), node.number("alpha")
    scaled = x if alpha == 1 else node.step("mul", x, node.constant(np.float32(alpha)))
    return node.result("mul", x, node.step("sigmoid", scaled))


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
def extremum(node: Node) -> Value:
    """Only against known scalars: a clip."""
    computed = [i for i, tensor in enumerate(node.inputs) if isinstance(tensor, Value)]
    scalars = [tensor for tensor in node.inputs if isinstance(tensor, np.ndarray)]
    if len(computed) != 1 or not scalars or any(scalar.size != 1 for scalar in scalars):
        raise Unsupported("only one computed operand and constant scalars are supported", "Clip")
    values = [float(scalar.reshape(())) for scalar in scalars]
    x = node.value(computed[0])
    _same_rank(x, scalars)
    return node.result("clip", x, min=max(values)) if node.op_type == "Max" else node.result("clip", x, max=min(values))


def _same_rank(x: Value, scalars: list[np.ndarray]) -> None:
    if any(scalar.ndim > x.type.rank for scalar in scalars):
        raise Unsupported("a constant of higher rank than the computed operand", "a scalar constant")


@handler("Sum", "Mean")
def total(node: Node) -> Tensor:
    operands = [node.value(i) for i in range(len(node.inputs))]
    count = len(operands)
    if count == 1:
        return operands[0]
    if node.op_type == "Sum":
        return node.result("add", reduce(lambda a, b: node.step("add", a, b), operands[:-1]), operands[-1])
    summed = reduce(lambda a, b: node.step("add", a, b), operands)
    return node.result("mul", summed, node.constant(np.float32(1 / count)))


@handler("Pow")
def power(node: Node) -> Tensor:
    x, exponent = node.value(0), node.known(1)
    if exponent.ndim > x.type.rank or exponent.size != 1:
        raise Unsupported("only a scalar exponent is supported")
    number = float(exponent.reshape(()))
    if number == 1:
        return x
    if number == 2:
        return node.result("mul", x, x)
    if number == 3:
        return node.result("mul", node.step("mul", x, x), x)
    if number == 0.5:
        return node.result("sqrt", x)
    raise Unsupported(f"the exponent is {number:g}", "0.5, 1, 2 or 3")


@handler("Reciprocal")
def reciprocal(node: Node) -> Value:
    return node.result("div", node.constant(np.float32(1)), node.value(0))
