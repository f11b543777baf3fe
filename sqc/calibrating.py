"""Running a float model over calibration data, and what it records of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import numpy as np

from sqc.calibration import (
    KEPT_SAMPLES,
    Calibration,
    Reservoir,
    Statistics,
    accumulate,
    digest_of,
    digested,
)
from sqc.errors import CalibrationError
from sqc.inspection import OWN_QUANTIZATION, is_quantized, known_nodes
from sqc.ir import Graph, Value, rebatch
from sqc.passes import pipeline
from sqc.passes.insert_quantization import observed_values
from sqc.pieces import filled_up
from sqc.probe import load_graph
from sqc.progress import Progress

Batch: TypeAlias = np.ndarray | Mapping[str, np.ndarray]

_PROBE_BYTES = 64 << 20
"""Bound on the activations that one calibration step holds; it sets how many samples run at once."""


def calibrate(
    graph: Graph,
    batches: Iterable[Batch],
    *,
    exclude: Iterable[str] = (),
    target: str = "native",
    keep: int = KEPT_SAMPLES,
    shard: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
) -> Calibration:
    """Run the float graph over ``batches`` and record statistics of every tensor that will be quantized.

    ``batches`` yields arrays (a model of one input) or ``{input: array}``, with any number of samples each along the
    leading axis. The graph runs as compiled float kernels, a bounded number of samples at a time. ``progress`` is
    called with the samples done and their number, 0 where it is unknown. ``exclude`` names nodes that will stay in
    float, as for :func:`sqc.quantize`.

    ``keep`` is how many of the samples stay in the calibration (`Calibration.inputs`), for what is decided by running
    layers again; 0 keeps none, and never do they take more than 64 MiB. Where the model fixes its batch, whole batches
    are kept, ``keep`` rounded up to them.

    ``shard=(i, n)`` takes every n-th batch from the i-th on, ``1 <= i <= n``. The n shards, made with one target,
    merge to the calibration of one run, in any order.

    Raises CalibrationError for no samples, a negative ``keep``, no such shard, NaN, wrong names, shapes or types, or a
    model that brings its own quantization, and CompileError for an unknown node.
    """
    if is_quantized(graph):
        raise CalibrationError(OWN_QUANTIZATION)
    first, step = shard
    if not 1 <= first <= step:
        raise CalibrationError(f"there is no shard {first} of {step}; shards of N are numbered 1 to N")
    if keep < 0:
        raise CalibrationError(f"cannot keep {keep} samples of the inputs; 0 keeps none")
    graph = pipeline.run(pipeline.FLOAT, graph)
    probe = _Probe(graph, observed_values(graph, known_nodes(graph, exclude)), target)
    statistics = Statistics()
    total = sum(map(_samples, batches[first - 1 :: step])) if isinstance(batches, Sequence) else 0
    for number, batch in islice(enumerate(batches), first - 1, None, step):
        part = Statistics()
        digests = []
        for chunk in _chunks(graph, batch, probe.samples):
            probe.observe(chunk, part)
            samples = digested(chunk, probe.sample_rows)
            part.inputs = part.inputs.merge(Reservoir.of(samples, keep))
            digests += [digest for digest, _ in samples]
            if progress:
                progress(statistics.samples + part.samples, total, "calibrating")
        if part.samples:
            statistics = statistics.merge(part.as_batch(number, digest_of(digests)))
    return Calibration(statistics)


class _Probe:
    """The float graph, compiled with the values to observe as outputs.

    It runs ``samples`` samples at a time. The model takes them ``sample_rows`` together: 1, or the batch that it fixes.
    """

    def __init__(self, graph: Graph, observed: Sequence[Value], target: str) -> None:
        produced = [value for value in observed if value not in graph.inputs]
        self._inputs = [value.name for value in observed if value in graph.inputs]
        self._axes = {value.name: axis for value in observed if (axis := _channel_axis(graph, value)) is not None}
        probe = replace(graph, outputs={value.name: value for value in produced})
        self.samples = self.sample_rows = graph.inputs[0].type.shape[0]
        self._batch_axes = {value.name: 0 for value in produced}
        if graph.dynamic_batch:
            wider = rebatch(probe, 1 + probe.inputs[0].type.shape[0]).outputs
            for value in produced:
                pairs = zip(value.type.shape, wider[value.name].type.shape, strict=True)
                self._batch_axes[value.name] = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
            per_sample = sum(value.type.bytes for value in produced) or 1
            self.sample_rows, self.samples = 1, max(1, min(8, _PROBE_BYTES // per_sample))
            probe = rebatch(probe, self.samples)
        self._model = load_graph(probe, target) if produced else None

    def observe(self, inputs: Mapping[str, np.ndarray], statistics: Statistics) -> None:
        """Add what the graph makes of ``{input: array}``, at most ``samples`` samples, to ``statistics``."""
        count = len(next(iter(inputs.values())))
        tensors = {name: inputs[name] for name in self._inputs}
        if self._model is not None:
            # A ragged last chunk is filled up with copies of its last sample, whose results are cut off again.
            results = self._model.run(filled_up(inputs, self.samples - count))
            tensors.update({name: self._first(name, y, count) for name, y in results.items()})
        accumulate(statistics, tensors, count, self._axes)

    def _first(self, name: str, y: np.ndarray, count: int) -> np.ndarray:
        """What belongs to the first ``count`` samples."""
        if count == self.samples:
            return y
        axis = self._batch_axes[name]
        return np.ascontiguousarray(y.take(range(y.shape[axis] * count // self.samples), axis))


def _channel_axis(graph: Graph, value: Value) -> int | None:
    """The axis of a value's channels in a graph whose images have them last; None of a value without such an axis."""
    readers = [op for op in graph.ops if value in op.operands]
    axis = value.type.rank - 1
    if readers and readers[0].kind == "transpose":  # an input in the model's own order
        axis = readers[0].integers("perm")[-1]
    return axis if axis > 0 else None


def _samples(batch: Batch) -> int:
    arrays = list(batch.values()) if isinstance(batch, Mapping) else [batch]
    return len(arrays[0]) if arrays and np.ndim(arrays[0]) else 0


def _chunks(graph: Graph, batch: Batch, size: int) -> Iterator[dict[str, np.ndarray]]:
    """A batch of calibration data as ``{input: array}`` with at most ``size`` samples each."""
    arrays = _named(graph, batch)
    # A model of a fixed batch takes whole ones, of inputs that may hold its samples along different axes.
    extents = {value.name: 1 if graph.dynamic_batch else max(1, value.type.shape[0]) for value in graph.inputs}
    if any(len(arrays[name]) % extent for name, extent in extents.items()):
        raise CalibrationError(f"the model takes batches of {graph.inputs[0].type.shape[0]} samples")
    counts = {name: len(arrays[name]) // extent for name, extent in extents.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' has {len(arrays[name])}" for name in counts)
        raise CalibrationError(f"the inputs of a calibration batch must have as many samples each, but {listed}")
    step = size if graph.dynamic_batch else 1
    for start in range(0, min(counts.values()), step):
        yield {name: array[start * extents[name] : (start + step) * extents[name]] for name, array in arrays.items()}


def _named(graph: Graph, batch: Batch) -> dict[str, np.ndarray]:
    names = [value.name for value in graph.inputs]
    if not isinstance(batch, Mapping):
        if len(names) != 1:
            raise CalibrationError(f"the model has the inputs {', '.join(names)}: give batches as {{input: array}}")
        batch = {names[0]: batch}
    if set(batch) != set(names):
        raise CalibrationError(f"calibration data must name the inputs {', '.join(names)}, not {', '.join(batch)}")
    arrays = {}
    for value in graph.inputs:
        array = np.asarray(batch[value.name])
        expected = value.type.shape[1:]
        if array.ndim != value.type.rank or array.shape[1:] != expected or array.dtype.name != value.type.dtype:
            raise CalibrationError(
                f"calibration data for '{value.name}' must be {value.type.dtype} of shape "
                f"[samples, {', '.join(map(str, expected))}], not {array.dtype.name}{list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise CalibrationError(f"calibration data for '{value.name}' hold NaN or infinite values; remove them")
        arrays[value.name] = np.ascontiguousarray(array)
    return arrays
