"""How much noise each layer adds when it is quantized, and what that does to the network's outputs.

The noise that a layer makes itself is measured on equal inputs: the values of the float network, rounded to the levels
on which the layer reads them, go through its integer form and through its float form. So neither what layers before it
did wrong nor the rounding of its inputs counts as its own, and a layer is found whatever else is broken. Added to the
layer's value in the float network, the noise shows what it does to the outputs with all other layers in float.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sqc.accuracy.layers import End, Layer, compared_ends, match
from sqc.accuracy.running import Chunk, FloatNetwork, IntegerNetwork, chunks, load, real, rounded, samples_at_once
from sqc.calibration import Histogram
from sqc.codegen.build import Progress
from sqc.ir import Graph, rebatch


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
    when all layers up to it are quantized, and ``ends`` the network's outputs with what the layer's own noise does to
    them; all within the interval that is of use (`Layer.useful`). ``rounding`` and ``clipping`` are the squares of what
    rounding the float value to the layer's levels changes, inside their range and outside; ``clipped`` counts the
    values outside. ``shift`` sums the noise up by channel.
    """

    layer: Layer
    own: Power = field(default_factory=Power)
    cumulative: Power = field(default_factory=Power)
    ends: dict[str, Power] = field(default_factory=dict)
    rounding: float = 0.0
    clipping: float = 0.0
    clipped: int = 0
    count: int = 0
    shift: np.ndarray = field(default_factory=lambda: np.zeros(1))
    histogram: Histogram = field(default_factory=Histogram.empty)

    @property
    def damage(self) -> float:
        """Noise over signal at the network's outputs, the mean over them."""
        return mean_ratio(self.ends)


@dataclass
class Noise:
    """What was measured: all layers, the ends of the integer network, and both networks' results for them."""

    layers: list[LayerNoise]
    ends: dict[str, Power]
    results: dict[str, list[np.ndarray]]
    references: dict[str, list[np.ndarray]]
    samples: int = 0


def measure(
    graph: Graph,
    quantized: Graph,
    inputs: Mapping[str, np.ndarray],
    target: str = "native",
    progress: Progress | None = None,
) -> Noise:
    """Measure the noise of all layers of ``quantized`` on ``inputs`` {input: array of samples}.

    ``graph`` is the float graph that was quantized, after its passes. Raises CompileError if the two do not belong
    together.
    """
    size = samples_at_once(graph)
    if graph.dynamic_batch:
        graph, quantized = rebatch(graph, size), rebatch(quantized, size)
    layers, ends = match(graph, quantized)
    networks = FloatNetwork(quantized, layers, ends, target), IntegerNetwork(quantized, layers, ends, target)
    names = [end.name for end in ends]
    result = Noise(
        [LayerNoise(layer, ends={name: Power() for name in names}) for layer in layers],
        {name: Power() for name in names},
        {name: [] for name in names},
        {name: [] for name in names},
    )
    total = len(next(iter(inputs.values())))
    for chunk in chunks(inputs, size):
        _measure(result, ends, networks, chunk)
        result.samples += chunk.share[0]
        if progress:
            progress(result.samples, total)
    return result


def _measure(result: Noise, ends: list[End], networks: tuple[FloatNetwork, IntegerNetwork], chunk: Chunk) -> None:
    network, integer = networks
    arrays = network.run(chunk.inputs)
    references = network.ends(arrays)
    together, outputs = integer.run(chunk.inputs)
    for end in ends:
        reference, output = (_centred(chunk.real(a[end.name]), end.axis) for a in (references, outputs))
        result.ends[end.name].add(reference, output - reference)
        result.references[end.name].append(reference)
        result.results[end.name].append(output)
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
        disturbed = network.ends(arrays, {layer.stand: value + own}) if own.any() else references
        for end in ends:
            reference, output = (_centred(chunk.real(a[end.name]), end.axis) for a in (references, disturbed))
            noise.ends[end.name].add(reference, output - reference)


def _own(
    layer: Layer, network: FloatNetwork, arrays: Mapping[object, np.ndarray], integer: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """The noise that a layer makes itself. Where a range is shared, its rounding is the concatenation's."""
    if layer.integer_ops[-1].kind == "concat":
        return held - arrays[layer.stand]
    exact = network.alone(layer.stand, {read: rounded(arrays[read], read) for read in layer.reads})
    exact = rounded(exact, layer.stand) if layer.owner else exact
    return np.clip(integer, *layer.useful) - np.clip(exact, *layer.useful)


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


def _centred(array: np.ndarray, axis: int | None) -> np.ndarray:
    return array if axis is None else array - array.mean(axis=axis, keepdims=True)


def outputs_noise(
    graph: Graph,
    quantized: Graph,
    inputs: Mapping[str, np.ndarray],
    references: Mapping[str, Sequence[np.ndarray]],
    target: str = "native",
) -> dict[str, Power]:
    """The noise at the ends of another quantization of ``graph``, against the ``references`` that `measure` left."""
    size = samples_at_once(graph)
    if graph.dynamic_batch:
        graph, quantized = rebatch(graph, size), rebatch(quantized, size)
    ends = compared_ends(graph, quantized)
    model = load(replace(quantized, outputs={name: stand for name, _, stand, _ in ends}), target)
    result = {name: Power() for name, *_ in ends}
    for index, chunk in enumerate(chunks(inputs, size)):
        outputs = model.run(chunk.inputs)
        for name, _, stand, axis in ends:
            reference = references[name][index]
            result[name].add(reference, _centred(chunk.real(real(outputs[name], stand)), axis) - reference)
    return result


def mean_ratio(ends: Mapping[str, Power]) -> float:
    """Noise over signal, the mean over the ends."""
    return float(np.mean([power.ratio for power in ends.values()]))


def decibels(ratio: float) -> float:
    """Signal over noise in decibels, from noise over signal."""
    if ratio <= 0.0:
        return math.inf
    return -10.0 * math.log10(ratio) if ratio < math.inf else -math.inf


def energy(array: np.ndarray) -> float:
    """The sum of squares, in float64."""
    flat = array.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
