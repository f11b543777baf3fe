"""Biases and weights of all layers, each fitted to what the layers before it, quantized, make of calibration data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.adaptive_rounding import AdaptiveRounding, damped, round_to_nearest
from sqc.calibration.input_moments import MomentSums
from sqc.calibration.settings import Ranges, WeightSettings
from sqc.calibration.weight_fit import Floats, WeightFit
from sqc.calibration.weights import fits_accumulator, largest_level
from sqc.ir import Graph, Op, Value, rebatch
from sqc.passes import pipeline
from sqc.passes.quantize_weights import RoundedLayer, layer_scales, quantizes_weights, weight_settings
from sqc.passes.rounding import levels_behind
from sqc.probe import load_graph
from sqc.progress import Progress
from sqc.recipe import Recipe
from sqc.refine.float_outputs import FloatOutputs
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
    normalized: Collection[str] = frozenset(),
    target: str = "native",
    progress: Progress | None = None,
) -> dict[str, RoundedLayer]:
    """Levels, scales and bias of each layer that the passes of ``pipeline.quantization`` quantize, by its result.

    ``graph`` is a float graph behind ``pipeline.FLOAT``; ``qparams``, ``ranges`` and ``exclude`` are those of the
    quantization, to which the result goes as ``rounded``. ``inputs`` {input: array of samples} are calibration data.

    Layers are taken in order. The input x' of each is what the layers before it, refined already, compute in integers;
    y is its output in the float graph. Weights are fitted to yield y from x' (:mod:`sqc.calibration.weight_fit`); w'
    are these, rounded to the nearest or for the least squared error over the covariance of x'. Then the bias becomes
    ``mean(y) - w' mean(x')``, so that on average over the samples nothing is left of the errors of weights, activations
    and clipping, whether they arose in this layer or before.

    Layers whose results are in ``normalized`` had a batch normalization. With ``reestimate_norms`` their outputs get
    the variance that they have in float by other scales, as with statistics estimated anew in the quantized network.

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
    compares = recipe.fit_weights or recipe.reestimate_norms
    with FloatOutputs(single, rows, inputs, target, keep=compares) as wanted:
        for i, (op, taken) in enumerate(zip(layers, rows, strict=True)):
            weights = marked.constants[op.operands[1]].astype(np.float64).reshape(taken.groups, -1, taken.columns)
            seen = (
                (taken.inputs(tensors[_X], batch), wanted.rows(i, batch) if compares else None)
                for batch, tensors in enumerate(replay.step(i))
            )
            fit = _observe(weights, seen, products=compares or recipe.round_adaptively)
            fitted = weights + fit.change() if recipe.fit_weights else weights
            layer = _refine(marked, op, fitted, fit.inputs(), wanted.means[i], weight_settings(op, ranges), recipe)
            if recipe.reestimate_norms and op.result.name in normalized:
                scale = _levels(marked, op).type.scale
                layer = _renormalized(layer, fit.inputs(), wanted.means[i], wanted.variances[i], scale)
            chosen[op.result.name] = layer
            if progress:
                progress(i + 1, len(layers), "refining layers")
    return chosen


def _observe(
    weights: Floats, seen: Iterable[tuple[NDArray[np.float32], NDArray[np.float32] | None]], *, products: bool
) -> WeightFit:
    """What a layer's inputs are, and how other weights than ``weights`` [G, N, K] would do.

    ``seen`` are inputs [1, G, R, K] of the quantized layer with outputs [R, G N] of the float one, a sample at a time;
    without outputs there is no telling about weights, and without ``products`` but the mean of the inputs.
    """
    fit = WeightFit(*weights.shape, products=products)
    for sample, (inputs, outputs) in enumerate(seen):
        x, errors = inputs[0], None
        if outputs is not None:
            y = outputs.reshape(len(outputs), len(weights), -1).swapaxes(0, 1)
            errors = y - x.astype(np.float64) @ weights.swapaxes(1, 2)
        fit.add(sample, x, errors)
    return fit


def _renormalized(
    layer: RoundedLayer,
    inputs: MomentSums,
    mean: Floats,
    variance: Floats,
    input_scale: float,
) -> RoundedLayer:
    """The layer with scales that give its outputs the ``variance`` [G N], and the bias that gives them the ``mean``.

    Scales move by a tenth at most, for larger differences are no matter of rounding.
    """
    covariance = inputs.covariance
    levels = np.asarray(layer.levels, np.float64).reshape(len(covariance), -1, covariance.shape[-1])
    scales = np.asarray(layer.scales, np.float64)
    found = np.einsum("gnk,gnk->gn", levels @ covariance, levels).reshape(-1) * scales**2
    known = (found > 0) & (variance > 0)
    factors = np.sqrt(np.where(known, variance, 1.0) / np.where(known, found, 1.0))
    changed = (scales * np.clip(factors, 0.9, 1.1)).astype(np.float32).astype(np.float64)
    bias = mean - changed * np.einsum("gnk,gk->gn", levels, inputs.mean).reshape(-1)
    fits = fits_accumulator(levels.reshape(len(mean), -1), changed, bias, input_scale)
    return RoundedLayer(
        layer.levels,
        np.where(fits, changed, scales).astype(np.float32),
        np.where(fits, bias, np.asarray(layer.bias, np.float64)).astype(np.float32),
    )


def _levels(graph: Graph, op: Op) -> Value:
    levels = levels_behind(graph, op.operands[0])
    assert levels is not None
    return levels


def _refine(
    graph: Graph,
    op: Op,
    weights: Floats,
    inputs: MomentSums,
    mean: Floats,
    settings: WeightSettings,
    recipe: Recipe,
) -> RoundedLayer:
    """A layer of ``weights`` [G, N, K], rounded, whose outputs are ``mean`` [G N] on average."""
    shape, outputs = op.operands[1].type.shape, mean.size
    bias = graph.constants[op.operands[2]].astype(np.float64) if len(op.operands) > 2 else np.zeros(outputs)
    limit = largest_level(settings.bits)
    found = layer_scales(graph, op, settings, weights.reshape(shape).astype(np.float32))
    scales = found.astype(np.float64).reshape(weights.shape[:2])
    nearest = round_to_nearest(weights, scales, limit)
    levels, fitted = nearest, scales
    if recipe.round_adaptively:
        rounding = AdaptiveRounding(weights, damped(inputs.shrunk_covariance), limit)
        # Eight bits leave too little to gain by other scales: on data not seen before they lose (measured).
        fits_scales = settings.bits < 8 and settings.sharing == "channel" and not settings.power_of_two
        levels, fitted = rounding.levels_and_scales(scales) if fits_scales else (rounding.levels(scales), scales)
    corrected = mean - np.einsum("gn,gnk,gk->gn", fitted, levels, inputs.mean).reshape(-1)
    # Where the accumulator could pass 32 bits, all stays as the scales allow for.
    input_scale = _levels(graph, op).type.scale
    fits = fits_accumulator(levels.reshape(outputs, -1), fitted.reshape(-1), corrected, input_scale)
    levels = np.where(fits.reshape(scales.shape)[..., None], levels, nearest)
    scales = np.where(fits.reshape(scales.shape), fitted, scales)
    return RoundedLayer(
        levels.reshape(shape).astype(np.int8),
        scales.reshape(-1).astype(np.float32),
        np.where(fits, corrected, bias).astype(np.float32),
    )
