"""Even out the channels that share one scale, where that costs nothing when the model runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sqc.calibration.smoothing import LARGEST_FACTOR
from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.channels import ChannelExtremes, Channels, by_weight, link_channels, scales_channels
from sqc.passes.rounding import MATRIX

_MARGIN = 1.5
"""How far beyond what calibration saw of a channel its scaled range reaches. A clip may cut off what lies further."""


@dataclass(frozen=True)
class Equalize:
    """Scale up channels that use little of their tensor's range; the weights that read them make up for it.

    depthwise(relu(conv2d(x, w1, b1)), w2, b2)  ->  depthwise(relu(conv2d(x, w1 * r, b1 * r)), w2 / r, b2)

    Cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721), from the ranges of channels on calibration data, at
    the places where it is free: weights have a scale for each output channel, so that neither the layer that yields a
    channel nor a depthwise convolution that reads it loses precision. In dense layers ``w2 / r`` spreads the weights of
    one output; so channels that they read take the factors that ``smoothed`` gives them by the names of values
    (:mod:`sqc.refine.smoothing`), or stay. A normalization scales channels, too.

    Factors are at least 1, so a clip keeps its bounds: of a scaled channel it cuts off only what lies beyond
    ``_MARGIN`` times the range seen. ``extremes`` maps names of values to what was seen of them; values that it lacks
    are not looked at.
    """

    name: ClassVar[str] = "equalize"
    extremes: Mapping[str, ChannelExtremes] = field(default_factory=dict)
    smoothed: Mapping[str, ArrayLike] = field(default_factory=dict)

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        channels = link_channels(graph)
        factors = self._factors(graph, channels)
        rewriter = Rewriter(graph)
        for op in graph.ops:
            if scales_channels(graph, op):
                behind = factors[channels.classes(op.result)]
                self._note(notes, op, behind)
                scaled = [_times(rewriter, graph, parameter, behind) for parameter in op.operands[1:]]
                rewriter.keep(op, [rewriter.map(op.operands[0]), *scaled])
                continue
            if op.kind not in MATRIX or not all(map(graph.is_constant, op.operands[1:])):
                rewriter.keep(op)
                continue
            before, behind = (factors[channels.classes(value)] for value in (op.operands[0], op.result))
            self._note(notes, op, behind)
            rewriter.keep(op, _scaled(rewriter, graph, op, before, behind))
        return rewriter.finish()

    def factors(self, graph: Graph) -> dict[str, NDArray[np.float64]]:
        """The factors [C] of all values that are scaled, by name."""
        channels = link_channels(graph)
        factors = self._factors(graph, channels)
        found = {value.name: factors[channels.classes(value)] for value in channels.values}
        return {name: scale for name, scale in found.items() if (scale != 1.0).any()}

    def _note(self, notes: Notes, op: Op, factors: NDArray[np.float64]) -> None:
        if (factors != 1.0).any():
            notes.add(self, op, f"{int((factors != 1.0).sum())} of {factors.size} channels are scaled up")

    def _factors(self, graph: Graph, channels: Channels) -> NDArray[np.float64]:
        """A factor for each class of channels."""
        shares = np.zeros(channels.count)  # of a tensor's range, the part that a class fills, at most
        for value in channels.values:
            if value.name in self.extremes:
                np.maximum.at(shares, channels.classes(value), _shares(self.extremes[value.name]))
        factors = np.where((shares > 0.0) & ~channels.bound & ~channels.mixed, room(shares), 1.0)
        for value in channels.values:
            if value.name in self.smoothed:
                factors[channels.classes(value)] = self.smoothed[value.name]
        return factors


def room(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest factor for a channel that fills a share of its tensor's range; at least 1."""
    return np.asarray(1.0 / np.clip(_MARGIN * shares, 1.0 / LARGEST_FACTOR, 1.0))


def _shares(extremes: ChannelExtremes) -> NDArray[np.float64]:
    """What part of the range of all channels each one fills, on the side where it fills more."""
    minimum, maximum = map(np.asarray, extremes)
    shares = np.zeros(len(minimum))
    for side in (np.maximum(maximum, 0.0), np.maximum(-minimum, 0.0)):
        if side.max() > 0.0:
            shares = np.maximum(shares, side / side.max())
    return shares


def _times(rewriter: Rewriter, graph: Graph, parameter: Value, factors: NDArray[np.float64]) -> Value:
    if (factors == 1.0).all():
        return rewriter.map(parameter)
    return rewriter.constant((graph.constants[parameter] * factors).astype(np.float32), parameter.name)


def _scaled(
    rewriter: Rewriter, graph: Graph, op: Op, before: NDArray[np.float64], behind: NDArray[np.float64]
) -> list[Value]:
    """The operands of a layer whose inputs were multiplied by ``before``, and whose outputs shall be by ``behind``."""
    x, w, *bias = op.operands
    if (before == 1.0).all() and (behind == 1.0).all():
        return [rewriter.map(operand) for operand in op.operands]
    weights = graph.constants[w].astype(np.float64)
    divisors = by_weight(before, weights.shape)
    tail = (1,) * (weights.ndim - 2)
    scaled = weights * behind.reshape(-1, 1, *tail) / divisors.reshape(*divisors.shape, *tail)
    biases = [rewriter.constant((graph.constants[b] * behind).astype(np.float32), b.name) for b in bias]
    return [rewriter.map(x), rewriter.constant(scaled.astype(np.float32), w.name), *biases]
