"""The driver: from a model to its library."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.calibration import DEFAULT_SEARCH, Calibration, RangesLike
from sqc.codegen.build import Build, Constants, build_program
from sqc.codegen.library import begin_runtime, build_library
from sqc.codegen.plan import Plan
from sqc.codegen.stages import Variant
from sqc.errors import CompileError, ToolchainError
from sqc.inspection import is_quantized
from sqc.ir import Graph, rebatch, verify
from sqc.modes import Mode
from sqc.ops.samples import samples_are_independent
from sqc.passes import pipeline
from sqc.passes.base import Notes
from sqc.progress import Progress
from sqc.quantizing import AfterPass, quantize
from sqc.recipe import DEFAULT_PRESET, Preset
from sqc.report import Report, report_of, work_by_result
from sqc.runtime import Model, load_bytes
from sqc.runtime.container import write_atomically
from sqc.schedules import Target
from sqc.surviving import require_int8 as check_int8
from sqc.surviving import surviving_pairs

if TYPE_CHECKING:
    from sqc.tuning.records import Records


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


def compile(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    target: str = "native",
    batch: int | Sequence[int] = 1,
    mode: Mode = "static",
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    records: str | os.PathLike[str] | Records | None = None,
    require_int8: bool = False,
    after: AfterPass | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile a model for ``target``; of several (``"x86-64-v3,icelake-server"``) loading picks the best it can run.

    ``graph`` is a float graph with its calibration, an integer graph from :func:`quantize`, a graph that brings its own
    quantization, or a float graph alone, which is then compiled in float. ``batch`` is the leading dimension, or
    several, of which the library holds a variant each over the same weights; other batches run in parts of these.
    ``records`` is a file of tuning records (see :func:`sqc.tune`), whose tiles go before the model's choice. ``mode``,
    ``preset``, ``ranges`` and ``exclude`` are those of :func:`quantize`. With ``require_int8`` matrix ops in float, and
    roundings that fused with no integer op, are an error that lists them. ``after`` sees the graph after every pass;
    ``progress`` counts layers that are refined, then kernels.

    Raises CompileError if an op has no kernel for the target, or for the sake of ``require_int8``, GraphError if the
    model fixes another batch, or RecordsError for unreadable records.
    """
    from sqc.tuning.records import tuned_tiles

    targets = Target.parse_several(target)
    with suppress(ToolchainError):  # which compiling alone does without
        begin_runtime()
    notes = Notes()
    graph = _quantized(
        graph, calibration, mode, preset, ranges, exclude, Target.here(target).name, notes, after, progress
    )
    if require_int8:
        check_int8(graph, notes)
    pairs = surviving_pairs(graph, notes)
    work = work_by_result(graph)
    counts = [work_by_result(batched) for batched in _rebatched(graph, batch)]
    independent = samples_are_independent(graph)
    graph = pipeline.run(pipeline.FUSION, graph, notes, after=after)
    tuned, constants = tuned_tiles(records), Constants()
    builds = [Build(chosen, tuned, constants) for chosen in targets]
    variants = list(zip(_variants(graph, batch, independent), counts, strict=True))
    programs = [
        [build_program(variant, build, progress, products) for variant, products in variants] for build in builds
    ]
    report = report_of(graph, notes, work, pairs)
    plan, *alternatives = [
        build.plan(of_build, graph.name, quantization=_quantization(graph), report=report.to_dict())
        for build, of_build in zip(builds, programs, strict=True)
    ]
    return CompiledModel(replace(plan, alternatives=tuple(alternatives)), report)


def fused_variants(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    batch: int | Sequence[int] = 1,
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
) -> list[Variant]:
    """What :func:`compile` makes programs of, one for each batch size. Raises like it."""
    graph = _quantized(graph, calibration, "static", preset, ranges, exclude, "native", Notes(), None, None)
    independent = samples_are_independent(graph)
    return _variants(pipeline.run(pipeline.FUSION, graph), batch, independent)


def _quantized(
    graph: Graph,
    calibration: Calibration | None,
    mode: Mode,
    preset: Preset,
    ranges: RangesLike,
    exclude: Iterable[str],
    target: str,
    notes: Notes,
    after: AfterPass | None,
    progress: Progress | None,
) -> Graph:
    """What is compiled: the quantized graph, or the float one where there is no calibration."""
    verify(graph)
    if calibration is not None or is_quantized(graph) or mode != "static":
        graph = quantize(
            graph,
            calibration,
            mode=mode,
            preset=preset,
            ranges=ranges,
            exclude=exclude,
            target=target,
            notes=notes,
            after=after,
            progress=progress,
        )
    else:
        graph = pipeline.run(pipeline.FLOAT, graph, notes, after=after)
    return pipeline.run(pipeline.UNROLLING, graph, notes, after=after)


def _variants(graph: Graph, batch: int | Sequence[int], independent: bool) -> list[Variant]:
    """A fused graph at every batch size; ``independent`` tells whether no result of a sample depends on others."""
    graphs = _rebatched(graph, batch)
    return [Variant.of(one, one.inputs[0].type.shape[0] if independent else 0) for one in graphs]


def _rebatched(graph: Graph, batch: int | Sequence[int]) -> list[Graph]:
    """``graph`` at every batch size. Raises CompileError for none, or one that is not positive."""
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    if not sizes or any(size < 1 for size in sizes):
        raise CompileError(f"batch must be one or more positive numbers, not {batch!r}")
    return [_for_batch(graph, size, sizes) for size in sizes]


def _for_batch(graph: Graph, size: int, sizes: tuple[int, ...]) -> Graph:
    if sizes == (1,) and not graph.dynamic_batch:
        return graph
    return rebatch(graph, size)


def _quantization(graph: Graph) -> dict[str, dict[str, float | int]]:
    """Scale and zero point of every tensor that is quantized as a whole, by name."""
    return {
        value.name: {"scale": value.type.scale, "zero_point": value.type.zero_point}
        for op in graph.ops
        for value in op.results
        if value.type.quantization is not None and value.type.quantization.axis is None
    }
