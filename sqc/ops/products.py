"""Matrix products of two computed operands, float and integer, over batches of matrices that broadcast.

``y = transpose(matmul(transpose(a, perm_a), transpose(b, perm_b)), perm_y)``, where ``matmul`` is numpy's on operands
of at least two axes, and an empty permutation changes nothing. The last axis of the product stays last. Zero points of
the integer product are those of the operands' types, or two further operands: u8, of one element each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, TensorType, define
from sqc.ops.quantization import LIMITS
from sqc.ops.shapes import broadcast, require_dtype

PERMUTATIONS: Mapping[str, tuple[int, ...]] = {"perm_a": (), "perm_b": (), "perm_y": ()}
"""The attributes of products, with their defaults."""


def permutation(perm: Sequence[int], rank: int) -> tuple[int, ...]:
    """``perm`` written out. Raises ValueError if it is none of ``rank`` axes."""
    full = tuple(perm) or tuple(range(rank))
    if sorted(full) != list(range(rank)):
        raise ValueError(f"{list(full)} is no permutation of {rank} axes")
    return full


def product_shapes(
    a: Sequence[int], b: Sequence[int], attributes: Mapping[str, Any]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The shapes of operands and result as ``matmul`` sees them. Raises ValueError where they don't fit."""
    if min(len(a), len(b)) < 2:
        raise ValueError("needs operands of at least two axes")
    left, right = (
        tuple(shape[axis] for axis in permutation(attributes[name], len(shape)))
        for shape, name in ((a, "perm_a"), (b, "perm_b"))
    )
    if left[-1] != right[-2]:
        raise ValueError(f"matrices of {left[-2]}x{left[-1]} and {right[-2]}x{right[-1]} elements do not fit")
    return left, right, (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])


def permutations(op: Op) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The permutations of a product's operands and of its result, written out."""
    a, b, y = (value.type.rank for value in (*op.operands[:2], op.result))
    return (
        permutation(op.integers("perm_a"), a),
        permutation(op.integers("perm_b"), b),
        permutation(op.integers("perm_y"), y),
    )


def _shape(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> tuple[int, ...]:
    *_, shape = product_shapes(types[0].shape, types[1].shape, attributes)
    perm = permutation(attributes["perm_y"], len(shape))
    if perm[-1] != len(shape) - 1:
        raise ValueError("perm_y must leave the last axis where it is")
    return tuple(shape[axis] for axis in perm)


def _infer_float(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "float32")
    return TensorType(_shape(types, attributes), "float32")


def _infer_integer(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    for type in types:
        require_dtype(type, "uint8")
    if len(types) == 3 or any(type.size != 1 for type in types[2:]):
        raise ValueError("needs two single zero points, or none")
    shape = _shape(types, attributes)
    depth = product_shapes(types[0].shape, types[1].shape, attributes)[0][-1]
    if depth * 255**2 > LIMITS["int32"][1]:
        raise ValueError(f"sums of {depth} products could leave 32 bits")
    return TensorType(shape, "int32")


def _multiply(op: Op, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    perm_a, perm_b, perm_y = permutations(op)
    y = np.matmul(a.transpose(perm_a), b.transpose(perm_b))
    return np.ascontiguousarray(y.transpose(perm_y))


def _float(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    return _multiply(op, *arrays)


def _integer(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    a, b, *given = (array.astype(np.float64) for array in arrays)
    z_a, z_b = (z.item() for z in given) if given else (operand.type.zero_point for operand in op.operands)
    return _multiply(op, a - z_a, b - z_b).astype(np.int32)


define("matmul", arity=2, attributes=PERMUTATIONS, infer=_infer_float, reference=_float)
define("qmatmul", arity=(2, 4), attributes=PERMUTATIONS, infer=_infer_integer, reference=_integer)
