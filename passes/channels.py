"""Which channels have to be scaled alike: classes of channels over the values of a float graph.

A factor on one channel of a layer's result goes through whatever keeps channels apart and commutes with positive
factors, up to the layers that read it. Channels that need the same factor are in one class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sqc.ir import Graph, Op, Value
from sqc.ops.shapes import normalize_axes
from sqc.passes.linear import output_axis
from sqc.passes.rounding import MATRIX

Ids = NDArray[np.intp]

_HOMOGENEOUS = ("relu", "leaky_relu", "max_pool", "average_pool")


class ChannelExtremes(NamedTuple):
    """The least and the largest number of each channel of a value, [C] each."""

    minimum: ArrayLike
    maximum: ArrayLike


class Channels:
    """Classes of channels, numbered from 0 to ``count``; made by :func:`link_channels`.

    ``axes`` maps each value that has known channels to their axis.
    """

    def __init__(self) -> None:
        self.axes: dict[Value, int] = {}
        self._ids: dict[Value, Ids] = {}
        self._parents: list[int] = []
        self._bound: set[int] = set()
        self._mixed: set[int] = set()

    @property
    def count(self) -> int:
        return len(self._parents)

    @property
    def values(self) -> Iterable[Value]:
        """The values that have known channels."""
        return self.axes.keys()

    @property
    def bound(self) -> NDArray[np.bool_]:
        """bool [count]: classes whose channels must stay as they are."""
        return self._mask(self._bound)

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """bool [count]: classes that a dense layer reads, whose weights then bear their factors."""
        return self._mask(self._mixed)

    def classes(self, value: Value) -> Ids:
        """The class of each channel of a value."""
        return np.array([self._root(i) for i in self._ids[value].tolist()], np.intp)

    def ids(self, value: Value) -> Ids:
        """Members of the classes of a value's channels, to be handed on to another value."""
        return self._ids[value]

    def create(self, value: Value, axis: int) -> None:
        """Give each index of ``axis`` a class of its own."""
        start = self.count
        self._parents.extend(range(start, start + value.type.shape[axis]))
        self.share(value, axis, np.arange(start, self.count))

    def share(self, value: Value, axis: int, ids: Ids) -> None:
        """Put the channels of a value, along ``axis``, into classes that exist."""
        self.axes[value], self._ids[value] = axis, ids

    def unite(self, a: Ids, b: Ids) -> None:
        """Make one class of the classes of each pair."""
        for i, j in zip(map(self._root, a.tolist()), map(self._root, b.tolist()), strict=True):
            i, j = self._root(i), self._root(j)
            self._parents[max(i, j)] = min(i, j)

    def bind(self, value: Value) -> None:
        """Let the channels of a value stay as they are."""
        if value in self._ids:
            self._bound.update(self._ids[value].tolist())

    def mix(self, value: Value) -> None:
        """Note that a dense layer reads a value."""
        if value in self._ids:
            self._mixed.update(self._ids[value].tolist())

    def _mask(self, members: set[int]) -> NDArray[np.bool_]:
        mask = np.zeros(self.count, bool)
        mask[[self._root(i) for i in members]] = True
        return mask

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i


def by_weight(numbers: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """What belongs to each output and each input of its group, [N, C / groups], of ``numbers`` [C] of a layer's inputs.

    ``shape`` is that of the layer's weights.
    """
    outputs, depth = shape[:2]
    groups = numbers.size // depth
    return np.repeat(numbers.reshape(groups, depth), outputs // groups, axis=0)


def is_depthwise(op: Op) -> bool:
    """Whether each output channel of a layer reads one input channel."""
    return op.kind == "conv2d" and op.operands[1].type.shape[1] == 1


def link_channels(graph: Graph) -> Channels:
    """The classes of all channels. Bound are those of inputs and outputs, and those that anything reads which neither
    hands them on nor takes a factor back: depthwise convolutions do at no cost, dense layers at some."""
    channels = Channels()
    for op in graph.ops:
        if op.kind in MATRIX and all(map(graph.is_constant, op.operands[1:])):
            _layer(channels, op)
        elif scales_channels(graph, op):
            channels.bind(op.operands[0])
            channels.create(op.result, op.result.type.rank - 1)
        elif not _hands_on(channels, op):
            for operand in op.operands:
                channels.bind(operand)
    for value in graph.outputs.values():
        channels.bind(value)
    return channels


def _layer(channels: Channels, op: Op) -> None:
    x, axis = op.operands[0], output_axis(op)
    if channels.axes.get(x) != axis:
        channels.bind(x)  # along another axis
        channels.create(x, axis)
        channels.bind(x)
    elif not is_depthwise(op):
        channels.mix(x)
    channels.create(op.result, axis)


def scales_channels(graph: Graph, op: Op) -> bool:
    """Whether a normalization multiplies its last axis by constants, and adds some, one for each channel."""
    extent = op.result.type.shape[-1:]
    return op.kind == "normalize" and all(
        graph.is_constant(operand) and (operand.type.size,) == operand.type.shape[-1:] == extent
        for operand in op.operands[1:]
    )


def _hands_on(channels: Channels, op: Op) -> bool:
    """Whether the result's channels are those of the operands; puts them into their classes."""
    x, y = op.operands[0], op.result
    if any(value not in channels.axes for value in op.operands):
        return False
    axis, ids = channels.axes[x], channels.ids(x)
    to: int | None = axis
    if op.kind in ("add", "sub", "concat"):
        return _joins(channels, op)
    if op.kind == "clip":
        to = axis if op.number("min") <= 0.0 <= op.number("max") else None
    elif op.kind == "reduce_mean":
        axes = normalize_axes(op.integers("axes"), x.type.rank)
        before = 0 if op.attributes["keepdims"] else sum(reduced < axis for reduced in axes)
        to = None if axis in axes else axis - before
    elif op.kind == "pad":
        pads = op.integers("pads")
        to = axis if op.number("value") == 0.0 and not pads[axis] and not pads[x.type.rank + axis] else None
    elif op.kind == "transpose":
        to = op.integers("perm").index(axis)
    elif op.kind == "reshape":
        to = _reshaped_axis(x.type.shape, y.type.shape, axis)
    elif op.kind not in _HOMOGENEOUS:
        to = None
    if to is None:
        return False
    channels.share(y, to, ids)
    return True


def _joins(channels: Channels, op: Op) -> bool:
    """Sums of equal shapes unite the classes of their operands; a concatenation along the channels lines them up."""
    y = op.result
    axes = {channels.axes[value] for value in op.operands}
    if len(axes) > 1:
        return False
    (axis,) = axes
    parts = [channels.ids(value) for value in op.operands]
    if op.kind == "concat" and op.integer("axis") % y.type.rank == axis:
        channels.share(y, axis, np.concatenate(parts))
        return True
    if any(value.type.shape[axis] != y.type.shape[axis] for value in op.operands):
        return False
    for part in parts[1:]:
        channels.unite(parts[0], part)
    channels.share(y, axis, parts[0])
    return True


def _reshaped_axis(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """Where an axis is after a reshape, if it is there whole and alone."""
    for to, extent in enumerate(after):
        if extent == before[axis] != 1 and math.prod(after[:to]) == math.prod(before[:axis]):
            return to
    return None
