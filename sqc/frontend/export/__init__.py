"""Float graphs, with quantize and dequantize between their ops, as ONNX; each module writes a family of ops."""

from __future__ import annotations

import onnx

from sqc.errors import CompileError
from sqc.frontend.export import functions, interpolation, layers, movement, normalization, quantization
from sqc.frontend.export.writer import Write, Writer
from sqc.ir import Graph

_FAMILIES = (functions, interpolation, layers, movement, normalization, quantization)
_WRITERS: dict[str, Write] = {kind: write for family in _FAMILIES for kind, write in family.WRITERS.items()}


def export_onnx(graph: Graph) -> onnx.ModelProto:
    """An ONNX model of operator set 17 that computes what ``graph`` does, images in NCHW.

    Inputs and outputs keep their names, element types and shapes, with an open batch where the graph has one. Raises
    CompileError for ops that ONNX has no counterpart of.
    """
    writer = Writer(graph)
    for op in graph.ops:
        if op.kind not in _WRITERS:
            raise CompileError(f"{op.label()}: ONNX has no counterpart of {op.kind} here; exclude the node")
        _WRITERS[op.kind](writer, op)
    return writer.model()
