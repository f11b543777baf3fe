"""Running a float model over calibration data, and what it records of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from sqc.calibration import KEPT_SAMPLES, Calibration, Reservoir, Statistics, accumulate
from sqc.codegen.build import Build, Progress, build_program
from sqc.compiler import CompiledModel, known_nodes
from sqc.errors import CalibrationError
from sqc.ir import Graph, rebatch
from sqc.passes import pipeline
from sqc.passes.insert_quantization import observed_values
from sqc.report import Report
from sqc.schedules import Target

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
    progress: Progress | None = None,
) -> Calibration:
    """Run the float graph over ``batches`` and record a histogram of every tensor that will be quantized.

    ``batches`` yields arrays (a model of one input) or ``{input: array}``, with any number of samples each along the
    leading axis. The graph runs as compiled float kernels, a bounded number of samples at a time. ``progress`` is
    called with the samples done and their number, 0 where it is unknown. ``exclude`` names nodes that will stay in
    float, as for :func:`sqc.quantize`.

    ``keep`` is how many of the samples stay in the calibration (`Calibration.inputs`), for what is decided by running
    layers again; 0 keeps none, and never do they take more than 64 MiB. Where the model fixes its batch, whole batches
    are kept, ``keep`` rounded up to them.

    Raises CalibrationError for no samples, a negative ``keep``, NaN, wrong names, shapes or types, and CompileError for
    an unknown node.
    """
    exclude = known_nodes(graph, exclude)
    graph = pipeline.run(pipeline.FLOAT, graph)
    observed = observed_values(graph, exclude)
    produced = [value for value in observed if value not in graph.inputs]
    inputs = [value for value in observed if value in graph.inputs]
    probe = replace(graph, outputs={value.name: value for value in produced})
    size = unit = graph.inputs[0].type.shape[0]
    if graph.dynamic_batch:
        per_sample = sum(value.type.bytes for value in produced) or 1
        unit = 1
        size = max(1, min(8, _PROBE_BYTES // per_sample))
        probe = rebatch(probe, size)
    model = _compile_float(probe, target).load(threads=0) if produced else None
    statistics = Statistics()
    total = sum(map(_samples, batches)) if isinstance(batches, Sequence) else 0
    for sample in _chunks(graph, batches, size):
        count = len(next(iter(sample.values())))
        # A ragged last chunk is filled up with copies of its last sample, whose results are cut off again.
        tensors = {value.name: sample[value.name] for value in inputs}
        if model is not None:
            full = {name: np.concatenate([x, *[x[-1:]] * (size - count)]) for name, x in sample.items()}
            tensors.update({name: y[: len(y) * count // size] for name, y in model.run(full).items()})
        accumulate(statistics, tensors, count)
        statistics.inputs = statistics.inputs.merge(Reservoir.of(sample, keep, unit))
        if progress:
            progress(statistics.samples, total)
    return Calibration(statistics)


def _compile_float(graph: Graph, target: str) -> CompiledModel:
    """A float graph whose values keep their names, without a report."""
    build = Build(Target.parse(target))
    program = build_program(pipeline.run(pipeline.FUSION, graph), build)
    return CompiledModel(build.plan([program], graph.name), Report((), ()))


def _samples(batch: Batch) -> int:
    arrays = list(batch.values()) if isinstance(batch, Mapping) else [batch]
    return len(arrays[0]) if arrays and np.ndim(arrays[0]) else 0


def _chunks(graph: Graph, batches: Iterable[Batch], size: int) -> Iterator[dict[str, np.ndarray]]:
    """The calibration data as ``{input: array}`` with at most ``size`` samples each."""
    for batch in batches:
        arrays = _named(graph, batch)
        if not graph.dynamic_batch and any(
            arrays[value.name].shape[0] % max(1, value.type.shape[0]) for value in graph.inputs
        ):
            raise CalibrationError(f"the model takes batches of {graph.inputs[0].type.shape[0]} samples")
        step = size if graph.dynamic_batch else graph.inputs[0].type.shape[0]
        for start in range(0, _samples(arrays), step):
            yield {name: array[start : start + step] for name, array in arrays.items()}


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
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"'{name}' has {len(array)}" for name, array in arrays.items())
        raise CalibrationError(f"the inputs of a calibration batch must have as many samples each, but {counts}")
    return arrays
