"""Adaptive rounding of a model's weights: moments of each layer's inputs, and levels that suit them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sqc.calibration.adaptive_rounding import AdaptiveRounding, damped, round_to_nearest
from sqc.calibration.input_moments import InputMoments, MomentSums, convolution_inputs
from sqc.calibration.ranges import DEFAULT_SEARCH
from sqc.calibration.settings import Ranges, RangesLike, WeightSettings
from sqc.calibration.weights import fits_accumulator, largest_level
from sqc.errors import CalibrationError
from sqc.ir import Graph, Op
from sqc.passes.base import Notes
from sqc.passes.insert_quantization import InsertQuantization
from sqc.passes.quantize_weights import RoundedLayer, layer_scales, quantizes_weights, weight_settings
from sqc.passes.rounding import levels_behind
from sqc.probe import probe

_ROWS = 1 << 16
"""How many rows of inputs a layer's moments are taken from at most, over all samples."""

_MOMENT_BYTES = 256 << 20
"""Bound on the moments that are gathered in one run over the samples; a layer with more has a run of its own."""


def round_weights(
    graph: Graph,
    qparams: Mapping[str, tuple[float, int]],
    inputs: Mapping[str, np.ndarray],
    *,
    exclude: Collection[str] = frozenset(),
    ranges: RangesLike = DEFAULT_SEARCH,
    target: str = "native",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, RoundedLayer]:
    """Levels, scales and bias of each layer that :func:`sqc.passes.quantization` quantizes, by the layer's result.

    ``graph`` is a float graph behind ``pipeline.FLOAT``; ``qparams``, ``exclude`` and ``ranges`` are those of the
    quantization, to which the result goes as ``rounded``. ``inputs`` {input: array} are samples for calibration.
    Levels make the change of each output small, and scales with them, clipping included, where every channel has its
    own; else scales are those of ``ranges``. The bias keeps the mean of each output. ``progress`` counts layers.

    Memory is bounded by ``_MOMENT_BYTES``, or some ``64 K**2`` bytes for a layer of K inputs to each output that needs
    more, and by the activations of a few samples. Raises CalibrationError without samples.
    """
    if not inputs or not len(next(iter(inputs.values()))):
        raise CalibrationError("adaptive rounding needs samples of the inputs, and the calibration keeps none")
    marked = InsertQuantization(qparams, exclude, ranges).apply(graph, Notes())
    layers = {op.result.name: op for op in marked.ops if quantizes_weights(marked, op, exclude)}
    ops = [op for op in graph.ops if op.result.name in layers]
    rounded: dict[str, RoundedLayer] = {}
    for op, moments in input_moments(graph, ops, inputs, target):
        layer = layers[op.result.name]
        rounded[op.result.name] = _round(marked, layer, moments, weight_settings(layer, Ranges.of(ranges)))
        if progress:
            progress(len(rounded), len(ops))
    return rounded


def input_moments(
    graph: Graph, layers: Sequence[Op], inputs: Mapping[str, np.ndarray], target: str = "native"
) -> Iterator[tuple[Op, InputMoments]]:
    """The moments of the inputs of convolutions and fully connected layers of a float graph, in the order given.

    The model runs over ``inputs`` once for all layers whose moments fit a bound on memory together.
    """
    samples = len(next(iter(inputs.values())))
    for part in _parts(graph, layers):
        sums = [MomentSums(*_extents(graph, op)) for op in part]
        operands = list(dict.fromkeys(op.operands[0] for op in part))
        for step, tensors in enumerate(probe(graph, operands, inputs, target)):
            for op, total in zip(part, sums, strict=True):
                x = tensors[op.operands[0].name]
                if op.kind == "conv2d":
                    kernel = op.operands[1].type.shape[2:]
                    for rows in convolution_inputs(x, kernel, op.attributes, max(1, _ROWS // samples), step):
                        total.add(rows)
                else:
                    total.add(x[:, None, None, :])
        for op in part:
            yield op, sums.pop(0).moments()


def _parts(graph: Graph, layers: Sequence[Op]) -> Iterator[list[Op]]:
    part: list[Op] = []
    held = 0
    for op in layers:
        groups, columns = _extents(graph, op)
        size = 8 * groups * columns**2
        if part and held + size > _MOMENT_BYTES:
            yield part
            part, held = [], 0
        part.append(op)
        held += size
    if part:
        yield part


def _extents(graph: Graph, op: Op) -> tuple[int, int]:
    """Groups of a layer, and inputs to each output."""
    groups = op.integer("groups") if op.kind == "conv2d" else 1
    return groups, int(np.prod(op.operands[1].type.shape[1:]))


def _round(graph: Graph, op: Op, moments: InputMoments, settings: WeightSettings) -> RoundedLayer:
    weights, *given = (graph.constants[operand] for operand in op.operands[1:])
    x = levels_behind(graph, op.operands[0])
    assert x is not None
    outputs, groups = len(weights), len(moments.mean)
    bias = given[0].astype(np.float64) if given else np.zeros(outputs)
    rows = weights.astype(np.float64).reshape(groups, outputs // groups, -1)
    safe = layer_scales(graph, op, settings).astype(np.float64).reshape(groups, -1)
    limit = largest_level(settings.bits)
    rounding = AdaptiveRounding(rows, damped(moments.covariance), limit)
    if settings.sharing == "channel" and not settings.power_of_two:
        unclipped = layer_scales(graph, op, replace(settings, search="minmax")).astype(np.float64)
        levels, scales = rounding.levels_and_scales(unclipped.reshape(groups, -1))
    else:
        levels, scales = rounding.levels(safe), safe
    shift = np.einsum("gnk,gk->gn", rows - scales[..., None] * levels, moments.mean).reshape(-1)
    # Where the accumulator could pass 32 bits, levels and scales stay those that were chosen lest it does.
    fits = fits_accumulator(levels.reshape(outputs, -1), scales.reshape(-1), bias + shift, x.type.scale)
    within = fits.reshape(groups, -1)
    levels = np.where(within[..., None], levels, round_to_nearest(rows, safe, limit))
    return RoundedLayer(
        levels.reshape(weights.shape).astype(np.int8),
        np.where(within, scales, safe).reshape(-1).astype(np.float32),
        (bias + np.where(fits, shift, 0.0)).astype(np.float32),
    )
