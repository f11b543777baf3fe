"""Fully connected layers in integers whose inputs are quantized at run time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.calibration.weights import choose_weight_scales
from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.integer_parameters import check_products


@dataclass(frozen=True)
class QuantizeDynamically:
    """Quantize the inputs of fully connected layers by ranges found at run time, for each row or the whole tensor.

    fully_connected(x, w, b)  ->  dynamic_dequantize(qfully_connected(dynamic_quantize(x, p), w'), p, sums of w', s, b)
                                  where p = dynamic_parameters(x)

    Layers that read the same tensor share its levels. All else stays in float, as do layers whose source is in
    ``exclude``. Raises CompileError where accumulators could overflow.
    """

    name: ClassVar[str] = "quantize-dynamically"
    exclude: Collection[str] = frozenset()
    per_row: bool = True

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        levels: dict[tuple[Value, tuple[int, ...]], tuple[Value, Value]] = {}
        for op in graph.ops:
            excluded = op.source in self.exclude or op.result.name in self.exclude
            if op.kind != "fully_connected" or excluded or not all(map(graph.is_constant, op.operands[1:])):
                rewriter.keep(op)
                continue
            x = op.operands[0]
            key = _unmoved(graph, x), x.type.shape
            if key not in levels:
                levels[key] = self._quantize(rewriter, x, op.source)
            rewriter.replace(op, _layer(rewriter, op, *levels[key]))
            notes.add(self, op, f"int8, its input quantized at run time, {'each row' if self.per_row else 'whole'}")
        return rewriter.finish()

    def _quantize(self, rewriter: Rewriter, x: Value, source: str) -> tuple[Value, Value]:
        """The levels of ``x`` and their parameters."""
        real, attributes = rewriter.map(x), {"per_row": self.per_row}
        pairs = rewriter.emit("dynamic_parameters", [real], attributes, name=f"{x.name}.parameters", source=source)
        return rewriter.emit("dynamic_quantize", [real, pairs], name=f"{x.name}.quantized", source=source), pairs


def _unmoved(graph: Graph, value: Value) -> Value:
    """The tensor that ``value`` is a reshape of, or ``value``."""
    op = graph.producer(value)
    return _unmoved(graph, op.operands[0]) if op is not None and op.kind == "reshape" else value


def _layer(rewriter: Rewriter, op: Op, x: Value, pairs: Value) -> Value:
    weights = rewriter.graph.constants[op.operands[1]]
    scales = choose_weight_scales(weights)
    levels = np.clip(np.rint(weights / scales.astype(np.float64)[:, None]), -127, 127).astype(np.int8)
    check_products(op, levels)
    name = op.operands[1].name
    constants = {
        "": levels,
        ".start": np.zeros(len(levels), np.int32),
        ".sums": levels.sum(axis=1, dtype=np.int32),
        ".scales": scales,
    }
    w, start, *columns = (rewriter.constant(array, name + suffix) for suffix, array in constants.items())
    acc = rewriter.emit("qfully_connected", [x, w, start], name=f"{op.result.name}.sum", source=op.source)
    operands = [acc, pairs, *columns, *(rewriter.map(operand) for operand in op.operands[2:])]
    return rewriter.emit("dynamic_dequantize", operands, name=op.result.name, source=op.source)
