"""Gemm and MatMul: by a constant matrix as fully connected layers, else as products of two activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sqc.frontend.node import Node, Unsupported
from sqc.frontend.quantized import Constant, rearranged
from sqc.frontend.table import handler
from sqc.ir import Value


@handler("Gemm")
def gemm(node: Node) -> Value:
    """``alpha * op(A) @ op(B) + beta * C`` with a constant B."""
    alpha, beta = node.number("alpha"), node.number("beta")
    x = node.value(0)
    if x.type.rank != 2:
        raise Unsupported(f"its operand A has rank {x.type.rank}", "rank 2")
    if node.integer("transA"):
        x = node.step("transpose", x, perm=(1, 0))
    if isinstance(node.tensor(1), Value):
        return _computed_gemm(node, x, alpha, beta)
    weights = node.parameter(1) if alpha == 1 else _scaled(node.known(1), alpha)
    transposed = bool(node.integer("transB"))
    if transposed and alpha == 1:
        w = node.value(1)
    else:
        oriented = weights if transposed else rearranged(weights, np.transpose)
        w = node.constant(oriented, f"{node.operand_name(1)}/weights")
    if not node.given(2) or beta == 0:
        return node.result("fully_connected", x, w)
    c, outputs = node.tensor(2), w.type.shape[0]
    if isinstance(c, np.ndarray) and c.size in (1, outputs) and c.shape[-1:] in ((), (1,), (outputs,)):
        return node.result("fully_connected", x, w, _bias(node, outputs, beta))
    return _plus(node, node.step("fully_connected", x, w), beta)


def _computed_gemm(node: Node, a: Value, alpha: float, beta: float) -> Value:
    """``alpha * A @ op(B) + beta * C`` of matrices that are all computed."""
    if alpha != 1:
        a = node.step("mul", a, node.constant(np.float32(alpha)))
    perm_b = (1, 0) if node.integer("transB") else ()
    if not node.given(2) or beta == 0:
        return node.result("matmul", a, node.value(1), perm_b=perm_b)
    return _plus(node, node.step("matmul", a, node.value(1), perm_b=perm_b), beta)


def _plus(node: Node, y: Value, beta: float) -> Value:
    added = node.value(2)
    if beta != 1:
        added = node.step("mul", added, node.constant(np.float32(beta)))
    return node.result("add", y, added)


def _bias(node: Node, outputs: int, beta: float) -> Value:
    c = node.known(2)
    if c.shape == (outputs,) and beta == 1:
        return node.value(2)
    return node.constant(np.broadcast_to(_scaled(c.reshape(-1), beta), (outputs,)), f"{node.operand_name(2)}/bias")


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return array if factor == 1 else (array * np.float64(factor)).astype(np.float32)


@handler("MatMul")
def matmul(node: Node) -> Value:
    a, b = node.tensor(0), node.tensor(1)
    if isinstance(a, Value) and (isinstance(b, Value) or math.prod(b.shape[:-2]) != 1):
        return product(node, "matmul", a, node.value(1))
    if isinstance(a, Value):
        return by_constant(node, a, node.parameter(1), node.operand_name(1), node.result)
    if a.ndim != 2:
        return product(node, "matmul", node.value(0), node.value(1))
    return _constant_by(node, node.value(1))


def product(
    node: Node, kind: str, a: Value, b: Value, *zero_points: Value, emit: Callable[..., Value] | None = None
) -> Value:
    """A product of matrices that are computed, or a constant batch, as the node's result, or by ``emit``.

    Vectors become matrices.
    """
    emit = emit or node.result
    vectors = a.type.rank == 1, b.type.rank == 1
    if vectors[0]:
        a = node.step("reshape", a, shape=(1, *a.type.shape))
    if vectors[1]:
        b = node.step("reshape", b, shape=(*b.type.shape, 1))
    if a.type.shape[-1:] != b.type.shape[-2:-1]:
        raise Unsupported(f"operands of shapes {list(a.type.shape)} and {list(b.type.shape)} do not fit")
    if not any(vectors):
        return emit(kind, a, b, *zero_points)
    y = node.step(kind, a, b, *zero_points)
    *batch, rows, columns = y.type.shape
    kept = [extent for extent, vector in zip((rows, columns), vectors, strict=True) if not vector]
    return emit("reshape", y, shape=(*batch, *kept))


def by_constant(node: Node, x: Value, matrix: Constant, name: str, emit: Callable[..., Value]) -> Value:
    """``x[..., K] @ matrix[K, N]`` as one fully connected layer on ``[prod(...), K]``."""
    shape, rank = x.type.shape, len(matrix.shape)
    depth = matrix.shape[max(rank - 2, 0)] if rank else 0
    if math.prod(matrix.shape[:-2]) != 1:
        raise Unsupported(f"its constant operand is a batch of matrices {list(matrix.shape)}", "one matrix")
    if shape[-1:] != (depth,):
        raise Unsupported(f"operands of shapes {list(shape)} and {list(matrix.shape)} do not fit")
    w = node.constant(rearranged(matrix, lambda array: array.reshape(depth, -1).T), f"{name}/weights")
    if rank == 2 and len(shape) == 2:
        return emit("fully_connected", x, w)
    rows = node.step("reshape", x, shape=(math.prod(shape[:-1]), depth)) if len(shape) != 2 else x
    leading = (1,) * max(rank - max(len(shape), 2), 0)
    result = leading + shape[:-1] + (matrix.shape[-1:] if rank > 1 else ())
    return emit("reshape", node.step("fully_connected", rows, w), shape=result)


def _constant_by(node: Node, x: Value) -> Value:
    """``matrix[M, K] @ x[..., K, N]``, computed transposed."""
    matrix, shape = node.known(0), x.type.shape
    if len(shape) < 2:
        return product(node, "matmul", node.value(0), x)
    swap = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    columns = node.step("transpose", x, perm=swap)
    if len(shape) == 2:
        return node.result("transpose", node.step("fully_connected", columns, node.value(0)), perm=swap)
    rows = node.step("reshape", columns, shape=(math.prod(columns.type.shape[:-1]), shape[-2]))
    y = node.step("fully_connected", rows, node.value(0))
    return node.result("transpose", node.step("reshape", y, shape=(*shape[:-2], shape[-1], matrix.shape[0])), perm=swap)
