"""The extremes of every channel on calibration inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from sqc.calibration.channels import ChannelRanges
from sqc.ir import Graph, rebatch
from sqc.passes.channels import ChannelExtremes, link_channels
from sqc.passes.insert_quantization import observed_values
from sqc.pieces import whole_pieces
from sqc.probe import load_graph


def channel_extremes(
    graph: Graph, inputs: Mapping[str, np.ndarray], exclude: Collection[str] = frozenset(), target: str = "native"
) -> dict[str, ChannelExtremes]:
    """What :class:`sqc.passes.equalize.Equalize` asks for, of all values of a float graph that will be quantized.

    ``inputs`` {input: array of samples} are run through the graph, compiled for ``target``. Nodes in ``exclude`` stay
    in float.
    """
    graph = rebatch(graph, 1) if graph.dynamic_batch else graph
    axes = link_channels(graph).axes
    values = [value for value in observed_values(graph, exclude) if value in axes and value not in graph.inputs]
    if not values:
        return {}
    model = load_graph(replace(graph, outputs={value.name: value for value in values}), target)
    seen: dict[str, ChannelRanges] = {}
    for sample in whole_pieces(inputs, graph.inputs[0].type.shape[0]):
        tensors = model.run(sample)
        for value in values:
            new = ChannelRanges.of(tensors[value.name], axes[value])
            seen[value.name] = seen[value.name].merge(new) if value.name in seen else new
    # In float64, for Equalize divides them.
    both = {name: (ranges.minima.astype(np.float64), ranges.maxima.astype(np.float64)) for name, ranges in seen.items()}
    return {name: ChannelExtremes(*extremes) for name, extremes in both.items()}
