"""From the float graph to the integer graph, by a recipe: ranges, and what is fitted to calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sqc.calibrating import calibrate
from sqc.calibration import DEFAULT_SEARCH, Calibration, Ranges, RangesLike
from sqc.calibration.dnnlowp_files import Parameters
from sqc.calibration.rescaled import rescaled
from sqc.calibration.smoothing import ADAPTIVELY_ROUNDED
from sqc.errors import CalibrationError, CompileError
from sqc.inspection import OWN_QUANTIZATION, is_folded, is_quantized, known_nodes
from sqc.ir import Graph
from sqc.modes import Mode, passes_of
from sqc.passes import pipeline
from sqc.passes.base import Notes, Pass
from sqc.passes.channels import ChannelExtremes
from sqc.passes.choose_parameters import choose_parameters
from sqc.passes.equalize import Equalize
from sqc.passes.quantize_weights import RoundedLayer
from sqc.passes.rounding import place, rounding_names
from sqc.passes.scale_inputs import ScaleInputs
from sqc.passes.smooth import Smooth
from sqc.passes.split_outliers import SplitOutliers
from sqc.progress import Progress
from sqc.recipe import DEFAULT_PRESET, Preset, recipe_of
from sqc.refine import channel_extremes, channel_levels, refine_layers, smoothing

if TYPE_CHECKING:
    import onnx

AfterPass: TypeAlias = Callable[[Pass, Graph], None]


@dataclass(frozen=True, slots=True)
class Quantized:
    """An integer graph, and the float graph that it approximates value by value.

    ``float_graph`` is the model after its float passes, with channels scaled where a preset scales them; ``graph``
    itself for a model that brings its own quantization.
    """

    float_graph: Graph
    graph: Graph


def quantize(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    mode: Mode = "static",
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    target: str = "native",
    notes: Notes | None = None,
    after: AfterPass | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The integer graph of a float one: activations u8, weights s8 per channel.

    ``mode`` tells what is quantized and when, see :data:`sqc.modes.MODES`; all but ``static`` take a float model and no
    calibration, and none of what follows but ``exclude``. ``preset`` is how much is done to stay near the float model:
    ``fast`` rounds each number by itself, ``accurate`` corrects biases, ``best`` also evens out channels, fits weights
    and rounds them adaptively; or a :class:`sqc.Recipe`. The last two run the model on the inputs that the calibration
    keeps, compiled for ``target``; ``progress`` then counts samples and layers. How fast a compiled model runs does not
    depend on the preset. ``ranges`` tell how ranges are chosen: the name of a search, settings, or rules for kinds of
    ops and names, see :class:`sqc.calibration.Ranges`. Nodes in ``exclude`` (names of the model's nodes) stay in float.
    A model that brings its own quantization (QuantizeLinear) keeps it, and what it rounds nowhere stays in float; it
    takes neither a calibration nor ``exclude``.

    Raises CalibrationError if the calibration is of another model, keeps no inputs where the preset needs them, or is
    missing for a float model; CompileError for an unknown preset, an unknown node in ``exclude``, or options that a
    quantized model does not take.
    """
    if mode != "static":
        if calibration is not None or is_quantized(graph):
            raise CompileError(f"mode {mode} takes a float model and no calibration")
        steps = (*pipeline.FLOAT, *passes_of(mode, known_nodes(graph, exclude)))
        return pipeline.run(steps, graph, notes, after=after)
    return quantize_beside_float(
        graph,
        calibration,
        preset=preset,
        ranges=ranges,
        exclude=exclude,
        target=target,
        notes=notes,
        after=after,
        progress=progress,
    ).graph


def quantize_beside_float(
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
) -> Quantized:
    """What :func:`quantize` gives in the mode ``static``, with the float graph to hold it against. Raises like it."""
    recipe = recipe_of(preset)
    notes = Notes() if notes is None else notes
    exclude = known_nodes(graph, exclude)
    if is_quantized(graph):
        if calibration is not None or exclude:
            raise CompileError(OWN_QUANTIZATION)
        if is_folded(graph):
            return Quantized(graph, graph)
        graph = pipeline.run((*pipeline.FLOAT, *pipeline.STORED), graph, notes, after=after)
        return Quantized(graph, graph)
    if calibration is None:
        raise CalibrationError("a float model needs a calibration: sqc.calibrate(graph, batches)")
    normalized = {op.result.name for op in graph.ops if op.kind == "batch_norm"}
    graph = pipeline.run(pipeline.FLOAT, graph, notes, after=after)
    ranges = Ranges.of(ranges)
    graph, calibration = _smooth(graph, calibration, exclude, target, notes, after)
    inputs = _kept_inputs(graph, calibration) if recipe.needs_inputs else {}
    if recipe.equalize or recipe.smooth:
        extremes = channel_extremes(graph, inputs, exclude, target) if recipe.equalize else {}
        noise = ADAPTIVELY_ROUNDED if recipe.round_adaptively else 1.0
        smoothed = smoothing(graph, inputs, exclude, target, weight_noise=noise) if recipe.smooth else {}
        equalize = Equalize(extremes, smoothed)
        factors = equalize.factors(graph)
        graph = pipeline.run((equalize,), graph, notes, after=after)
        if factors:  # other ranges than those that were calibrated
            kept = calibrate(graph, [inputs], exclude=_left(graph, exclude), target=target, progress=progress)
            calibration = rescaled(calibration, kept, factors)
    if recipe.scale_inputs:
        levels = ScaleInputs(channel_levels(graph, calibration, ranges, exclude))
        graph = pipeline.run((levels,), graph, notes, after=after)
        parameters = {f"{name}.levels": Parameters(1.0, 0, 8) for name in levels.levels}
        calibration = replace(calibration, parameters={**calibration.parameters, **parameters})
    qparams = choose_parameters(graph, calibration, ranges, exclude)
    rounded: Mapping[str, RoundedLayer] = {}
    if recipe.refines:
        rounded = refine_layers(
            graph,
            qparams,
            inputs,
            recipe,
            ranges,
            exclude,
            normalized=normalized,
            target=target,
            progress=progress,
        )
    passes = pipeline.quantization(qparams, exclude, ranges, rounded)
    return Quantized(graph, pipeline.run(passes, graph, notes, after=after))


def activation_parameters(
    graph: Graph, calibration: Calibration, ranges: RangesLike = DEFAULT_SEARCH
) -> dict[str, Parameters]:
    """Scale, zero point and bits of the activations that :func:`quantize` rounds with the preset ``fast``, by name.

    Of those alone whose ranges come from the calibration. Raises CalibrationError like it.
    """
    ranges = Ranges.of(ranges)
    graph = pipeline.run(pipeline.FLOAT, graph)
    placement = place(graph)
    bits = {v.name: ranges.settings(rounding_names(graph, v, placement)).bits for v in placement.rounded}
    chosen = choose_parameters(graph, calibration, ranges)
    return {name: Parameters(scale, zero_point, bits[name]) for name, (scale, zero_point) in chosen.items()}


def export_qdq(graph: Graph) -> onnx.ModelProto:
    """The integer graph that :func:`quantize` gave as an ONNX model with QuantizeLinear and DequantizeLinear.

    Weights and biases are stored as integers. Importing the model and quantizing it again gives a graph with the same
    results, bit for bit; but for resizing by weights that no Resize of operator set 17 has, which becomes products with
    matrices and comes back in float. Raises CompileError if the graph is not quantized, or for ops that ONNX has no
    counterpart of (recurrent layers, quantization at run time).
    """
    from sqc.frontend.export import export_onnx

    if not is_quantized(graph):
        raise CompileError(
            "a float graph has no quantization to export: sqc.export_qdq(sqc.quantize(graph, calibration))"
        )
    return export_onnx(pipeline.run(pipeline.EXPORT, quantize(graph)))


def _smooth(
    graph: Graph,
    calibration: Calibration,
    exclude: frozenset[str],
    target: str,
    notes: Notes,
    after: AfterPass | None,
) -> tuple[Graph, Calibration]:
    """The graph with evened-out normalizations and outliers apart, and a calibration that has seen both.

    As they are without inputs.

    What the calibration has seen of other values stays.
    """
    if not calibration.inputs:
        return graph, calibration
    channels = {name: calibration.channels(name) for name in calibration.names}
    extremes = {name: ChannelExtremes(seen.minima, seen.maxima) for name, seen in channels.items() if seen is not None}
    passes = (Smooth(extremes, exclude), SplitOutliers(extremes, exclude))
    changed = pipeline.run(passes, graph, notes, after=after)
    if not any(notes.of(step.name) for step in passes):
        return graph, calibration
    inputs = _kept_inputs(changed, calibration)
    again = calibrate(changed, [inputs], exclude=_left(changed, exclude), target=target)
    statistics = calibration.statistics
    tensors = {**again.statistics.tensors, **statistics.tensors}
    return changed, replace(calibration, statistics=replace(statistics, tensors=tensors))


def _left(graph: Graph, nodes: frozenset[str]) -> frozenset[str]:
    """The nodes that float passes have left in a graph."""
    return nodes & {op.source for op in graph.ops}


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
