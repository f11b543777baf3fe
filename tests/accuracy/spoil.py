"""Defects put into one layer of a quantized graph: what a culprit looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sqc.accuracy.blame import Blame
from sqc.calibration import Calibration
from sqc.calibration.qparams import choose_qparams
from sqc.ir import Graph, Op, Value
from sqc.passes import pipeline
from sqc.passes.insert_quantization import observed_values

_MATRIX = ("qconv2d", "qfully_connected")


@dataclass(frozen=True)
class Spoiled:
    """A quantized graph with a defect, and where: the node of a spoiled layer, or the value of a spoiled range."""

    kind: str
    quantized: Graph = field(repr=False)
    node: str = ""
    value: str = ""

    def hits(self, layer: Blame) -> bool:
        """Whether this is the layer."""
        return self.value == layer.value if self.value else self.node in layer.nodes


def spoiled_range(graph: Graph, calibration: Calibration, value: str, factor: float) -> Graph:
    """The integer graph with one range ``factor`` times as wide as chosen; ``graph`` is float, after its passes."""
    qparams = {v.name: calibration.qparams(v.name) for v in observed_values(graph)}
    scale, zero_point = qparams[value]
    qparams[value] = choose_qparams(-scale * zero_point * factor, scale * (255 - zero_point) * factor)
    return pipeline.run(pipeline.quantization(qparams), graph)


def layers(quantized: Graph) -> list[str]:
    """The nodes with weights whose accumulators are multiplied by constants."""
    return [op.source for op in quantized.ops if op.kind in _MATRIX and _multiplier(quantized, op) is not None]


def spoiled_bias(quantized: Graph, node: str, steps: float = 64.0) -> Graph:
    """Biases wrong by what inputs ``steps`` levels off would change, up in every other channel and down in the rest."""
    op, _ = _find(quantized, node)
    levels = quantized.constants[op.operands[1]].astype(np.float64)
    wrong = steps * np.sqrt((levels**2).reshape(len(levels), -1).sum(axis=1))
    wrong[1::2] *= -1
    return _with(quantized, {op.operands[2]: (quantized.constants[op.operands[2]] + np.rint(wrong)).astype(np.int32)})


def spoiled_scale(quantized: Graph, node: str, factor: float = 3.0) -> Graph:
    """The scale of all weights ``factor`` times what the levels were made for."""
    _, (_, multiplier) = _find(quantized, node)
    return _with(quantized, {multiplier: (quantized.constants[multiplier] * np.float32(factor)).astype(np.float32)})


def spoiled_weights(quantized: Graph, node: str, change: Callable[[np.ndarray], np.ndarray]) -> Graph:
    """Other levels of the weights, as another range of them gives; the zero point's share of the bias follows."""
    op, _ = _find(quantized, node)
    levels = quantized.constants[op.operands[1]].astype(np.int64)
    changed = np.clip(change(levels), -127, 127).astype(np.int64)
    taps = (levels - changed).reshape(len(levels), -1).sum(axis=1)
    bias = quantized.constants[op.operands[2]] + op.operands[0].type.zero_point * taps
    return _with(quantized, {op.operands[1]: changed.astype(np.int8), op.operands[2]: bias.astype(np.int32)})


def coarse(levels: np.ndarray) -> np.ndarray:
    """Weights whose range is 64 times too wide: as if one outlier had stretched it."""
    return np.asarray(np.rint(levels / 64) * 64)


def clipped(levels: np.ndarray) -> np.ndarray:
    """Weights whose range is 16 times too narrow."""
    return np.clip(levels, -8, 8)


KINDS: Mapping[str, Callable[[Graph, str], Graph]] = {
    "bias": spoiled_bias,
    "weight scale": spoiled_scale,
    "coarse weights": lambda quantized, node: spoiled_weights(quantized, node, coarse),
    "clipped weights": lambda quantized, node: spoiled_weights(quantized, node, clipped),
}
"""Defects of a layer's weights, by name."""

RANGES = {"narrow range": 1 / 16, "wide range": 64.0}
"""Defects of an activation's range, by name: its factor."""


def spoiled(
    kind: str, graph: Graph, quantized: Graph, calibration: Calibration, random: np.random.Generator
) -> Iterator[Spoiled]:
    """All layers or ranges spoiled in one way, one at a time, in random order; ``graph`` is float, after its passes."""
    if kind in KINDS:
        for node in random.permutation(np.array(layers(quantized), dtype=object)):
            yield Spoiled(kind, KINDS[kind](quantized, node), node=node)
        return
    shared = {operand for op in graph.ops if op.kind == "concat" for operand in op.operands}
    own = [value.name for value in observed_values(graph) if value not in shared]  # the rest take another's
    for value in random.permutation(np.array(own, dtype=object)):
        yield Spoiled(kind, spoiled_range(graph, calibration, value, RANGES[kind]), value=value)


def _find(quantized: Graph, node: str) -> tuple[Op, tuple[Op, Value]]:
    op = next(op for op in quantized.ops if op.kind in _MATRIX and op.source == node)
    found = _multiplier(quantized, op)
    assert found is not None
    return op, found


def _multiplier(quantized: Graph, op: Op) -> tuple[Op, Value] | None:
    """The op that reads accumulators, and the constant it multiplies them by."""
    user = quantized.only_user(op.result)
    if user is None or user.kind not in ("requantize", "dequantize"):
        return None
    return user, user.operands[len(user.operands) // 2 + user.operands.index(op.result)]


def _with(graph: Graph, changes: Mapping[Value, np.ndarray]) -> Graph:
    """The graph with other constants in place of some."""
    return replace(graph, constants={value: changes.get(value, array) for value, array in graph.constants.items()})
