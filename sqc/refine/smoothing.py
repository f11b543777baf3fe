"""Factors for the channels that fully connected layers read, from calibration inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.smoothing import smooth
from sqc.ir import Graph, Op, Value, rebatch
from sqc.passes.channels import link_channels
from sqc.passes.insert_quantization import observed_values
from sqc.passes.rounding import MOVEMENT
from sqc.pieces import whole_pieces
from sqc.probe import load_graph

_ROWS = 512
"""How many rows of each tensor are looked at, spread over the samples."""


def smoothing(graph: Graph, inputs: Mapping[str, np.ndarray], target: str = "native") -> dict[str, NDArray[np.float64]]:
    """What :class:`sqc.passes.equalize.Equalize` takes as ``smoothed``: factors for the channels of values, by name.

    Of the values of a float graph that are rounded and that fully connected layers alone read. ``inputs``
    {input: array of samples} are run through the graph, compiled for ``target``.
    """
    graph = rebatch(graph, 1) if graph.dynamic_batch else graph
    channels = link_channels(graph)
    readers: dict[Value, list[Op]] = {}
    observed = [value for value in observed_values(graph) if value in channels.axes and value not in graph.inputs]
    sharing = np.zeros(channels.count, int)
    for value in observed:
        np.add.at(sharing, channels.classes(value), 1)
    free = ~channels.bound & (sharing == 1)
    for op in graph.ops:
        if op.kind == "clip" and op.operands[0] in channels.axes:
            free[channels.classes(op.operands[0])] = False  # a scaled channel would be cut off elsewhere
    for op in graph.ops:
        if op.kind == "fully_connected":
            source = _rounded(graph, op.operands[0], observed)
            if source is not None and free[channels.classes(source)].all():
                readers.setdefault(source, []).append(op)
    if not readers:
        return {}
    model = load_graph(replace(graph, outputs={value.name: value for value in readers}), target)
    samples = whole_pieces(inputs, graph.inputs[0].type.shape[0])
    rows: dict[Value, list[np.ndarray]] = {value: [] for value in readers}
    for number, sample in enumerate(samples):
        tensors = model.run(sample)
        for value, found in rows.items():
            axis = channels.axes[value]
            x = np.moveaxis(tensors[value.name], axis, -1).reshape(-1, value.type.shape[axis])
            order = np.random.default_rng(number).permutation(len(x))
            found.append(x[np.sort(order[: -(-_ROWS // len(samples))])])
    factors: dict[str, NDArray[np.float64]] = {}
    for value, ops in readers.items():
        chosen = smooth(np.concatenate(rows[value]), [graph.constants[op.operands[1]] for op in ops])
        if chosen is not None:
            factors[value.name] = chosen
    return factors


def _rounded(graph: Graph, value: Value, observed: Collection[Value]) -> Value | None:
    """The value whose levels a layer reads as ``value``, itself or moved."""
    while value not in observed:
        producer = graph.producer(value)
        if producer is None or producer.kind not in MOVEMENT:
            return None
        value = producer.operands[0]
    return value
