"""Weights of four bits: the layers that gain by them, and the ranges that give them to some of these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from glob import escape

import numpy as np

from sqc.calibration.settings import Ranges
from sqc.calibration.weights import largest_level
from sqc.ir import Graph
from sqc.ops.cost import multiply_accumulates
from sqc.passes.quantize_weights import weight_settings
from sqc.passes.rounding import MATRIX, layer_names, place, rounding_names

BITS = 4
NEAR = 1 << 20
"""Bytes that the caches near a core keep from one run to the next; more weights than that come from afar each time."""
LEAST = 1 << 16
"""Layers of fewer weights take too little of the time."""
MOST_ROWS = 4
"""With more rows, multiplying takes longer than reading weights (see schedules/packed_product.py)."""


def bound_by_memory(quantized: Graph) -> tuple[str, ...]:
    """The nodes of layers in eight bits that wait for their weights, in the graph's order.

    They are fully connected, or convolutions of 1x1 over few pixels, which are the same.
    """
    matrices = [
        (op, quantized.constants[op.operands[1]])
        for op in quantized.ops
        if op.kind in ("qconv2d", "qfully_connected") and quantized.is_constant(op.operands[1])
    ]
    if sum(weights.size for _, weights in matrices) <= NEAR:
        return ()
    found = [
        op.source
        for op, weights in matrices
        if op.source
        and weights.shape[2:] in ((), (1, 1))
        and weights.shape[1] > 1
        and weights.size >= LEAST
        and multiply_accumulates(op) <= MOST_ROWS * weights.size
        and np.abs(weights.astype(np.int16)).max() > largest_level(BITS)
    ]
    return tuple(dict.fromkeys(found))


def with_four_bits(graph: Graph, ranges: Ranges, nodes: Collection[str], exclude: Collection[str]) -> Ranges:
    """``ranges`` with four bits, at scales of the least squared error, for the weights of layers, by their nodes.

    ``graph`` is a float graph behind ``pipeline.FLOAT``. What the layers compute keeps its settings.
    """
    placement = place(graph, exclude)
    names = [rounding_names(graph, value, placement) for value in placement.rounded]
    rules = list(ranges.rules)
    for op in graph.ops:
        if op.source in nodes and op.kind in MATRIX:
            activation = ranges.settings(next((found for found in names if op.source in found), layer_names(op)))
            weights = replace(weight_settings(op, ranges), search="l2", bits=BITS)
            rules.append((escape(op.source), replace(activation, weights=weights)))
    return Ranges(ranges.default, rules)
