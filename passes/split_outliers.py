"""Compute the few channels between two fully connected layers that reach much further than all others on their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.channels import ChannelExtremes
from sqc.passes.rounding import CLAMPS, TABLES, in_normalized_sum, keeps_channels

_MOST = 16
"""How many channels may be outliers: what one vector holds, so that they cost little beside a layer's others."""

_FACTOR = 2.0
"""How much further than the next channel outliers reach: one bit for all others."""


@dataclass(frozen=True)
class SplitOutliers:
    """Give outlier channels of a function of one layer's outputs, which another layer reads, scales of their own.

    fully_connected(gelu(fully_connected(x, w1, b1)), w2, b2)  ->  fully_connected(gelu(fully_connected(x, w1', b1')),
    w2', b2) + fully_connected(gelu(fully_connected(x, w1", b1")), w2")

    with `"` the outliers and `'` the others (Dettmers et al. 2022, arXiv:2208.07339, but for their float16: a scale of
    their own does). Without them the range of the others is a half or less. Only where the sums of the second layer go
    to the float sum that a normalization reads, and so need no further rounding. ``extremes`` maps names of values to
    what was seen of them; where it lacks the function's, layers stay. So do those whose nodes or results are in
    ``exclude``.
    """

    name: ClassVar[str] = "split-outliers"
    extremes: Mapping[str, ChannelExtremes] = field(default_factory=dict)
    exclude: Collection[str] = frozenset()

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        for op in graph.ops:
            path = self._path(graph, op)
            outliers = self._outliers(graph, path)
            if not outliers.any():
                rewriter.keep(op)
                continue
            parts = [
                _part(rewriter, graph, path, ~outliers, "regular"),
                _part(rewriter, graph, path, outliers, "outliers"),
            ]
            rewriter.replace(op, rewriter.emit("add", parts, name=op.result.name, source=op.source))
            notes.add(self, op, f"{int(outliers.sum())} of the {outliers.size} channels it reads have a scale apart")
        return rewriter.finish()

    def _path(self, graph: Graph, op: Op) -> list[Op]:
        """A layer, and before it the functions and the layer that feed it alone; empty if it isn't so."""
        if not self._is_quantized(graph, op) or not _goes_to_float(graph, op):
            return []
        path = [op]
        while True:
            operand = path[0].operands[0]
            producer = graph.producer(operand)
            if producer is None or graph.only_user(operand) is not path[0] or graph.is_output(operand):
                return []
            path.insert(0, producer)
            if producer.kind == "fully_connected":
                return path if self._is_quantized(graph, producer) and len(path) > 2 else []
            is_function = producer.kind in (*TABLES, *CLAMPS) and producer.source not in self.exclude
            if not is_function and not (producer.kind == "reshape" and keeps_channels(producer)):
                return []

    def _is_quantized(self, graph: Graph, op: Op) -> bool:
        named = {op.source, op.result.name} & set(self.exclude)
        return op.kind == "fully_connected" and not named and all(map(graph.is_constant, op.operands[1:]))

    def _outliers(self, graph: Graph, path: list[Op]) -> NDArray[np.bool_]:
        """bool [channels]: which channels of the last function are split off."""
        function = next((op for op in reversed(path[1:-1]) if op.kind != "reshape"), None)
        if function is None or function.result.name not in self.extremes:
            return np.zeros(1, bool)
        reach = np.abs(np.asarray(self.extremes[function.result.name], np.float64)).max(axis=0)
        if reach.size < 2 * _MOST:
            return np.zeros(1, bool)
        return np.asarray(reach > _FACTOR * np.sort(reach)[-_MOST - 1])


def _goes_to_float(graph: Graph, op: Op) -> bool:
    user = graph.only_user(op.result)
    while user is not None and user.kind == "reshape":
        user = graph.only_user(user.result)
    return user is not None and in_normalized_sum(graph, user)


def _part(rewriter: Rewriter, graph: Graph, path: list[Op], channels: NDArray[np.bool_], suffix: str) -> Value:
    """The path computed for some of the channels between its layers; the bias of the last goes with ``regular``."""
    first, *between, last = path
    rows = [rewriter.constant(graph.constants[v][channels], f"{v.name}.{suffix}") for v in first.operands[1:]]
    x = rewriter.map(first.operands[0])
    value = rewriter.emit(
        first.kind, [x, *rows], first.attributes, name=f"{first.result.name}.{suffix}", source=first.source
    )
    for op in between:
        attributes = dict(op.attributes)
        if op.kind == "reshape":
            attributes["shape"] = (*op.integers("shape")[:-1], int(channels.sum()))
        value = rewriter.emit(op.kind, [value], attributes, name=f"{op.result.name}.{suffix}", source=op.source)
    columns = rewriter.constant(graph.constants[last.operands[1]][:, channels], f"{last.operands[1].name}.{suffix}")
    bias = [rewriter.map(operand) for operand in last.operands[2:]] if suffix == "regular" else []
    name = f"{last.result.name}.{suffix}"
    return rewriter.emit(last.kind, [value, columns, *bias], last.attributes, name=name, source=last.source)
