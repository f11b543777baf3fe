"""Operators of ONNX whose scales or zero points are found at run time: DynamicQuantizeLinear, MatMulInteger."""

from __future__ import annotations

import numpy as np

from sqc.frontend.linear import product
from sqc.frontend.node import Node, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value


@handler("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> tuple[Value, Value, Value]:
    """Levels, their scale and their zero point, of the whole tensor."""
    x = node.value(0)
    vector = x if x.type.rank else node.step("reshape", x, shape=(1,))
    pair = node.step("dynamic_parameters", vector, per_row=False)
    levels = node.step("dynamic_quantize", vector, pair)
    scale, zero_point = (node.step("slice", pair, axes=(0,), starts=(i,), ends=(i + 1,), steps=(1,)) for i in range(2))
    zero_point = node.step("reshape", zero_point, shape=())
    return (
        node.result("reshape", levels, shape=x.type.shape),
        node.result("reshape", scale, output=1, shape=()),
        node.result("quantize", zero_point, output=2, scale=1.0, zero_point=0, dtype="uint8"),
    )


@handler("MatMulInteger")
def matmul_integer(node: Node) -> Value:
    """Levels times levels, each less its zero point, which may be computed."""
    a, b = _levels(node, 0), _levels(node, 1)
    return product(node, "qmatmul", a, b, _zero_point(node, 2, 0), _zero_point(node, 3, 1))


def _levels(node: Node, index: int) -> Value:
    """An operand as u8; constants of s8 are moved up by 128."""
    tensor = node.tensor(index)
    if isinstance(tensor, np.ndarray):
        moved = (tensor.astype(np.int16) + _shift(node, index)).astype(np.uint8)
        return node.constant(moved, f"{node.operand_name(index)}/levels")
    if tensor.type.dtype != "uint8":
        raise Unsupported(f"it reads computed {tensor.type.dtype}", "uint8")
    return tensor


def _zero_point(node: Node, index: int, operand: int) -> Value:
    if not node.given(index):
        return node.constant(np.array(_shift(node, operand), np.uint8), f"{node.operand_name(operand)}/zero_point")
    tensor = node.tensor(index)
    if isinstance(tensor, Value):
        if tensor.type.size != 1 or tensor.type.dtype != "uint8":
            raise Unsupported(f"a computed zero point is {tensor.type}", "one of uint8")
        return tensor
    if tensor.size != 1:
        raise Unsupported("it has a zero point for each row or column", "one zero point for each operand")
    moved = (tensor.astype(np.int16).reshape(()) + _shift(node, operand)).astype(np.uint8)
    return node.constant(np.asarray(moved), f"{node.operand_name(index)}/zero_point")


def _shift(node: Node, index: int) -> int:
    """How far the levels of an operand, and its zero point, move to be u8."""
    tensor = node.tensor(index)
    return 128 if isinstance(tensor, np.ndarray) and tensor.dtype == np.int8 else 0
