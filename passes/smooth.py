"""Even out the channels of layer normalizations for the fully connected layers that read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.smoothing import smoothing_factors
from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.channels import ChannelExtremes
from sqc.passes.rounding import keeps_channels, normalized_sum

ALPHA = 0.5


@dataclass(frozen=True)
class Smooth:
    """Divide the channels of a layer normalization in float by factors, and multiply the weights that read them.

    fully_connected(normalize(x, g, b), w)  ->  fully_connected(normalize(x, g / s, b / s), w * s)

    Factors are those of :mod:`sqc.calibration.smoothing` with alpha = 1/2, which DNNLOWP knows as
    ComputeEqualizationScale. Where others read the normalization too, they keep it, and a second one is computed.
    ``extremes`` maps names of values to what was seen of them; normalizations that it lacks stay. So do nodes and
    values whose names are in ``exclude``.
    """

    name: ClassVar[str] = "smooth"
    extremes: Mapping[str, ChannelExtremes] = field(default_factory=dict)
    exclude: Collection[str] = frozenset()

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        smoothed: dict[Value, tuple[Value, NDArray[np.float32]]] = {}  # of layers' operands: the new ones, factors
        for op in graph.ops:
            if op.kind == "fully_connected" and op.operands[0] in smoothed and self._is_quantized(graph, op):
                x, factors = smoothed[op.operands[0]]
                w = rewriter.constant(graph.constants[op.operands[1]] * factors, op.operands[1].name)
                rewriter.keep(op, [x, w, *map(rewriter.map, op.operands[2:])])
                continue
            rewriter.keep(op)
            if op.kind == "reshape" and op.operands[0] in smoothed and keeps_channels(op):
                x, factors = smoothed[op.operands[0]]
                again = rewriter.emit(op.kind, [x], op.attributes, name=op.result.name, source=op.source)
                smoothed[op.result] = again, factors
            elif op.result.name in self.extremes and normalized_sum(graph, op) is not None:
                weights = [graph.constants[layer.operands[1]] for layer in self._layers(graph, op.result)]
                if weights:
                    factors = _factors(self.extremes[op.result.name], weights)
                    smoothed[op.result] = _divided(rewriter, graph, op, factors), factors
                    notes.add(self, op, f"its {factors.size} channels are evened out for {len(weights)} layers")
        return rewriter.finish()

    def _layers(self, graph: Graph, value: Value) -> list[Op]:
        """The layers to be quantized that read a value, reshaped or as it is."""
        layers: list[Op] = []
        for op in graph.users(value):
            if op.kind == "reshape" and keeps_channels(op):
                layers += self._layers(graph, op.result)
            elif op.kind == "fully_connected" and op.operands[0] == value and self._is_quantized(graph, op):
                layers.append(op)
        return layers

    def _is_quantized(self, graph: Graph, op: Op) -> bool:
        return not {op.source, op.result.name} & set(self.exclude) and all(map(graph.is_constant, op.operands[1:]))


def _factors(extremes: ChannelExtremes, weights: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """float32 [C], 1 where a channel or its weights are zero."""
    numbers = np.abs(np.asarray(extremes, np.float64)).max(axis=0)
    columns = np.abs(np.concatenate(weights)).max(axis=0).astype(np.float64)
    return (1 / smoothing_factors(numbers, columns, ALPHA)).astype(np.float32)


def _divided(rewriter: Rewriter, graph: Graph, op: Op, factors: NDArray[np.float32]) -> Value:
    """The normalization with its result divided by factors."""
    name = f"{op.result.name}.smoothed"
    parameters = [rewriter.constant(graph.constants[value] / factors, value.name) for value in op.operands[1:]]
    operands = [rewriter.map(op.operands[0]), *parameters]
    return rewriter.emit(op.kind, operands, op.attributes, name=name, source=op.source)
