"""The driver: what happens to a model between import and library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sqc.calibration import DEFAULT_SEARCH, Calibration, Ranges, RangesLike
from sqc.codegen.build import Build, Progress, build_program
from sqc.codegen.library import build_library
from sqc.codegen.plan import Plan
from sqc.errors import CalibrationError, CompileError
from sqc.ir import Graph, rebatch, verify
from sqc.passes import pipeline
from sqc.passes.base import Notes, Pass
from sqc.passes.choose_parameters import choose_parameters
from sqc.passes.equalize import Equalize
from sqc.passes.quantize_weights import RoundedLayer
from sqc.recipe import DEFAULT_PRESET, Preset, recipe_of
from sqc.report import Report, report_of, work_by_result
from sqc.runtime import Model, load_bytes
from sqc.runtime.container import write_atomically
from sqc.schedules import Target
from sqc.surviving import require_int8 as check_int8
from sqc.surviving import surviving_pairs

if TYPE_CHECKING:
    import onnx

    from sqc.tuning.records import Records

AfterPass: TypeAlias = Callable[[Pass, Graph], None]

OWN_QUANTIZATION = (
    "the graph is quantized already, and keeps its scales and layers in float as they are: take it without a "
    "calibration and without excluded nodes"
)


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


def quantize(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    target: str = "native",
    notes: Notes | None = None,
    after: AfterPass | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The integer graph of a float one: activations u8, weights s8 per channel.

    ``preset`` is how much is done to stay near the float model: ``fast`` rounds each number by itself, ``accurate``
    corrects biases, ``best`` also evens out channels and rounds weights adaptively; or a :class:`sqc.Recipe`. The last
    two run the model on the inputs that the calibration keeps, compiled for ``target``; ``progress`` then counts
    layers. How fast a compiled model runs does not depend on the preset. ``ranges`` tell how ranges are chosen: the
    name of a search, settings, or rules for kinds of ops and names, see :class:`sqc.calibration.Ranges`. Nodes in
    ``exclude`` (names of the model's nodes) stay in float. A model that brings its own quantization (QuantizeLinear)
    keeps it, and what it rounds nowhere stays in float; it takes neither a calibration nor ``exclude``.

    Raises CalibrationError if the calibration is of another model, keeps no inputs where the preset needs them, or is
    missing for a float model; CompileError for an unknown preset, an unknown node in ``exclude``, or options that a
    quantized model does not take.
    """
    recipe = recipe_of(preset)
    notes = Notes() if notes is None else notes
    exclude = known_nodes(graph, exclude)
    if is_quantized(graph):
        if calibration is not None or exclude:
            raise CompileError(OWN_QUANTIZATION)
        if _is_folded(graph):
            return graph
        return pipeline.run((*pipeline.FLOAT, *pipeline.STORED), graph, notes, after=after)
    if calibration is None:
        raise CalibrationError("a float model needs a calibration: sqc.calibrate(graph, batches)")
    graph = pipeline.run(pipeline.FLOAT, graph, notes, after=after)
    ranges = Ranges.of(ranges)
    inputs = _kept_inputs(graph, calibration) if recipe.needs_inputs else {}
    if recipe.equalize:
        from sqc.calibrating import calibrate
        from sqc.refine import channel_extremes

        equalize = Equalize(channel_extremes(graph, inputs, target))
        graph = pipeline.run((equalize,), graph, notes, after=after)
        if notes.of(equalize.name):  # other ranges than those that were calibrated
            calibration = calibrate(graph, [inputs], exclude=exclude, target=target)
    qparams = choose_parameters(graph, calibration, ranges, exclude)
    rounded: Mapping[str, RoundedLayer] = {}
    if recipe.refines:
        from sqc.refine import refine_layers

        rounded = refine_layers(graph, qparams, inputs, recipe, ranges, exclude, target=target, progress=progress)
    return pipeline.run(pipeline.quantization(qparams, exclude, ranges, rounded), graph, notes, after=after)


def export_qdq(graph: Graph) -> onnx.ModelProto:
    """The integer graph that :func:`quantize` gave as an ONNX model with QuantizeLinear and DequantizeLinear.

    Weights and biases are stored as integers. Importing the model and quantizing it again gives a graph with the same
    results, bit for bit. Raises CompileError if the graph is not quantized, or for ops that ONNX has no counterpart of.
    """
    from sqc.frontend.export import export_onnx

    if not is_quantized(graph):
        raise CompileError(
            "a float graph has no quantization to export: sqc.export_qdq(sqc.quantize(graph, calibration))"
        )
    return export_onnx(pipeline.run(pipeline.EXPORT, quantize(graph)))


def compile(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    target: str = "native",
    batch: int | Sequence[int] = 1,
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    records: str | os.PathLike[str] | Records | None = None,
    require_int8: bool = False,
    after: AfterPass | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile a model for ``target``.

    ``graph`` is a float graph with its calibration, an integer graph from :func:`quantize`, a graph that brings its own
    quantization, or a float graph alone, which is then compiled in float. ``batch`` is the leading dimension, or
    several, of which the library holds a variant each over the same weights. ``records`` is a file of tuning records
    (see :func:`sqc.tune`), whose tiles go before the model's choice. ``preset``, ``ranges`` and ``exclude`` are those
    of :func:`quantize`. With ``require_int8`` matrix ops in float, and roundings that fused with no integer op, are an
    error that lists them. ``after`` sees the graph after every pass; ``progress`` counts layers that are refined, then
    kernels.

    Raises CompileError if an op has no kernel for the target, or for the sake of ``require_int8``, GraphError if the
    model fixes another batch, or RecordsError for unreadable records.
    """
    from sqc.tuning.records import tuned_tiles

    chosen = Target.parse(target)
    notes = Notes()
    graph = _quantized(graph, calibration, preset, ranges, exclude, target, notes, after, progress)
    if require_int8:
        check_int8(graph, notes)
    pairs = surviving_pairs(graph, notes)
    work = work_by_result(graph)
    counts = [work_by_result(variant) for variant in _variants(graph, batch)]
    graph = pipeline.run(pipeline.FUSION, graph, notes, after=after)
    build = Build(chosen, tuned_tiles(records))
    programs = [
        build_program(variant, build, progress, products)
        for variant, products in zip(_variants(graph, batch), counts, strict=True)
    ]
    report = report_of(graph, notes, work, pairs)
    plan = build.plan(programs, graph.name, quantization=_quantization(graph), report=report.to_dict())
    return CompiledModel(plan, report)


def fused_variants(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    batch: int | Sequence[int] = 1,
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
) -> list[Graph]:
    """The graphs whose ops :func:`compile` makes kernels for, one for each batch size. Raises like it."""
    graph = _quantized(graph, calibration, preset, ranges, exclude, "native", Notes(), None, None)
    return _variants(pipeline.run(pipeline.FUSION, graph), batch)


def _quantized(
    graph: Graph,
    calibration: Calibration | None,
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
    if calibration is not None or is_quantized(graph):
        graph = quantize(
            graph,
            calibration,
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


def _variants(graph: Graph, batch: int | Sequence[int]) -> list[Graph]:
    """``graph`` at every batch size. Raises CompileError for none, or one that is not positive."""
    sizes = (batch,) if isinstance(batch, int) else tuple(batch)
    if not sizes or any(size < 1 for size in sizes):
        raise CompileError(f"batch must be one or more positive numbers, not {batch!r}")
    return [_for_batch(graph, size, sizes) for size in sizes]


def _kept_inputs(graph: Graph, calibration: Calibration) -> Mapping[str, np.ndarray]:
    """The samples that a calibration keeps. Raises CalibrationError for none, or another model's."""
    inputs = calibration.inputs
    if not inputs:
        raise CalibrationError(
            "this preset runs the model on samples of the calibration data, and this calibration keeps none; calibrate "
            "again (with keep above 0), or choose the preset 'fast'"
        )
    for value in graph.inputs:
        if value.name not in inputs or inputs[value.name].shape[1:] != value.type.shape[1:]:
            raise CalibrationError(
                f"the samples that the calibration keeps do not fit the input '{value.name}'; calibrate this model"
            )
    return inputs


def is_quantized(graph: Graph) -> bool:
    """Whether the graph rounds to integers: as its model does, or as :func:`quantize` made it."""
    return any(result.type.dtype in ("uint8", "int8", "int32") for op in graph.ops for result in op.results)


def _is_folded(graph: Graph) -> bool:
    """Whether a quantized graph computes on integers already, and not in float between roundings."""
    return any(op.kind == "requantize" or result.type.dtype == "int32" for op in graph.ops for result in op.results)


def known_nodes(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Names of nodes to exclude, as a set. Raises CompileError for one that the model does not have."""
    chosen = frozenset(names)
    if unknown := chosen - {op.source for op in graph.ops}:
        raise CompileError(f"cannot exclude {', '.join(sorted(unknown))}: the model has no such node")
    return chosen


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
