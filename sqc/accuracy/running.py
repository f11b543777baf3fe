"""Running both graphs over samples: whole, layer by layer, and the float one again from some layer on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sqc.accuracy.layers import End, Layer, Part, integer_parts
from sqc.codegen.objects import ObjectStore
from sqc.errors import InputError
from sqc.ir import Graph, Value
from sqc.pieces import filled_up
from sqc.probe import load_graph
from sqc.runtime import Model

Arrays = dict[Value, np.ndarray]
"""Arrays by the values of the quantized graph: its inputs, and its stands as real numbers of the float network."""

_BYTES = 128 << 20
_SAMPLES_AT_ONCE = 16


@dataclass(frozen=True)
class Chunk:
    """Inputs {input: array} of as many samples as the graphs take; the first ``share`` of each array's rows count."""

    inputs: Mapping[str, np.ndarray]
    share: tuple[int, int]

    def real(self, array: np.ndarray) -> np.ndarray:
        """The rows of a result that belong to samples, not to what fills the chunk up."""
        count, size = self.share
        return array[: len(array) * count // size]


def named(
    graph: Graph, inputs: np.ndarray | Mapping[str, np.ndarray], limit: int | None = None
) -> dict[str, np.ndarray]:
    """Data as {input: array [samples, ...]}, of at most ``limit`` samples.

    Raises InputError where they are empty, or not what the model takes.
    """
    names = [value.name for value in graph.inputs]
    if not isinstance(inputs, Mapping):
        inputs = {names[0]: inputs} if len(names) == 1 else {}
    if set(inputs) != set(names):
        raise InputError(f"evaluation data must be {{input: array}} for the inputs {', '.join(names)}")
    arrays = {name: np.asarray(inputs[name])[:limit] for name in names}
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError("evaluation data need at least one sample, and as many for each input")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise InputError("evaluation data hold NaN or infinite values; remove them")
    return arrays


def samples_at_once(graph: Graph) -> int:
    """The samples for which all values of ``graph`` stay within a bound on memory; its batch if fixed."""
    size = graph.inputs[0].type.shape[0]
    if not graph.dynamic_batch:
        return size
    per_sample = sum(op.result.type.bytes for op in graph.ops) // size
    return max(1, min(_SAMPLES_AT_ONCE, _BYTES // max(per_sample, 1)))


def chunks(inputs: Mapping[str, np.ndarray], size: int) -> Iterator[Chunk]:
    """The samples in pieces of ``size``, the last one filled up with copies of its last sample."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        piece = {name: array[start : start + size] for name, array in inputs.items()}
        here = min(size, count - start)
        yield Chunk(filled_up(piece, size - here), (here, size))


class FloatNetwork:
    """The float graph as compiled parts, so that it can be run again from any layer on."""

    def __init__(self, quantized: Graph, layers: Sequence[Layer], ends: Sequence[End], target: str) -> None:
        self._inputs = {value.name: value for value in quantized.inputs}
        store = ObjectStore()
        self._layers = [(layer.stand, _Runner(layer.part, target, store)) for layer in layers]
        self._ends = [(end.name, _Runner(end.part, target, store)) for end in ends]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The values of all layers."""
        arrays = {self._inputs[name]: array for name, array in inputs.items()}
        for stand, runner in self._layers:
            arrays[stand] = runner(arrays)
        return arrays

    def alone(self, stand: Value, arrays: Mapping[Value, np.ndarray]) -> np.ndarray:
        """The value of one layer from other arrays of what it reads."""
        return next(runner for value, runner in self._layers if value == stand)(arrays)

    def ends(self, arrays: Arrays, changes: Mapping[Value, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The ends, by output name, where ``changes`` take the place of the values of ``arrays``."""
        current: dict[Value, np.ndarray] = dict(changes or {})
        for stand, runner in self._layers:
            if stand not in current and runner.reads(current):
                current[stand] = runner({**arrays, **current})
        return {name: runner({**arrays, **current}) for name, runner in self._ends}


class _Runner:
    def __init__(self, part: Part, target: str, store: ObjectStore) -> None:
        self._part = part
        self._model = load_graph(part.graph, target, store) if part.graph.ops else None

    def reads(self, values: Collection[Value]) -> bool:
        return any(value in values for value in self._part.feeds.values())

    def __call__(self, arrays: Mapping[Value, np.ndarray]) -> np.ndarray:
        inputs = {name: arrays[value] for name, value in self._part.feeds.items()}
        if self._model is None:
            return next(iter(inputs.values()))
        (result,) = self._model.run(inputs).values()
        return result


class IntegerNetwork:
    """The quantized graph, compiled twice: as it is with all stands shown, and as layers side by side."""

    def __init__(self, quantized: Graph, layers: Sequence[Layer], ends: Sequence[End], target: str) -> None:
        shown = {**{layer.stand.name: layer.stand for layer in layers}, **{end.stand.name: end.stand for end in ends}}
        self._whole = load_graph(replace(quantized, outputs=shown), target)
        self._parts = load_graph(integer_parts(quantized, layers), target)
        self._reads = dict.fromkeys(read for layer in layers for read in layer.reads)
        self._layers, self._ends = layers, ends

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[Arrays, dict[str, np.ndarray]]:
        """What all stands are when the whole network runs on integers, as real numbers; and the ends by name."""
        results = self._whole.run(inputs)
        arrays = {layer.stand: real(results[layer.stand.name], layer.stand) for layer in self._layers}
        return arrays, {end.name: real(results[end.stand.name], end.stand) for end in self._ends}

    def apart(self, arrays: Arrays) -> Arrays:
        """What every layer makes of the values of the float network, rounded where it reads them."""
        results = self._parts.run({read.name: levels(arrays[read], read) for read in self._reads})
        return {layer.stand: real(results[layer.stand.name], layer.stand) for layer in self._layers}


def _holds_levels(value: Value) -> bool:
    """Whether ``value`` holds eight-bit levels of real numbers."""
    return value.type.quantization is not None and value.type.dtype in ("uint8", "int8")


def levels(array: np.ndarray, value: Value) -> np.ndarray:
    """Real numbers as what ``value`` holds of them: rounded to its levels, or as they are. Indices stay indices."""
    if not _holds_levels(value):
        return array
    zero_point = value.type.zero_point
    t: np.ndarray = array / np.float32(value.type.scale)
    np.rint(t, out=t)
    t += np.float32(zero_point)
    np.clip(t, 0, 255, out=t)
    return t.astype(np.uint8)


def real(array: np.ndarray, value: Value) -> np.ndarray:
    """What the levels of ``value`` stand for, as float32; other arrays as they are."""
    if not _holds_levels(value):
        return array
    t = array.astype(np.float32)
    t -= np.float32(value.type.zero_point)
    t *= np.float32(value.type.scale)
    return t


def rounded(array: np.ndarray, value: Value) -> np.ndarray:
    """Real numbers as ``value`` can hold them."""
    return real(levels(array, value), value)


def predict(model: Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs {name: array [samples, ...]} of a model for all samples, in its first batch size."""
    size = model.inputs[0].shape[0] if model.inputs[0].shape else 1
    parts: dict[str, list[np.ndarray]] = {spec.name: [] for spec in model.outputs}
    for chunk in chunks(inputs, size):
        for name, array in model.run(chunk.inputs).items():
            parts[name].append(chunk.real(array))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
