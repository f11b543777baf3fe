"""Factors for the channels that dense layers read, from calibration inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.smoothing import Reader, smooth
from sqc.ir import Graph, Op, Value, rebatch
from sqc.passes.channels import Channels, is_depthwise, link_channels
from sqc.passes.equalize import room
from sqc.passes.insert_quantization import observed_values
from sqc.passes.rounding import MATRIX, MOVEMENT
from sqc.pieces import whole_pieces
from sqc.probe import load_graph
from sqc.refine.rows import Rows

_ROWS = 512
"""How many rows of each layer's inputs are looked at, spread over the samples."""


@dataclass(eq=False)
class _Tied:
    """Rounded values that share classes of channels, these classes, and the dense layers that read the values."""

    values: list[Value]
    classes: set[int]
    readers: list[Op] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    """What the samples make of some values, and of the inputs of some layers.

    The largest magnitude of each channel of the values in either half of the samples, [2, C], and rows [G, R, K] of the
    inputs, by the layers' results.
    """

    largest: Mapping[Value, NDArray[np.float64]]
    rows: Mapping[Value, NDArray[np.float32]]


def smoothing(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    exclude: Collection[str] = frozenset(),
    target: str = "native",
    *,
    weight_noise: float = 1.0,
) -> dict[str, NDArray[np.float64]]:
    """What :class:`sqc.passes.equalize.Equalize` takes as ``smoothed``: factors for the channels of values, by name.

    Of the values of a float graph that are rounded and that dense layers read. Values whose channels have to be scaled
    alike (those of a residual stream, those that a concatenation joins) get factors that serve all their readers
    together. ``inputs`` {input: array of samples} are run through the graph, compiled for ``target``; layers of the
    nodes in ``exclude`` stay in float and do not count. ``weight_noise`` is the share that is left of the noise of
    weights rounded to the nearest.
    """
    graph = rebatch(graph, 1) if graph.dynamic_batch else graph
    channels = link_channels(graph)
    groups = _groups(graph, channels, exclude)
    if not groups:
        return {}
    seen = _observe(graph, groups, channels, whole_pieces(inputs, graph.inputs[0].type.shape[0]), target)
    clipped = np.zeros(channels.count, bool)
    for op in graph.ops:
        if op.kind == "clip" and op.operands[0] in channels.axes:
            clipped[channels.classes(op.operands[0])] = True
    factors: dict[str, NDArray[np.float64]] = {}
    for group in groups:
        members = np.array(sorted(group.classes))
        position = {value: np.searchsorted(members, channels.classes(value)) for value in group.values}
        shares = np.zeros((2, len(members)))
        for value, at in position.items():
            for share, largest in zip(shares, seen.largest[value], strict=True):
                np.maximum.at(share, at, largest / (largest.max() or 1.0))
        readers = []
        for op in group.readers:
            at = np.searchsorted(members, channels.classes(op.operands[0]))
            readers.append(_reader(graph.constants[op.operands[1]], at, seen.rows[op.result]))
        chosen = smooth(readers, shares, np.where(clipped[members], room(shares.max(axis=0)), np.inf), weight_noise)
        if chosen is not None:
            factors.update({value.name: chosen[at] for value, at in position.items()})
    return factors


def _observe(
    graph: Graph,
    groups: Sequence[_Tied],
    channels: Channels,
    samples: Sequence[Mapping[str, np.ndarray]],
    target: str,
) -> _Seen:
    values = [value for group in groups for value in group.values]
    largest = {value: np.zeros((2, value.type.shape[channels.axes[value]])) for value in values}
    layers = [Rows(op, len(samples)) for group in groups for op in group.readers]
    rows: dict[Value, list[NDArray[np.float32]]] = {layer.op.result: [] for layer in layers}
    shown = {value.name: value for value in (*values, *(layer.op.operands[0] for layer in layers))}
    model = load_graph(replace(graph, outputs=shown), target)
    for number, sample in enumerate(samples):
        tensors = model.run(sample)
        for value, halves in largest.items():
            most = halves[2 * number // len(samples)]
            x = np.moveaxis(tensors[value.name], channels.axes[value], -1)
            np.maximum(most, np.abs(x).reshape(-1, len(most)).max(axis=0), out=most)
        for layer in layers:
            (x,) = layer.inputs(tensors[layer.op.operands[0].name], number)
            order = np.random.default_rng(number).permutation(x.shape[1])
            rows[layer.op.result].append(x[:, np.sort(order[: -(-_ROWS // len(samples))])])
    return _Seen(largest, {result: np.concatenate(parts, axis=1) for result, parts in rows.items()})


def _groups(graph: Graph, channels: Channels, exclude: Collection[str]) -> list[_Tied]:
    """The groups of rounded values that dense layers read and whose channels are free to be scaled."""
    rounded = observed_values(graph, exclude)
    observed = [value for value in rounded if value in channels.axes and value not in graph.inputs]
    groups: list[_Tied] = []
    for value in observed:
        classes = set(channels.classes(value).tolist())
        met = [group for group in groups if not classes.isdisjoint(group.classes)]
        values = [other for group in met for other in group.values]
        groups = [group for group in groups if group not in met]
        groups.append(_Tied([*values, value], classes.union(*(group.classes for group in met))))
    bound = channels.bound
    free = {value: group for group in groups if not bound[list(group.classes)].any() for value in group.values}
    for op in graph.ops:
        excluded = op.source in exclude or op.result.name in exclude
        if op.kind in MATRIX and all(map(graph.is_constant, op.operands[1:])) and not is_depthwise(op) and not excluded:
            source = _rounded(graph, op.operands[0], observed)
            if source in free and op.operands[0] in channels.axes:
                free[source].readers.append(op)
    return [group for group in groups if group.readers]


def _reader(weights: NDArray[Any], channels: NDArray[np.intp], rows: NDArray[np.float32]) -> Reader:
    """A layer of ``weights`` that reads ``channels``, with rows [G, R, K] of its inputs."""
    groups, _, columns = rows.shape
    of_columns = np.repeat(channels, columns * groups // len(channels)).reshape(groups, columns)
    return Reader(rows, weights.reshape(groups, -1, columns), of_columns)


def _rounded(graph: Graph, value: Value, observed: Collection[Value]) -> Value | None:
    """The value whose levels a layer reads as ``value``, itself or moved."""
    while value not in observed:
        producer = graph.producer(value)
        if producer is None or producer.kind not in MOVEMENT:
            return None
        value = producer.operands[0]
    return value
