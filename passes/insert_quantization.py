"""Decide where values are rounded to eight bits, and say so in the graph by quantize and dequantize."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sqc.calibration.ranges import DEFAULT_SEARCH
from sqc.calibration.settings import Ranges, RangesLike, Settings
from sqc.errors import CompileError
from sqc.ir import Graph, Quantization, Rewriter, Value
from sqc.ops.quantization import clamp
from sqc.passes.base import Notes
from sqc.passes.rounding import KNOWN_RANGES, Placement, place, rounding_names


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
    source is in ``exclude`` stay in float. Where ``ranges`` give a value fewer than eight bits, a clip to its levels
    goes before its quantize. Raises CompileError where parameters are missing.
    """

    name: ClassVar[str] = "insert-quantization"
    qparams: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    exclude: Collection[str] = frozenset()
    ranges: RangesLike = DEFAULT_SEARCH

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        placement = place(graph, self.exclude)
        self._check(graph)
        rounded = set(placement.rounded)
        settings = self._settings(graph, placement)
        rewriter = Rewriter(graph)
        eight_bits: dict[Value, Value] = {}  # inputs, constants and results in float as integer ops read them
        for value in placement.rounded:
            if graph.producer(value) is None:
                eight_bits[value] = self._round(rewriter, graph, value, settings[value])
        for op in graph.ops:
            notes.add(self, op, placement.precision[op.result])
            operands = rewriter.operands(op)
            if placement.is_integer(op):
                operands = tuple(eight_bits.get(old, new) for old, new in zip(op.operands, operands, strict=True))
            if op.kind == "concat" and op.result in rounded:
                # Its operands will be rounded as its result is.
                operands = tuple(self._clip(rewriter, graph, op.result, x, settings[op.result]) for x in operands)
            rewriter.keep(op, operands)
            if op.result in rounded:
                in_eight_bits = self._round(rewriter, graph, op.result, settings[op.result])
                if placement.is_integer(op):
                    rewriter.replace(op, in_eight_bits)
                else:
                    eight_bits[op.result] = in_eight_bits
        return rewriter.finish()

    def _settings(self, graph: Graph, placement: Placement) -> dict[Value, Settings]:
        ranges = Ranges.of(self.ranges)
        return {value: ranges.settings(rounding_names(graph, value, placement)) for value in placement.rounded}

    def _clip(self, rewriter: Rewriter, graph: Graph, value: Value, x: Value, settings: Settings) -> Value:
        """``x`` within the levels that ``value`` may have."""
        if settings.bits == 8:
            return x
        scale, zero_point = self._parameters(graph, value, settings)
        bounds = {"min": scale * -zero_point, "max": scale * (settings.grid.steps - zero_point)}
        producer = graph.producer(value)
        return rewriter.emit("clip", [x], bounds, name=f"{x.name}.clipped", source=producer.source if producer else "")

    def _round(self, rewriter: Rewriter, graph: Graph, value: Value, settings: Settings) -> Value:
        scale, zero_point = self._parameters(graph, value, settings)
        producer = graph.producer(value)
        source = producer.source if producer else ""
        if graph.is_constant(value):
            last = settings.grid.steps - zero_point
            t = clamp(np.rint(graph.constants[value] / np.float32(scale)), -zero_point, last)
            levels = (t.astype(np.int32) + zero_point).astype(np.uint8)
            quantized = rewriter.constant(levels, value.name, Quantization.per_tensor(scale, zero_point))
        else:
            attributes = {"scale": scale, "zero_point": zero_point}
            name = f"{value.name}.quantized"
            real = rewriter.map(value)
            if producer is None or producer.kind != "concat":
                real = self._clip(rewriter, graph, value, real, settings)
            quantized = rewriter.emit("quantize", [real], attributes, name=name, source=source)
        return rewriter.emit("dequantize", [quantized], name=f"{value.name}.dequantized", source=source)

    def _parameters(self, graph: Graph, value: Value, settings: Settings) -> tuple[float, int]:
        producer = graph.producer(value)
        if graph.is_constant(value):
            array = graph.constants[value]
            return settings.qparams(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
        if producer is not None and producer.kind in KNOWN_RANGES:
            return settings.qparams(*KNOWN_RANGES[producer.kind])
        scale, zero_point = self.qparams[value.name]
        return float(np.float32(scale)), int(zero_point)

    def _check(self, graph: Graph) -> None:
        missing = [value.name for value in observed_values(graph, self.exclude) if value.name not in self.qparams]
        if missing:
            raise CompileError(
                f"no range is known for {len(missing)} values of graph '{graph.name}': {', '.join(missing[:8])}"
                f"{' ...' if len(missing) > 8 else ''}; calibrate this graph again"
            )
