"""What an op costs: its multiply-accumulates, and in which precision they are."""

from __future__ import annotations

import math

from sqc.ir import Op
from sqc.ops.products import product_shapes

_PRODUCTS = ("conv2d", "qconv2d", "fully_connected", "qfully_connected")


def multiply_accumulates(op: Op) -> int:
    """Multiply-accumulates of one convolution, layer or product of matrices, alone or in a fused body; else 0.

    Taps in the padding count too.
    """
    if op.kind == "fused":
        return sum(multiply_accumulates(part) for part in op.body.ops)
    if op.kind in ("matmul", "qmatmul"):
        a, _, y = product_shapes(op.operands[0].type.shape, op.operands[1].type.shape, op.attributes)
        return math.prod(y) * a[-1]
    if op.kind not in _PRODUCTS:
        return 0
    return op.result.type.size * math.prod(op.operands[1].type.shape[1:])


def precision(op: Op) -> str:
    """What an op, alone or fused, computes in: ``int8``, ``quantize`` (on its way there from float) or ``float32``."""
    ops = op.body.ops if op.kind == "fused" else (op,)
    dtypes = {operand.type.dtype for part in ops for operand in part.operands[:1]}
    if dtypes & {"uint8", "int8", "int32"}:
        return "int8"
    return "quantize" if any(part.kind in ("quantize", "dynamic_quantize") for part in ops) else "float32"
