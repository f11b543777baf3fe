"""Decide where values are rounded to eight bits, and say so in the graph by quantize and dequantize."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sqc.calibration.qparams import choose_qparams
from sqc.errors import CompileError
from sqc.ir import Graph, Quantization, Rewriter, Value
from sqc.ops.quantization import clamp
from sqc.passes.base import Notes
from sqc.passes.rounding import KNOWN_RANGES, place, useful_range


def observed_values(graph: Graph, exclude: Collection[str] = ()) -> list[Value]:
    """The values of a float graph whose ranges calibration has to find, in the graph's order."""
    observed = []
    for value in place(graph, exclude).rounded:
        producer = graph.producer(value)
        if not graph.is_constant(value) and (producer is None or producer.kind not in KNOWN_RANGES):
            observed.append(value)
    return observed


@dataclass(frozen=True)
class InsertQuantization:
    """Put quantize and dequantize behind every value at an eight-bit boundary.

    y = relu(conv2d(x, w))  ->  y = relu(conv2d(dequantize(quantize(x)), w)); y' = dequantize(quantize(y))

    ``qparams`` maps names of values to scale and zero point; :func:`observed_values` tells which are needed. Ops whose
    source is in ``exclude`` stay in float. Raises CompileError where parameters are missing.
    """

    name: ClassVar[str] = "insert-quantization"
    qparams: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    exclude: Collection[str] = frozenset()

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        placement = place(graph, self.exclude)
        self._check(graph)
        rounded = set(placement.rounded)
        rewriter = Rewriter(graph)
        eight_bits: dict[Value, Value] = {}  # inputs and constants as integer ops read them
        for value in placement.rounded:
            if graph.producer(value) is None:
                eight_bits[value] = self._round(rewriter, graph, value)
        for op in graph.ops:
            notes.add(self, op, placement.precision[op.result])
            operands = rewriter.operands(op)
            if placement.is_integer(op):
                operands = tuple(eight_bits.get(old, new) for old, new in zip(op.operands, operands, strict=True))
            rewriter.keep(op, operands)
            if op.result in rounded:
                rewriter.replace(op, self._round(rewriter, graph, op.result))
        return rewriter.finish()

    def _round(self, rewriter: Rewriter, graph: Graph, value: Value) -> Value:
        scale, zero_point = self._parameters(graph, value)
        producer = graph.producer(value)
        source = producer.source if producer else ""
        if graph.is_constant(value):
            t = clamp(np.rint(graph.constants[value] / np.float32(scale)), -zero_point, 255 - zero_point)
            levels = (t.astype(np.int32) + zero_point).astype(np.uint8)
            quantized = rewriter.constant(levels, value.name, Quantization.per_tensor(scale, zero_point))
        else:
            attributes = {"scale": scale, "zero_point": zero_point}
            name = f"{value.name}.quantized"
            quantized = rewriter.emit("quantize", [rewriter.map(value)], attributes, name=name, source=source)
        return rewriter.emit("dequantize", [quantized], name=f"{value.name}.dequantized", source=source)

    def _parameters(self, graph: Graph, value: Value) -> tuple[float, int]:
        producer = graph.producer(value)
        if graph.is_constant(value):
            array = graph.constants[value]
            return choose_qparams(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
        if producer is not None and producer.kind in KNOWN_RANGES:
            return choose_qparams(*KNOWN_RANGES[producer.kind])
        scale, zero_point = self.qparams[value.name]
        low, high = scale * (0 - zero_point), scale * (255 - zero_point)
        least, most = useful_range(graph, value)
        if low < least < high or low < most < high:
            return choose_qparams(max(low, least), min(high, most))
        return float(np.float32(scale)), int(zero_point)

    def _check(self, graph: Graph) -> None:
        missing = [value.name for value in observed_values(graph, self.exclude) if value.name not in self.qparams]
        if missing:
            raise CompileError(
                f"no range is known for {len(missing)} values of graph '{graph.name}': {', '.join(missing[:8])}"
                f"{' ...' if len(missing) > 8 else ''}; calibrate this graph again"
            )
