"""Which layers a quantized network loses its accuracy in, why, and what leaving them in float would mend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sqc.accuracy.layers import Layer
from sqc.accuracy.metrics import agreement
from sqc.accuracy.noise import LayerNoise, Noise, damage, measure
from sqc.accuracy.running import named
from sqc.accuracy.weights import ChannelWeights, channel_weights
from sqc.accuracy.yardstick import decibels
from sqc.calibration import Histogram
from sqc.ir import Graph
from sqc.passes import pipeline
from sqc.progress import Progress

SAMPLES = 64
MENDED = 3
"""Of so many layers it is measured what excluding them gains."""

Requantize = Callable[[frozenset[str]], Graph]
"""The quantized graph with these nodes in float."""


@dataclass(frozen=True)
class Blame:
    """What one layer does. Ratios of signal to noise are in decibels; infinite where there is no noise.

    ``node`` is the heart of the layer, ``nodes`` are all that compute in it, ``value`` is the tensor that it rounds.

    ``own_snr`` is that of the noise which the layer makes itself, at its own value; ``output_snr`` what that noise
    alone leaves at the network's outputs; ``cumulative_snr`` that of the integer network at this value. ``share`` is
    the layer's part in the noise power of all layers at the outputs.

    ``weights``, ``rounding`` and ``clipping`` divide the layer's own noise by where it comes from (weights include the
    bias), ``shift`` is the part that is constant in each channel. ``clipped`` is the share of float values outside the
    range [``low``, ``high``], and ``clipped_input`` the largest of its inputs.

    Excluding the nodes ``exclude`` removes most of the noise; ``gain`` is by how much that raised the signal-to-noise
    ratio of the outputs, where it was measured.
    """

    node: str
    nodes: tuple[str, ...]
    value: str
    computes: str
    own_snr: float
    output_snr: float
    cumulative_snr: float
    share: float
    weights: float
    rounding: float
    clipping: float
    shift: float
    clipped: float
    clipped_input: float
    low: float
    high: float
    scale: float
    zero_point: int
    exclude: tuple[str, ...]
    gain: float | None
    histogram: Histogram
    channels: tuple[ChannelWeights, ...]

    @property
    def cause(self) -> str:
        """Where most of the layer's own noise comes from."""
        parts = {"weights": self.weights, "rounding": self.rounding, "clipping": self.clipping}
        cause = max(parts, key=parts.__getitem__)
        return "bias" if cause == "weights" and self.shift > 0.5 else cause

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, without histogram; null stands for infinite."""
        skipped = ("histogram", "channels")
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in skipped}
        weights = [{"node": part.node, "error": part.total_error} for part in self.channels]
        return {
            **{
                name: None if isinstance(value, float) and math.isinf(value) else value for name, value in plain.items()
            },
            "cause": self.cause,
            "channels": weights,
        }


@dataclass(frozen=True)
class BlameReport:
    """All layers, the worst first; the signal-to-noise ratio of the integer network's outputs, and its agreement.

    ``agreement`` is the share of samples whose largest entry of the first output is where the float network's is.
    """

    layers: tuple[Blame, ...]
    output_snr: float
    agreement: float
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "samples": self.samples,
            "output_snr": None if math.isinf(self.output_snr) else self.output_snr,
            "agreement": self.agreement,
            "layers": [layer.to_dict() for layer in self.layers],
        }


def blame(
    graph: Graph,
    quantized: Graph,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    requantize: Requantize | None = None,
    mended: int = MENDED,
    samples: int | None = SAMPLES,
    target: str = "native",
    progress: Progress | None = None,
) -> BlameReport:
    """Rank the layers of a quantized graph by what their noise does to the network's outputs.

    ``graph`` is the float graph that ``quantized`` was made from; for a preset that evens out channels take both from
    :func:`sqc.quantizing.quantize_beside_float`, lest scaled channels pass for noise. ``inputs`` are arrays [samples,
    ...] of which the first ``samples`` are used. With ``requantize`` the gain of excluding the ``mended`` worst layers,
    one at a time, is measured. ``progress`` counts chunks of samples.

    Where an output is a softmax, its operand counts. Raises CompileError if the graphs do not belong together,
    InputError for data that do not fit.
    """
    graph = pipeline.run(pipeline.FLOAT, graph)
    inputs = named(graph, inputs, samples)
    noise = measure(graph, quantized, inputs, target, progress)
    ranked = sorted(noise.layers, key=lambda layer: -layer.damage)
    total = sum(layer.damage for layer in ranked)
    rows = [_row(layer, noise, total, graph, quantized) for layer in ranked]
    if requantize is not None:
        for i, row in enumerate(rows[:mended]):
            if row.exclude and row.share > 0.0:
                rest = damage(graph, requantize(frozenset(row.exclude)), inputs, noise.yardstick, target)
                rows[i] = replace(row, gain=decibels(rest) - decibels(noise.damage))
    first = next(iter(graph.outputs))
    sides = (np.concatenate([part[first] for part in side]) for side in (noise.outputs, noise.yardstick.references))
    return BlameReport(tuple(rows), decibels(noise.damage), agreement(*sides), len(next(iter(inputs.values()))))


def readers(layer: Layer, layers: Sequence[Layer]) -> tuple[str, ...]:
    """The nodes of the layers that read what this one rounds: in float, they read it unrounded."""
    return tuple(dict.fromkeys(node for other in layers if layer.stand in other.reads for node in other.nodes))


def _row(noise: LayerNoise, measured: Noise, total: float, graph: Graph, quantized: Graph) -> Blame:
    layer = noise.layer
    weights, rounding, clipping = noise.parts
    exclude = layer.nodes if weights >= 0.5 else readers(layer, [other.layer for other in measured.layers])
    quantization = layer.stand.type.quantization
    scale, zero_point = (quantization.scale[0], quantization.zero_point[0]) if quantization else (0.0, 0)
    own = noise.own.noise
    samples_a_channel = max(noise.count // max(noise.shift.size, 1), 1)
    shift = float((noise.shift**2).sum()) / samples_a_channel / own if own else 0.0
    channels = [channel_weights(op, integer, graph, quantized) for op, integer in layer.matrices()]
    clipped = {other.layer.stand: other.clipped / max(other.count, 1) for other in measured.layers}
    return Blame(
        node=layer.name,
        nodes=layer.nodes,
        value=layer.value.name,
        computes=layer.computes,
        own_snr=decibels(noise.own.ratio),
        output_snr=decibels(noise.damage),
        cumulative_snr=decibels(noise.cumulative.ratio),
        share=noise.damage / total if total else 0.0,
        weights=weights,
        rounding=rounding,
        clipping=clipping,
        shift=min(shift, 1.0),
        clipped=clipped[layer.stand],
        clipped_input=max((clipped.get(read, 0.0) for read in layer.reads), default=0.0),
        low=scale * (0 - zero_point),
        high=scale * (255 - zero_point),
        scale=scale,
        zero_point=zero_point,
        exclude=exclude,
        gain=None,
        histogram=noise.histogram,
        channels=tuple(channel for channel in channels if channel is not None),
    )
