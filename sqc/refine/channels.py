"""The extremes of every channel on calibration inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sqc.ir import Graph, rebatch
from sqc.passes.channels import link_channels
from sqc.passes.equalize import ChannelExtremes
from sqc.passes.insert_quantization import observed_values
from sqc.probe import load_graph
from sqc.refine.replay import batches_of


def channel_extremes(
    graph: Graph, inputs: Mapping[str, np.ndarray], target: str = "native"
) -> dict[str, ChannelExtremes]:
    """What :class:`sqc.passes.equalize.Equalize` asks for, of all values of a float graph that will be quantized.

    ``inputs`` {input: array of samples} are run through the graph, compiled for ``target``.
    """
    graph = rebatch(graph, 1) if graph.dynamic_batch else graph
    axes = link_channels(graph).axes
    values = [value for value in observed_values(graph) if value in axes and value not in graph.inputs]
    if not values:
        return {}
    model = load_graph(replace(graph, outputs={value.name: value for value in values}), target)
    extremes = {value.name: ChannelExtremes(np.array(np.inf), np.array(-np.inf)) for value in values}
    for sample in batches_of(graph, inputs):
        tensors = model.run(sample)
        for value in values:
            others = tuple(axis for axis in range(value.type.rank) if axis != axes[value])
            low, high = extremes[value.name]
            array = tensors[value.name]
            extremes[value.name] = ChannelExtremes(
                np.minimum(low, array.min(axis=others)), np.maximum(high, array.max(axis=others))
            )
    return extremes
