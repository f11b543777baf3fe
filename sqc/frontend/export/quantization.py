"""Rounding, and tables of levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from sqc.frontend.export.writer import Write, Writer
from sqc.frontend.node import UNIT
from sqc.ir import Op


def _quantize(export: Writer, op: Op) -> None:
    name = export.name(op.result)
    scale = export.array(np.array(op.number("scale"), np.float32), f"{name}.scale")
    zero_point = export.array(np.array(op.integer("zero_point"), op.string("dtype")), f"{name}.zero_point")
    export.node("QuantizeLinear", op, scale, zero_point)


def _dequantize(export: Writer, op: Op) -> None:
    x = op.operands[0]
    quantization = x.type.quantization
    assert quantization is not None
    if quantization == UNIT:
        export.node("Cast", op, to=TensorProto.FLOAT)
        return
    whole = quantization.axis is None
    name = export.name(op.result)
    scales, zero_points = np.array(quantization.scale, np.float32), np.array(quantization.zero_point, x.type.dtype)
    parameters = [export.array(scales[0] if whole else scales, f"{name}.scale")]
    if x.type.dtype != "int32":  # which ONNX gives no zero point
        parameters.append(export.array(zero_points[0] if whole else zero_points, f"{name}.zero_point"))
    axis: dict[str, Any] = {} if whole else {"axis": quantization.axis}
    export.node("DequantizeLinear", op, *parameters, **axis)


def _lookup(export: Writer, op: Op) -> None:
    """A table as a Gather from 256 levels"""
    x, entries = op.operands
    index = export.step(op, "Cast", export.name(x), to=TensorProto.INT32)
    export.last(op, "Gather", export.name(entries), index, axis=0)


WRITERS: dict[str, Write] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "lookup": _lookup,
}
