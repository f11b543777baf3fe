"""Layers with weights, products, pools."""

from __future__ import annotations

from typing import Any

from sqc.errors import CompileError
from sqc.frontend.export.writer import OPSET, Write, Writer
from sqc.ir import Op
from sqc.ops.products import permutations


def _conv2d(export: Writer, op: Op) -> None:
    export.node(
        "Conv",
        op,
        kernel_shape=op.operands[1].type.shape[2:],
        strides=op.integers("strides"),
        pads=op.integers("pads"),
        dilations=op.integers("dilations"),
        group=op.integer("groups"),
    )


def _fully_connected(export: Writer, op: Op) -> None:
    export.node("Gemm", op, transB=1)


def _matmul(export: Writer, op: Op) -> None:
    *perms, last = permutations(op)
    operands = [export.moved(op, export.name(x), perm) for x, perm in zip(op.operands, perms, strict=True)]
    y = export.step(op, "MatMul", *operands)
    export.result(op, export.moved(op, y, last))


def _pool(export: Writer, op: Op) -> None:
    attributes: dict[str, Any] = {name: op.integers(name) for name in ("strides", "pads")}
    if op.kind == "max_pool":
        export.node("MaxPool", op, kernel_shape=op.integers("kernel"), dilations=op.integers("dilations"), **attributes)
        return
    if op.integers("dilations") != (1, 1):
        raise CompileError(f"{op.label()}: operator set {OPSET} has no dilated average pool; exclude the node")
    include = int(bool(op.attributes["count_include_pad"]))
    export.node("AveragePool", op, kernel_shape=op.integers("kernel"), count_include_pad=include, **attributes)


def _reduce_mean(export: Writer, op: Op) -> None:
    axes, keepdims = op.integers("axes"), bool(op.attributes["keepdims"])
    if keepdims and op.operands[0].type.rank == 4 and axes == (2, 3):
        export.node("GlobalAveragePool", op)
    else:
        export.node("ReduceMean", op, axes=axes, keepdims=int(keepdims))


WRITERS: dict[str, Write] = {
    "conv2d": _conv2d,
    "fully_connected": _fully_connected,
    "matmul": _matmul,
    "max_pool": _pool,
    "average_pool": _pool,
    "reduce_mean": _reduce_mean,
}
