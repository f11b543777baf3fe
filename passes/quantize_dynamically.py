"""Convolutions and fully connected layers in integers whose inputs are quantized at run time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.calibration.weights import choose_weight_scales
from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.integer_parameters import check_products
from sqc.passes.rounding import MATRIX
from sqc.passes.rules import open_shape_attribute, open_shapes


@dataclass(frozen=True)
class QuantizeDynamically:
    """Quantize the inputs of layers by ranges found at run time, for each row or the whole tensor.

    fully_connected(x, w, b)  ->  dynamic_dequantize(qfully_connected(dynamic_quantize(x, p), w'), p, sums of w', s, b)
                                  where p = dynamic_parameters(x)
    conv2d(x, w, b) {NHWC}    ->  likewise, of pad(x), where p has a row for each sample

    Layers that read the same tensor share its ranges, and its levels where they pad it alike. All else stays in float,
    as do layers whose source is in ``exclude``. Raises CompileError where accumulators could overflow.
    """

    name: ClassVar[str] = "quantize-dynamically"
    exclude: Collection[str] = frozenset()
    per_row: bool = True

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        return _Quantizer(graph, self, notes).run()


class _Quantizer(Rewriter):
    """``pairs`` holds the parameters of old float values, ``levels`` their levels with so much padding."""

    def __init__(self, graph: Graph, origin: QuantizeDynamically, notes: Notes) -> None:
        super().__init__(graph)
        self.origin = origin
        self.notes = notes
        self.open_shapes = open_shapes(graph)
        self.pairs: dict[tuple[Value, tuple[int, ...]], Value] = {}
        self.levels: dict[tuple[Value, tuple[int, ...], tuple[int, ...]], Value] = {}

    def run(self) -> Graph:
        for op in self.graph.ops:
            excluded = op.source in self.origin.exclude or op.result.name in self.origin.exclude
            known = op.kind in MATRIX and all(map(self.graph.is_constant, op.operands[1:]))
            if not known or excluded or op.attributes.get("layout", "NHWC") != "NHWC":
                self.keep(op)
                continue
            self.layer(op)
            unit = "row" if op.kind == "fully_connected" else "sample"
            kind = f"each {unit}" if self.origin.per_row else "whole"
            self.notes.add(self.origin, op, f"int8, its input quantized at run time, {kind}")
        return self.finish()

    def parameters(self, op: Op) -> Value:
        """Scale and zero point of the input of a layer."""
        x = op.operands[0]
        key = _unmoved(self.graph, x), x.type.shape
        if key not in self.pairs:
            rows, shape = self.map(x), x.type.shape
            by_sample = self.origin.per_row and len(shape) > 2
            if by_sample:
                flat = shape[0], x.type.size // shape[0]
                rows = self.reshaped(op, rows, flat, (self.open_shapes[x][0], flat[1]))
            attributes = {"per_row": self.origin.per_row}
            pairs = self.emit("dynamic_parameters", [rows], attributes, name=f"{x.name}.parameters", source=op.source)
            if by_sample:
                inner = (*[1] * (len(shape) - 2), 2)
                pairs = self.reshaped(op, pairs, (shape[0], *inner), (self.open_shapes[x][0], *inner))
            self.pairs[key] = pairs
        return self.pairs[key]

    def reshaped(self, op: Op, x: Value, shape: tuple[int, ...], open_shape: tuple[int, ...]) -> Value:
        attributes = {"shape": open_shape_attribute(shape, open_shape)}
        return self.emit("reshape", [x], attributes, name=x.name, source=op.source)

    def quantized(self, op: Op, pairs: Value) -> Value:
        """The levels of the input of a layer, padded as it pads: zero has a level, whatever the parameters."""
        x = op.operands[0]
        top, left, bottom, right = op.integers("pads") if op.kind == "conv2d" else (0, 0, 0, 0)
        key = _unmoved(self.graph, x), x.type.shape, (top, left, bottom, right)
        if key not in self.levels:
            real = self.map(x)
            if any(key[2]):
                pads = {"pads": (0, top, left, 0, 0, bottom, right, 0)}
                real = self.emit("pad", [real], pads, name=f"{x.name}.padded", source=op.source)
            name = f"{x.name}.quantized"
            self.levels[key] = self.emit("dynamic_quantize", [real, pairs], name=name, source=op.source)
        return self.levels[key]

    def layer(self, op: Op) -> None:
        pairs = self.parameters(op)
        x = self.quantized(op, pairs)
        weights = self.graph.constants[op.operands[1]]
        scales = choose_weight_scales(weights)
        rows = weights.reshape(len(weights), -1)
        levels = np.clip(np.rint(rows / scales.astype(np.float64)[:, None]), -127, 127).astype(np.int8)
        check_products(op, levels)
        name = op.operands[1].name
        constants = {
            "": levels.reshape(weights.shape),
            ".start": np.zeros(len(levels), np.int32),
            ".sums": levels.sum(axis=1, dtype=np.int32),
            ".scales": scales,
        }
        w, start, *columns = (self.constant(array, name + suffix) for suffix, array in constants.items())
        kind, attributes = f"q{op.kind}", dict(op.attributes)
        if op.kind == "conv2d":
            attributes["pads"] = (0, 0, 0, 0)
        acc = self.emit(kind, [x, w, start], attributes, name=f"{op.result.name}.sum", source=op.source)
        operands = [acc, pairs, *columns, *(self.map(operand) for operand in op.operands[2:])]
        self.replace(op, self.emit("dynamic_dequantize", operands, name=op.result.name, source=op.source))


def _unmoved(graph: Graph, value: Value) -> Value:
    """The tensor that ``value`` is a reshape of, or ``value``."""
    op = graph.producer(value)
    return _unmoved(graph, op.operands[0]) if op is not None and op.kind == "reshape" else value
