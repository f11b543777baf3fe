"""The driver: what happens to a model between import and library, as four functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sqc.calibration import DEFAULT_SEARCH, Calibration, Statistics, accumulate
from sqc.codegen.build import Build, Progress, build_program
from sqc.codegen.library import build_library
from sqc.codegen.plan import Plan
from sqc.errors import CalibrationError, CompileError
from sqc.ir import Graph, rebatch, verify
from sqc.passes import pipeline
from sqc.passes.base import Notes, Pass
from sqc.passes.insert_quantization import observed_values
from sqc.report import Report, report_of, work_by_result
from sqc.runtime import Model, load_bytes
from sqc.runtime.container import write_atomically
from sqc.schedules import Target

if TYPE_CHECKING:
    from sqc.tuning.records import Records

Batch: TypeAlias = np.ndarray | Mapping[str, np.ndarray]
AfterPass: TypeAlias = Callable[[Pass, Graph], None]

_PROBE_BYTES = 64 << 20
"""Bound on the activations that one calibration step holds; it sets how many samples run at once."""


class CompiledModel:
    """A compiled model in memory: save it, or run it right away.

    ``report`` tells each op's precision and what fused. ``library`` is the file's content; equal inputs give equal
    bytes.
    """

    def __init__(self, plan: Plan, report: Report) -> None:
        self.plan = plan
        self.report = report

    @cached_property
    def library(self) -> bytes:
        """The shared library. Raises ToolchainError without a C compiler."""
        return build_library(self.plan)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the library, whole or not at all. Raises LibraryError if the system refuses."""
        write_atomically(path, self.library)

    def load(self, threads: int | None = None) -> Model:
        """The model, ready to run in this process. Raises ProcessorError if it was compiled for another processor."""
        return load_bytes(self.library, threads)

    @cached_property
    def _model(self) -> Model:
        return self.load()

    def __call__(self, *inputs: Any) -> Any:
        """Run the model as :class:`sqc.Model` does."""
        return self._model(*inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model by names as :class:`sqc.Model` does."""
        return self._model.run(inputs)


def calibrate(
    graph: Graph,
    batches: Iterable[Batch],
    *,
    exclude: Iterable[str] = (),
    target: str = "native",
    progress: Progress | None = None,
) -> Calibration:
    """Run the float graph over ``batches`` and record a histogram of every tensor that will be quantized.

    ``batches`` yields arrays (a model of one input) or ``{input: array}``, with any number of samples each along the
    leading axis. The graph runs as compiled float kernels, a bounded number of samples at a time. ``progress`` is
    called with the samples done and their number, 0 where it is unknown. ``exclude`` names nodes that will stay in
    float, as for :func:`quantize`.

    Raises CalibrationError for no samples, NaN, wrong names, shapes or types, CompileError for an unknown node.
    """
    exclude = _nodes(graph, exclude)
    graph = pipeline.run(pipeline.FLOAT, graph)
    observed = observed_values(graph, exclude)
    produced = [value for value in observed if value not in graph.inputs]
    inputs = [value for value in observed if value in graph.inputs]
    probe = replace(graph, outputs={value.name: value for value in produced})
    size = graph.inputs[0].type.shape[0]
    if graph.dynamic_batch:
        per_sample = sum(value.type.bytes for value in produced) or 1
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
        if progress:
            progress(statistics.samples, total)
    return Calibration(statistics)


def quantize(
    graph: Graph,
    calibration: Calibration,
    *,
    ranges: str = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    notes: Notes | None = None,
    after: AfterPass | None = None,
) -> Graph:
    """The integer graph of a float one: activations u8, weights s8 per channel.

    ``ranges`` names the search that chooses ranges. Nodes in ``exclude`` (names of the model's nodes) stay in float.
    Raises CalibrationError if the calibration is of another model, CompileError for an unknown node in ``exclude``.
    """
    exclude = _nodes(graph, exclude)
    notes = Notes() if notes is None else notes
    graph = pipeline.run(pipeline.FLOAT, graph, notes, after=after)
    qparams = {value.name: calibration.qparams(value.name, ranges) for value in observed_values(graph, exclude)}
    return pipeline.run(pipeline.quantization(qparams, exclude), graph, notes, after=after)


def compile(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    target: str = "native",
    batch: int | Sequence[int] = 1,
    ranges: str = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    records: str | os.PathLike[str] | Records | None = None,
    after: AfterPass | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile a model for ``target``.

    ``graph`` is a float graph with its calibration, an integer graph from :func:`quantize`, or a float graph alone,
    which is then compiled in float. ``batch`` is the leading dimension, or several, of which the library holds a
    variant each over the same weights. ``records`` is a file of tuning records (see :func:`sqc.tune`), whose tiles
    go before the model's choice. ``after`` sees the graph after every pass; ``progress`` counts kernels.

    Raises CompileError if an op has no kernel for the target, GraphError if the model fixes another batch, or
    RecordsError for unreadable records.
    """
    from sqc.tuning.records import tuned_tiles

    chosen = Target.parse(target)
    notes = Notes()
    graph = _quantized(graph, calibration, ranges, exclude, notes, after)
    work = work_by_result(graph)
    counts = [work_by_result(variant) for variant in _variants(graph, batch)]
    graph = pipeline.run(pipeline.FUSION, graph, notes, after=after)
    build = Build(chosen, tuned_tiles(records))
    programs = [
        build_program(variant, build, progress, products)
        for variant, products in zip(_variants(graph, batch), counts, strict=True)
    ]
    report = report_of(graph, notes, work)
    plan = build.plan(programs, graph.name, quantization=_quantization(graph), report=report.to_dict())
    return CompiledModel(plan, report)


def fused_variants(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    batch: int | Sequence[int] = 1,
    ranges: str = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
) -> list[Graph]:
    """The graphs whose ops :func:`compile` makes kernels for, one for each batch size. Raises like it."""
    graph = _quantized(graph, calibration, ranges, exclude, Notes(), None)
    return _variants(pipeline.run(pipeline.FUSION, graph), batch)


def _quantized(
    graph: Graph,
    calibration: Calibration | None,
    ranges: str,
    exclude: Iterable[str],
    notes: Notes,
    after: AfterPass | None,
) -> Graph:
    """What is compiled: the quantized graph, or the float one where there is no calibration."""
    verify(graph)
    if is_quantized(graph):
        if calibration is not None:
            raise CompileError("the graph is quantized already: compile it without a calibration")
        return graph
    if calibration is not None:
        return quantize(graph, calibration, ranges=ranges, exclude=exclude, notes=notes, after=after)
    return pipeline.run(pipeline.FLOAT, graph, notes, after=after)


def _variants(graph: Graph, batch: int | Sequence[int]) -> list[Graph]:
    """``graph`` at every batch size. Raises CompileError for none, or one that is not positive."""
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    if not sizes or any(size < 1 for size in sizes):
        raise CompileError(f"batch must be one or more positive numbers, not {batch!r}")
    return [_for_batch(graph, size, sizes) for size in sizes]


def is_quantized(graph: Graph) -> bool:
    """Whether the graph holds integer ops."""
    return any(result.type.dtype in ("uint8", "int32") for op in graph.ops for result in op.results)


def _nodes(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Names of nodes, as a set. Raises CompileError for one that the model does not have."""
    chosen = frozenset(names)
    if unknown := chosen - {op.source for op in graph.ops}:
        raise CompileError(f"cannot exclude {', '.join(sorted(unknown))}: the model has no such node")
    return chosen


def _for_batch(graph: Graph, size: int, sizes: tuple[int, ...]) -> Graph:
    if sizes == (1,) and not graph.dynamic_batch:
        return graph
    return rebatch(graph, size)


def _compile_float(graph: Graph, target: str) -> CompiledModel:
    """A float graph whose values keep their names, without a report."""
    build = Build(Target.parse(target))
    program = build_program(pipeline.run(pipeline.FUSION, graph), build)
    return CompiledModel(build.plan([program], graph.name), Report((), ()))


def _quantization(graph: Graph) -> dict[str, dict[str, float | int]]:
    """Scale and zero point of every tensor that is quantized as a whole, by name."""
    return {
        value.name: {"scale": value.type.scale, "zero_point": value.type.zero_point}
        for op in graph.ops
        for value in op.results
        if value.type.quantization is not None and value.type.quantization.axis is None
    }


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
