"""How much noise each layer adds when it is quantized, and what that does to the network's outputs.

The noise that a layer makes itself is measured on equal inputs: the values of the float network, rounded to the levels
on which the layer reads them, go through its integer form and through its float form. So neither what layers before it
did wrong nor the rounding of its inputs counts as its own, and a layer is found whatever else is broken. Added to the
layer's value in the float network, the noise shows what it does to the outputs with all other layers in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sqc.accuracy.layers import Layer, compared_ends, match
from sqc.accuracy.running import Chunk, FloatNetwork, IntegerNetwork, chunks, real, rounded, samples_at_once
from sqc.accuracy.yardstick import Yardstick
from sqc.calibration import Histogram
from sqc.ir import Graph, Value, rebatch
from sqc.probe import load_graph
from sqc.progress import Progress


@dataclass
class Power:
    """Sums of squares of a signal and of the noise in it."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, signal: np.ndarray, noise: np.ndarray) -> None:
        self.signal += energy(signal)
        self.noise += energy(noise)

    @property
    def ratio(self) -> float:
        """Noise over signal; infinite for noise without signal."""
        if self.noise == 0.0:
            return 0.0
        return self.noise / self.signal if self.signal > 0.0 else float("inf")


@dataclass
class LayerNoise:
    """Sums over all samples about one layer.

    ``own`` compares the layer's value with the noise that it makes itself, ``cumulative`` with what has come together
    when all layers up to it are quantized, within the interval that is of use (`Layer.useful`). ``damage`` is what the
    layer's own noise does to the network's outputs, as noise over signal. ``rounding`` and ``clipping`` are the squares
    of what rounding the float value to the layer's levels changes, inside their range and outside; ``clipped`` counts
    the values outside. ``shift`` sums the noise up by channel.
    """

    layer: Layer
    own: Power = field(default_factory=Power)
    cumulative: Power = field(default_factory=Power)
    damage: float = 0.0
    rounding: float = 0.0
    clipping: float = 0.0
    clipped: int = 0
    count: int = 0
    shift: np.ndarray = field(default_factory=lambda: np.zeros(1))
    histogram: Histogram = field(default_factory=Histogram.empty)

    @property
    def parts(self) -> tuple[float, float, float]:
        """The shares of weights, rounding and clipping in the layer's own noise; zeros where there is none."""
        own = self.own.noise
        if own == 0.0:
            return 0.0, 0.0, 0.0
        if self.layer.owner is not None:
            return 1.0, 0.0, 0.0
        whole = max(own, self.rounding + self.clipping)
        rounding, clipping = self.rounding / whole, self.clipping / whole
        return max(0.0, 1.0 - rounding - clipping), rounding, clipping


@dataclass
class Noise:
    """What was measured: all layers, and the outputs of the integer network by chunks, with their noise over signal."""

    layers: list[LayerNoise]
    yardstick: Yardstick
    outputs: list[dict[str, np.ndarray]]
    damage: float = 0.0


def measure(
    graph: Graph,
    quantized: Graph,
    inputs: Mapping[str, np.ndarray],
    target: str = "native",
    progress: Progress | None = None,
) -> Noise:
    """Measure the noise of all layers of ``quantized`` on ``inputs`` {input: array of samples}.

    ``graph`` is the float graph that was quantized, after its passes. Where an output is a softmax, its operand counts.
    Raises CompileError if the two do not belong together.
    """
    size = samples_at_once(graph)
    if graph.dynamic_batch:
        graph, quantized = rebatch(graph, size), rebatch(quantized, size)
    layers, ends = match(graph, quantized)
    network = FloatNetwork(quantized, layers, ends, target)
    integer = IntegerNetwork(quantized, layers, ends, target)
    parts = list(chunks(inputs, size))
    references = [network.ends(network.run(chunk.inputs)) for chunk in parts]
    result = Noise([*map(LayerNoise, layers)], Yardstick({end.name: end.axis for end in ends}, parts, references), [])
    for index, chunk in enumerate(parts):
        _measure(result, network, integer, index, chunk)
        if progress:
            progress(index + 1, len(parts), "measuring layers")
    return result


def _measure(result: Noise, network: FloatNetwork, integer: IntegerNetwork, index: int, chunk: Chunk) -> None:
    arrays = network.run(chunk.inputs)
    together, outputs = integer.run(chunk.inputs)
    result.outputs.append({name: chunk.real(array) for name, array in outputs.items()})
    result.damage += result.yardstick.noise(index, outputs)
    apart = integer.apart(arrays)
    for noise in result.layers:
        layer = noise.layer
        value = np.clip(arrays[layer.stand], *layer.useful)
        held = np.clip(rounded(value, layer.stand), *layer.useful)
        own = _own(layer, network, arrays, apart[layer.stand], held)
        signal, rounding = chunk.real(value), chunk.real(held - value)
        noise.own.add(signal, chunk.real(own))
        noise.cumulative.add(signal, np.clip(chunk.real(together[layer.stand]), *layer.useful) - signal)
        _split(noise, signal, rounding)
        noise.shift = noise.shift + chunk.real(own).reshape(-1, own.shape[-1]).sum(axis=0, dtype=np.float64)
        noise.histogram = noise.histogram.merge(Histogram.of(signal, layer.value.name))
        if own.any():
            disturbed = network.ends(arrays, {layer.stand: value + own})
            noise.damage += result.yardstick.noise(index, disturbed)


def _own(
    layer: Layer, network: FloatNetwork, arrays: Mapping[Value, np.ndarray], integer: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """The noise that a layer makes itself. Where a range is shared, its rounding is the concatenation's."""
    if layer.integer_ops[-1].kind == "concat":
        return np.asarray(held - arrays[layer.stand])
    exact = network.alone(layer.stand, {read: rounded(arrays[read], read) for read in layer.reads})
    exact = rounded(exact, layer.stand) if layer.owner else exact
    return np.asarray(np.clip(integer, *layer.useful) - np.clip(exact, *layer.useful))


def _split(noise: LayerNoise, signal: np.ndarray, rounding: np.ndarray) -> None:
    """Tell what is rounded inside the range from what is clipped: beyond half a step outside."""
    noise.count += signal.size
    if noise.layer.stand.type.quantization is None:
        return
    step = noise.layer.stand.type.scale
    outside = np.abs(rounding) > np.float32(0.5 * step * (1 + 1e-3))
    clipping = energy(rounding[outside])
    noise.clipped += int(outside.sum())
    noise.clipping += clipping
    noise.rounding += energy(rounding) - clipping


def damage(
    graph: Graph, quantized: Graph, inputs: Mapping[str, np.ndarray], yardstick: Yardstick, target: str = "native"
) -> float:
    """Noise over signal at the outputs of another quantization of ``graph``, on the inputs of the yardstick."""
    size = samples_at_once(graph)
    if graph.dynamic_batch:
        graph, quantized = rebatch(graph, size), rebatch(quantized, size)
    stands = {name: stand for name, _, stand, _ in compared_ends(graph, quantized)}
    model = load_graph(replace(quantized, outputs=stands), target)
    total = 0.0
    for index, chunk in enumerate(chunks(inputs, size)):
        outputs = {name: real(array, stands[name]) for name, array in model.run(chunk.inputs).items()}
        total += yardstick.noise(index, outputs)
    return total


def energy(array: np.ndarray) -> float:
    """The sum of squares, in float64."""
    flat = array.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
