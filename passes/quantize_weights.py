"""Weights as eight-bit constants, one scale for each output channel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.calibration.ranges import DEFAULT_SEARCH
from sqc.calibration.settings import Ranges, RangesLike, WeightSettings
from sqc.calibration.weights import choose_weight_scales
from sqc.ir import Graph, Op, Quantization, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.rounding import MATRIX, layer_names, levels_behind


@dataclass(frozen=True)
class QuantizeWeights:
    """Replace the weights of layers with eight-bit inputs by dequantized int8 constants.

    conv2d(dequantize(x), const w, b)  ->  conv2d(dequantize(x), dequantize(const w'), b)

    Scales are symmetric, one for each output channel, and large enough that the bias fits 32 bits at the accumulator's
    scale. Layers whose source is in ``exclude`` keep their weights. ``ranges`` tell how scales are chosen, with how
    many bits, and what shares them.
    """

    name: ClassVar[str] = "quantize-weights"
    exclude: Collection[str] = frozenset()
    ranges: RangesLike = DEFAULT_SEARCH

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        ranges = Ranges.of(self.ranges)
        rewriter = Rewriter(graph)
        for op in graph.ops:
            levels = levels_behind(graph, op.operands[0]) if op.kind in MATRIX else None
            excluded = op.source in self.exclude or op.result.name in self.exclude
            if levels is None or excluded or not all(map(graph.is_constant, op.operands[1:])):
                rewriter.keep(op)
                continue
            x, _, *bias = op.operands
            weights = _dequantized_weights(
                rewriter, graph, op, levels.type.scale, ranges.settings(layer_names(op)).weights
            )
            rewriter.keep(op, (rewriter.map(x), weights, *map(rewriter.map, bias)))
        return rewriter.finish()


def _dequantized_weights(
    rewriter: Rewriter, graph: Graph, op: Op, input_scale: float, settings: WeightSettings
) -> Value:
    weights = graph.constants[op.operands[1]]
    bias = graph.constants[op.operands[2]] if len(op.operands) == 3 else None
    groups = {"channel": None, "group": op.integer("groups") if "groups" in op.attributes else 1, "tensor": 1}
    scales = choose_weight_scales(
        weights, 0, settings.bits, bias, input_scale, settings.search, groups[settings.sharing], settings.power_of_two
    )
    exact = scales.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    limit = 2 ** (settings.bits - 1) - 1
    levels = np.clip(np.rint(weights / exact), -limit, limit).astype(np.int8)
    quantization = Quantization(tuple(map(float, scales)), (0,) * len(scales), 0)
    name = op.operands[1].name
    constant = rewriter.constant(levels, name, quantization)
    return rewriter.emit("dequantize", [constant], name=f"{name}.dequantized", source=op.source)
