"""Batch normalization in its inference form, softmax, dropout."""

from __future__ import annotations

import math

from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value


@handler("BatchNormalization", ignores=("momentum",))
def batch_normalization(node: Node) -> Value:
    if node.integer("training_mode", 0) or any(node.needs(i) for i in range(1, node.output_count)):
        raise Unsupported("it is in training mode", "a model exported for inference")
    x = node.value(0)
    if x.type.rank < 2:
        raise Unsupported(f"its operand has rank {x.type.rank}", "rank 2 or more")
    for i in range(1, 5):
        node.known(i)
    parameters = [node.value(i) for i in range(1, 5)]
    return node.result("batch_norm", x, *parameters, epsilon=node.number("epsilon"), axis=1)


@handler("Softmax")
def softmax(node: Node) -> Value:
    x = node.value(0)
    (axis,) = node.axes([node.integer("axis")], x.type.rank)
    if node.version >= 13 or math.prod(x.type.shape[axis + 1 :]) == 1:
        return node.result("softmax", x, axis=axis)
    # Before operator set 13 the softmax runs over all axes from this one on.
    flat = node.step("reshape", x, shape=(math.prod(x.type.shape[:axis]), math.prod(x.type.shape[axis:])))
    return node.result("reshape", node.step("softmax", flat, axis=1), shape=x.type.shape)


@handler("Dropout", ignores=("ratio", "seed"))
def dropout(node: Node) -> Tensor:
    if node.needs(1):
        raise Unsupported("its output mask is used", "the output alone")
    if node.given(2) and node.known(2).any():
        raise Unsupported("it is in training mode", "a model exported for inference")
    return node.tensor(0)
