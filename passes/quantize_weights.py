"""Weights as eight-bit constants, one scale for each output channel."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sqc.calibration.ranges import DEFAULT_SEARCH
from sqc.calibration.settings import Ranges, RangesLike, WeightSettings
from sqc.calibration.weights import choose_weight_scales, largest_level
from sqc.errors import CompileError
from sqc.ir import Graph, Op, Quantization, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.rounding import MATRIX, RECURRENT, layer_names, levels_behind


class RoundedLayer(NamedTuple):
    """A layer rounded beforehand: levels within +-127 in the shape of its weights, scales [N] and bias [N]."""

    levels: ArrayLike
    scales: ArrayLike
    bias: ArrayLike


@dataclass(frozen=True)
class QuantizeWeights:
    """Replace the weights of layers with eight-bit inputs by dequantized int8 constants.

    conv2d(dequantize(x), const w, b)  ->  conv2d(dequantize(x), dequantize(const w'), b)

    Scales are symmetric, one for each output channel, and large enough that the bias fits 32 bits at the accumulator's
    scale. Layers whose source is in ``exclude`` keep their weights. ``ranges`` tell how scales are chosen, with how
    many bits, and what shares them. Layers in ``rounded``, by their result, take what stands there instead: levels,
    scales and bias. Raises CompileError where that does not fit the layer.
    """

    name: ClassVar[str] = "quantize-weights"
    exclude: Collection[str] = frozenset()
    ranges: RangesLike = DEFAULT_SEARCH
    rounded: Mapping[str, RoundedLayer] = field(default_factory=dict)

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        ranges = Ranges.of(self.ranges)
        rewriter = Rewriter(graph)
        for op in graph.ops:
            if not (quantizes_weights(graph, op, self.exclude) or _quantizes_states(graph, op, self.exclude)):
                rewriter.keep(op)
                continue
            x, weights, *bias = op.operands
            real: np.ndarray | None = None
            if op.result.name in self.rounded:
                levels, scales, real = _checked(op, self.rounded[op.result.name])
            else:
                settings = weight_settings(op, ranges)
                scales = layer_scales(graph, op, settings)
                levels = _nearest(graph.constants[weights], scales, largest_level(settings.bits))
            quantization = Quantization(tuple(map(float, scales)), (0,) * len(scales), 0)
            constant = rewriter.constant(levels, weights.name, quantization)
            dequantized = rewriter.emit("dequantize", [constant], name=f"{weights.name}.dequantized", source=op.source)
            if real is None:
                operands = [rewriter.map(operand) for operand in bias]
            else:
                operands = [rewriter.constant(real, bias[0].name if bias else f"{op.result.name}.bias")]
            rewriter.keep(op, (rewriter.map(x), dequantized, *operands))
        return rewriter.finish()


def quantizes_weights(graph: Graph, op: Op, exclude: Collection[str] = frozenset()) -> bool:
    """Whether ``op`` is a layer of constant weights that reads eight-bit levels and is not in ``exclude``."""
    excluded = op.source in exclude or op.result.name in exclude
    constant = op.kind in MATRIX and all(map(graph.is_constant, op.operands[1:]))
    return constant and not excluded and levels_behind(graph, op.operands[0]) is not None


def _quantizes_states(graph: Graph, op: Op, exclude: Collection[str]) -> bool:
    """Whether ``op`` is a recurrent layer whose inputs and hidden states are eight-bit levels."""
    if op.kind not in RECURRENT or not graph.is_constant(op.operands[1]):
        return False
    projection = graph.producer(op.operands[0])
    return _states(graph, op) is not None and projection is not None and quantizes_weights(graph, projection, exclude)


def _states(graph: Graph, op: Op) -> Value | None:
    """The levels of a recurrent layer's hidden states, which its weights multiply."""
    rounding = graph.only_user(op.result)
    return rounding.result if rounding is not None and rounding.kind == "quantize" else None


def weight_settings(op: Op, ranges: Ranges) -> WeightSettings:
    """What ``ranges`` say of the weights of a layer."""
    return ranges.settings(layer_names(op)).weights


def layer_scales(graph: Graph, op: Op, settings: WeightSettings, changed: np.ndarray | None = None) -> np.ndarray:
    """float32[N]: the scales that settings give the weights of a layer that reads eight-bit levels.

    ``changed`` are float32 weights that take the place of the layer's own.
    """
    weights, *bias = (graph.constants[operand] for operand in op.operands[1:] if graph.is_constant(operand))
    weights = weights if changed is None else changed
    x = _states(graph, op) if op.kind in RECURRENT else levels_behind(graph, op.operands[0])
    if op.kind == "gru":  # a bias for the last gate alone
        bias = [np.pad(bias[0], (2 * weights.shape[1], 0))]
    elif op.kind == "lstm":
        bias = []
    assert x is not None
    groups = {"channel": None, "group": op.integer("groups") if "groups" in op.attributes else 1, "tensor": 1}
    return choose_weight_scales(
        weights,
        0,
        settings.bits,
        bias[0] if bias else None,
        x.type.scale,
        settings.search,
        groups[settings.sharing],
        settings.power_of_two,
    )


def _nearest(weights: np.ndarray, scales: np.ndarray, limit: int) -> np.ndarray:
    exact = scales.astype(np.float64).reshape(-1, *[1] * (weights.ndim - 1))
    return np.clip(np.rint(weights / exact), -limit, limit).astype(np.int8)


def _checked(op: Op, layer: RoundedLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels int8, scales and bias float32."""
    levels, scales, bias = map(np.asarray, layer)
    shape = op.operands[1].type.shape
    if levels.shape != shape or {scales.shape, bias.shape} != {shape[:1]} or np.abs(levels).max(initial=0) > 127:
        raise CompileError(
            f"{op.label()}: a layer rounded beforehand needs levels within +-127 of shape {list(shape)}, and a scale "
            f"and a bias for each of its {shape[0]} outputs; round the layers of this very graph"
        )
    return levels.astype(np.int8), scales.astype(np.float32), bias.astype(np.float32)
