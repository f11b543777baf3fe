"""Comparisons, logic and choices. Truth values are float32 numbers here: 1 is true, 0 is false."""

from __future__ import annotations

import numpy as np

from sqc.frontend.node import Node
from sqc.frontend.table import handler
from sqc.ir import Value

_COMPARISONS = {
    "Equal": ("equal", False),
    "Greater": ("greater", False),
    "GreaterOrEqual": ("greater_or_equal", False),
    "Less": ("greater", True),
    "LessOrEqual": ("greater_or_equal", True),
}
"""The op that compares, and whether it takes the operands the other way round."""


@handler(*_COMPARISONS)
def comparison(node: Node) -> Value:
    kind, turned = _COMPARISONS[node.op_type]
    operands = [_operand(node, 0), _operand(node, 1)]
    return node.result(kind, *(reversed(operands) if turned else operands))


@handler("Not")
def negation(node: Node) -> Value:
    return node.result("sub", node.constant(np.float32(1)), _operand(node, 0))


_LOGIC = {"And": "minimum", "Or": "maximum"}


@handler(*_LOGIC)
def logic(node: Node) -> Value:
    return node.result(_LOGIC[node.op_type], _operand(node, 0), _operand(node, 1))


@handler("Xor")
def exclusive_or(node: Node) -> Value:
    return node.result("abs", node.step("sub", _operand(node, 0), _operand(node, 1)))


@handler("Where")
def where(node: Node) -> Value:
    return node.result("where", *(_operand(node, i) for i in range(3)))


def _operand(node: Node, index: int) -> Value:
    tensor = node.tensor(index)
    if isinstance(tensor, np.ndarray) and tensor.dtype == np.bool_:
        return node.constant(tensor.astype(np.float32), node.operand_name(index))
    return node.value(index)
