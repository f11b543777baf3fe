"""Factors and shifts for the channels of a model's inputs, from calibration inputs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sqc.calibration import Calibration, Ranges
from sqc.calibration.input_levels import input_levels
from sqc.calibration.settings import Settings
from sqc.ir import Graph, Op, Value
from sqc.passes.rounding import place, rounding_names
from sqc.passes.scale_inputs import ChannelLevels, image_inputs


def channel_levels(
    graph: Graph, calibration: Calibration, ranges: Ranges, exclude: Collection[str] = ()
) -> dict[str, ChannelLevels]:
    """What :class:`sqc.passes.scale_inputs.ScaleInputs` takes, of the inputs of a float graph that gain by it.

    Those stay that ``ranges`` have settings for, or the calibration parameters.
    """
    placement = place(graph, exclude)
    found: dict[str, ChannelLevels] = {}
    for value, layers in image_inputs(graph, exclude).items():
        producer = graph.producer(value)
        source = value if producer is None else producer.operands[0]
        settings = ranges.settings(rounding_names(graph, source, placement))
        if settings != Settings() or source.name in calibration.parameters or source not in placement.rounded:
            continue
        x = calibration.inputs[source.name]
        x = x if producer is None else x.transpose(producer.integers("perm"))
        channels = np.ascontiguousarray(np.moveaxis(x, -1, 0).reshape(x.shape[-1], -1))
        levels = input_levels(channels, _energies(graph, value, layers), *calibration.qparams(source.name))
        if levels is not None:
            found[value.name] = ChannelLevels(*levels)
    return found


def _energies(graph: Graph, value: Value, layers: list[Op]) -> np.ndarray:
    """[C]: the squares of the weights that read each channel, in all layers."""
    energies = np.zeros(value.type.shape[-1])
    for op in layers:
        squares = np.square(graph.constants[op.operands[1]].astype(np.float64))
        groups = op.integer("groups")
        parts = squares.reshape(groups, len(squares) // groups, squares.shape[1], -1).sum(axis=(1, 3))
        energies += parts.reshape(-1)
    return energies
