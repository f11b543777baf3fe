"""Biases and weights of all layers, each fitted to what the layers before it, quantized, make of calibration data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.adaptive_rounding import AdaptiveRounding, damped, round_to_nearest
from sqc.calibration.input_moments import InputMoments, MomentSums
from sqc.calibration.settings import Ranges, WeightSettings
from sqc.calibration.weights import fits_accumulator, largest_level
from sqc.ir import Graph, Op, Value, rebatch
from sqc.passes import pipeline
from sqc.passes.quantize_weights import RoundedLayer, layer_scales, quantizes_weights, weight_settings
from sqc.passes.rounding import levels_behind
from sqc.pieces import whole_pieces
from sqc.probe import load_graph
from sqc.progress import Progress
from sqc.recipe import Recipe
from sqc.refine.replay import Replay
from sqc.refine.rows import Rows

_X = "x"


def refine_layers(
    graph: Graph,
    qparams: Mapping[str, tuple[float, int]],
    inputs: Mapping[str, np.ndarray],
    recipe: Recipe,
    ranges: Ranges,
    exclude: Collection[str] = frozenset(),
    *,
    target: str = "native",
    progress: Progress | None = None,
) -> dict[str, RoundedLayer]:
    """Levels, scales and bias of each layer that the passes of ``pipeline.quantization`` quantize, by its result.

    ``graph`` is a float graph behind ``pipeline.FLOAT``; ``qparams``, ``ranges`` and ``exclude`` are those of the
    quantization, to which the result goes as ``rounded``. ``inputs`` {input: array of samples} are calibration data.

    Layers are taken in order. The input x' of each is what the layers before it, refined already, compute in integers;
    y is its output in the float graph. Weights w' are rounded, to the nearest or for the least squared error over the
    covariance of x'; then the bias becomes ``mean(y) - w' mean(x')``, so that on average over the samples nothing is
    left of the errors of weights, activations and clipping, whether they arose in this layer or before.

    ``progress`` counts layers.
    """
    single = rebatch(graph, 1) if graph.dynamic_batch else graph
    marked = pipeline.run(pipeline.rounding(qparams, exclude, ranges), single)
    layers = [op for op in marked.ops if quantizes_weights(marked, op, exclude)]
    if not layers:
        return {}
    chosen: dict[str, RoundedLayer] = {}
    replay = Replay(
        marked,
        [{_X: op.operands[0]} for op in layers],
        [_levels(marked, op) for op in layers],
        inputs,
        lambda part: load_graph(pipeline.run(pipeline.integer(exclude, ranges, chosen), part), target),
    )
    rows = [Rows(op, replay.batches) for op in layers]
    means = _float_means(single, rows, inputs, target)
    for i, (op, taken, mean) in enumerate(zip(layers, rows, means, strict=True)):
        sums = MomentSums(taken.groups, taken.columns)
        for batch, tensors in enumerate(replay.step(i)):
            sums.add(taken.inputs(tensors[_X], batch))
        chosen[op.result.name] = _refine(marked, op, sums.moments(), mean, weight_settings(op, ranges), recipe)
        if progress:
            progress(i + 1, len(layers), "refining layers")
    return chosen


def _levels(graph: Graph, op: Op) -> Value:
    levels = levels_behind(graph, op.operands[0])
    assert levels is not None
    return levels


def _float_means(
    graph: Graph, rows: list[Rows], inputs: Mapping[str, np.ndarray], target: str
) -> list[NDArray[np.float64]]:
    """The mean output of each layer, float64 [outputs], in the float graph."""
    values = {value.name: value for op in graph.ops for value in op.results}
    names = [taken.op.result.name for taken in rows]
    model = load_graph(replace(graph, outputs={name: values[name] for name in names}), target)
    sums = [np.zeros(taken.outputs) for taken in rows]
    counts = [0] * len(rows)
    for batch, sample in enumerate(whole_pieces(inputs, graph.inputs[0].type.shape[0])):
        tensors = model.run(sample)
        for i, (name, taken) in enumerate(zip(names, rows, strict=True)):
            y = taken.outputs_of(tensors[name], batch)
            sums[i] += y.sum(axis=0, dtype=np.float64)
            counts[i] += len(y)
    return [total / count for total, count in zip(sums, counts, strict=True)]


def _refine(
    graph: Graph, op: Op, moments: InputMoments, mean: NDArray[np.float64], settings: WeightSettings, recipe: Recipe
) -> RoundedLayer:
    weights, *given = (graph.constants[operand] for operand in op.operands[1:])
    groups, outputs = len(moments.mean), len(weights)
    rows = weights.astype(np.float64).reshape(groups, outputs // groups, -1)
    bias = given[0].astype(np.float64) if given else np.zeros(outputs)
    limit = largest_level(settings.bits)
    scales = layer_scales(graph, op, settings).astype(np.float64).reshape(groups, -1)
    nearest = round_to_nearest(rows, scales, limit)
    levels, fitted = nearest, scales
    if recipe.round_adaptively:
        rounding = AdaptiveRounding(rows, damped(moments.covariance), limit)
        # Eight bits leave too little to gain by other scales: on data not seen before they lose (measured).
        fits_scales = settings.bits < 8 and settings.sharing == "channel" and not settings.power_of_two
        levels, fitted = rounding.levels_and_scales(scales) if fits_scales else (rounding.levels(scales), scales)
    corrected = mean - np.einsum("gn,gnk,gk->gn", fitted, levels, moments.mean).reshape(-1)
    # Where the accumulator could pass 32 bits, all stays as the scales allow for.
    input_scale = _levels(graph, op).type.scale
    fits = fits_accumulator(levels.reshape(outputs, -1), fitted.reshape(-1), corrected, input_scale)
    levels = np.where(fits.reshape(scales.shape)[..., None], levels, nearest)
    scales = np.where(fits.reshape(scales.shape), fitted, scales)
    return RoundedLayer(
        levels.reshape(weights.shape).astype(np.int8),
        scales.reshape(-1).astype(np.float32),
        np.where(fits, corrected, bias).astype(np.float32),
    )
