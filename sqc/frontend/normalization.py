"""Batch normalization in its inference form, layer, instance and group normalization, softmax, dropout."""

from __future__ import annotations

import math

import numpy as np

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


@handler("LayerNormalization", ignores=("stash_type",))
def layer_normalization(node: Node) -> Value:
    if node.needs(1) or node.needs(2):
        raise Unsupported("its mean or deviation is used", "the first output alone")
    x = node.value(0)
    (first,) = node.axes([node.integer("axis")], x.type.rank)
    beta = node.known(2) if node.given(2) else np.zeros((), np.float32)
    return _normalize(node, x, tuple(range(first, x.type.rank)), node.known(1), beta)


@handler("InstanceNormalization")
def instance_normalization(node: Node) -> Value:
    x = node.value(0)
    channels = (-1, *[1] * (x.type.rank - 2))
    parameters = [node.known(i).reshape(channels) for i in (1, 2)]
    return _normalize(node, x, tuple(range(2, x.type.rank)), *parameters)


@handler("GroupNormalization", ignores=("stash_type",))
def group_normalization(node: Node) -> Value:
    x, groups = node.value(0), node.integer("num_groups")
    shape = x.type.shape
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise Unsupported(f"{groups} groups do not divide {x.type}")
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    channels = (groups, -1, *[1] * (len(shape) - 2))
    parameters = [node.known(i).reshape(channels) for i in (1, 2)]
    grouped = node.step("reshape", x, shape=split)
    y = _normalize(node, grouped, tuple(range(2, len(split))), *parameters, final=False)
    return node.result("reshape", y, shape=shape)


def _normalize(
    node: Node, x: Value, axes: tuple[int, ...], gamma: np.ndarray, beta: np.ndarray, *, final: bool = True
) -> Value:
    operands = [x, node.constant(gamma, "gamma"), node.constant(beta, "beta")]
    emit = node.result if final else node.step
    return emit("normalize", *operands, axes=axes, epsilon=node.number("epsilon"))


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
