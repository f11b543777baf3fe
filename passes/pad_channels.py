"""Pad channels to what vector instructions take at once, once and for all, in the graph itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from sqc.ir import Graph, Op, Rewriter, Value
from sqc.ops.elementwise import UNARY
from sqc.ops.shapes import normalize_axes
from sqc.passes.base import Notes
from sqc.passes.lanes import Lanes

_FIRST = ("dequantize", "dynamic_dequantize", "center", "lookup")
"""Kinds whose first operand alone has the channels of an activation."""

_APART = ("dynamic_dequantize", "center", "lookup")
"""Kinds whose second operand has no channels."""


@dataclass(frozen=True)
class PadChannels:
    """Make the last extent of channels-last tensors 4 or a multiple of 16.

    qconv2d(x[.., 3], w[20, 3, ..])  ->  qconv2d(pad(x)[.., 4], w[32, 4, ..]) with zeros in the weights

    Convolutions and fully connected layers pad their weights, biases and multipliers; ops in between keep the padding,
    a concatenation keeps that of every operand; whatever needs the channels as they were gets them by a slice. Lanes of
    padding hold numbers that nothing reads. Works on float and integer graphs, before fusion.
    """

    name: ClassVar[str] = "pad-channels"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        return _Padder(graph, self, notes).run()


class _Padder:
    """Walks the graph with the lanes of each value; a value not in ``lanes`` has its channels as they were."""

    def __init__(self, graph: Graph, origin: PadChannels, notes: Notes) -> None:
        self.graph = graph
        self.origin = origin
        self.notes = notes
        self.rewriter = Rewriter(graph)
        self.lanes: dict[Value, Lanes] = {}
        self.conformed: dict[tuple[Value, Lanes], Value] = {}  # copies of values with other lanes
        self.handlers: dict[str, Callable[[Op], Lanes | None]] = {
            **dict.fromkeys(("conv2d", "qconv2d"), self.convolution),
            **dict.fromkeys(("fully_connected", "qfully_connected"), self.fully_connected),
            **dict.fromkeys(("add", "sub", "mul", "qmul", "quantize", *UNARY), self.elementwise),
            **dict.fromkeys(("requantize", *_FIRST), self.elementwise),
            **dict.fromkeys(("max_pool", "average_pool", "qsum_pool"), self.windowed),
            **dict.fromkeys(("reduce_mean", "qreduce_sum"), self.reduction),
            "concat": self.concat,
            "slice": self.slice,
            "transpose": self.transpose,
            "reshape": self.reshape,
            "pad": self.pad,
        }

    def run(self) -> Graph:
        for op in self.graph.ops:
            handler = self.handlers.get(op.kind)
            lanes = handler(op) if handler is not None and op.result.type.rank > 0 else None
            if lanes is None:
                self.rewriter.keep(op, [self.plain(operand) for operand in op.operands])
            elif not lanes.is_plain:
                self.lanes[op.result] = lanes
        for value in dict.fromkeys(self.graph.outputs.values()):
            producer = self.graph.producer(value)
            if producer is not None:
                self.rewriter.replace(producer, self.plain(value))
                self.lanes.pop(value, None)
        return self.rewriter.finish()

    def of(self, value: Value) -> Lanes:
        return self.lanes.get(value) or Lanes.plain(value.type.shape[-1])

    def plain(self, value: Value) -> Value:
        """The new value with its channels as they were."""
        if value not in self.lanes:
            return self.rewriter.map(value)
        key = (value, Lanes.plain(value.type.shape[-1]))
        if key not in self.conformed:
            padded = self.rewriter.map(value)
            parts = []
            for start, end in self.lanes[value].runs():
                where = {"axes": (value.type.rank - 1,), "starts": (start,), "ends": (end,), "steps": (1,)}
                parts.append(self.rewriter.emit("slice", [padded], where, name=f"{value.name}.channels"))
            if len(parts) > 1:
                axis = {"axis": value.type.rank - 1}
                parts = [self.rewriter.emit("concat", parts, axis, name=f"{value.name}.channels")]
            self.conformed[key] = parts[0]
        return self.conformed[key]

    def conform(self, value: Value, lanes: Lanes) -> Value | None:
        """The new value with its channels in ``lanes``; None where that takes more than padding."""
        if self.of(value) == lanes:
            return self.rewriter.map(value)
        filling = value.type.zero_point if value.type.dtype == "uint8" else 0
        if self.graph.is_constant(value):
            return self.scattered(value, lanes, -1, filling)
        if not lanes.leading:
            return None
        key = (value, lanes)
        if key not in self.conformed:
            pads = [0] * (2 * value.type.rank)
            pads[-1] = lanes.extent - value.type.shape[-1]
            padding = {"pads": tuple(pads), "value": float(filling)}
            self.conformed[key] = self.rewriter.emit("pad", [self.plain(value)], padding, name=f"{value.name}.padded")
        return self.conformed[key]

    def fitting(self, value: Value) -> tuple[Value, Lanes]:
        """The new value with lanes that kernels like, and these."""
        lanes = self.of(value)
        if not lanes.fits:
            lanes = Lanes.padded(value.type.shape[-1])
        result = self.conform(value, lanes)
        assert result is not None  # lanes that are new are leading
        return result, lanes

    def scattered(self, value: Value, lanes: Lanes, axis: int, filling: float) -> Value:
        """A constant with ``axis`` spread over ``lanes``; its quantization, if of that axis, too."""
        return self.weights(value, {axis: lanes}, filling)

    def weights(self, value: Value, lanes: dict[int, Lanes], filling: float = 0) -> Value:
        array, quantization = self.graph.constants[value], value.type.quantization
        for axis, where in lanes.items():
            array = where.scatter(array, axis, filling)
            if quantization is not None and quantization.axis == axis:
                scale = where.scatter(np.array(quantization.scale), 0, 1.0)
                zero_point = where.scatter(np.array(quantization.zero_point), 0, 0)
                quantization = replace(
                    quantization, scale=tuple(map(float, scale)), zero_point=tuple(map(int, zero_point))
                )
        return self.rewriter.constant(array, value.name, quantization)

    def convolution(self, op: Op) -> Lanes | None:
        x, w, *bias = op.operands
        if op.string("layout") != "NHWC" or not all(map(self.graph.is_constant, op.operands[1:])):
            return None
        outputs, depth = w.type.shape[:2]
        groups = op.integer("groups")
        if groups == 1:
            # A single channel needs no copy into another layout, and kernels multiply its neighbours as they lie.
            single = depth == 1 and w.type.shape[3] > 1 and self.of(x).is_plain
            data, inside = (self.plain(x), self.of(x)) if single else self.fitting(x)
            lanes = Lanes.padded(outputs)
            weights = self.weights(w, {0: lanes, 1: inside})
        elif groups == outputs and depth == 1:
            data, lanes = self.fitting(x)
            groups = lanes.extent
            weights = self.weights(w, {0: lanes})
        else:
            self.notes.add(self.origin, op, f"its {groups} groups keep their channels")
            return None
        biases = [self.scattered(value, lanes, 0, 0) for value in bias]
        self.rewriter.keep(op, [data, weights, *biases], groups=groups)
        self.remark(op, data, lanes)
        return lanes

    def fully_connected(self, op: Op) -> Lanes | None:
        x, w, *bias = op.operands
        if not all(map(self.graph.is_constant, op.operands[1:])):
            return None
        data, inside = self.fitting(x)
        lanes = Lanes.padded(w.type.shape[0])
        biases = [self.scattered(value, lanes, 0, 0) for value in bias]
        self.rewriter.keep(op, [data, self.weights(w, {0: lanes, 1: inside}), *biases])
        self.remark(op, data, lanes)
        return lanes

    def remark(self, op: Op, data: Value, lanes: Lanes) -> None:
        before = (op.operands[0].type.shape[-1], op.result.type.shape[-1])
        after = (data.type.shape[-1], lanes.extent)
        if before != after:
            texts = (f"{a} -> {b}" for a, b in zip(before, after, strict=True))
            self.notes.add(self.origin, op, f"channels padded: inputs {next(texts)}, outputs {next(texts)}")

    def elementwise(self, op: Op) -> Lanes | None:
        """All operands that have channels take the lanes of the first one that is padded."""
        channels = op.result.type.shape[-1]
        count = {"requantize": len(op.operands) // 2, **dict.fromkeys(_FIRST, 1)}.get(op.kind, len(op.operands))
        lanes = next((self.lanes[value] for value in op.operands[:count] if self.has(value, channels)), None)
        if lanes is None:
            return None
        operands: list[Value | None] = []
        for i, value in enumerate(op.operands):
            if op.kind in _APART and i == 1:
                operands.append(self.rewriter.map(value))
            elif value.type.shape[-1:] != (channels,) or (i >= count and channels == 1 and op.kind not in _APART):
                operands.append(self.plain(value))
            elif i < count:
                operands.append(self.conform(value, lanes))
            else:
                operands.append(self.scattered(value, lanes, -1, 1.0) if self.graph.is_constant(value) else None)
        complete = [operand for operand in operands if operand is not None]
        if len(complete) < len(operands):
            return None
        self.rewriter.keep(op, complete)
        return lanes

    def has(self, value: Value, channels: int) -> bool:
        return value in self.lanes and value.type.shape[-1] == channels

    def kept(self, op: Op, **changes: Any) -> Lanes | None:
        """The op on padded channels, which pass through it."""
        (x,) = op.operands
        if x not in self.lanes:
            return None
        self.rewriter.keep(op, [self.rewriter.map(x)], **changes)
        return self.lanes[x]

    def windowed(self, op: Op) -> Lanes | None:
        return self.kept(op) if op.string("layout") == "NHWC" else None

    def reduction(self, op: Op) -> Lanes | None:
        rank = op.operands[0].type.rank
        return None if rank - 1 in normalize_axes(op.integers("axes"), rank) else self.kept(op)

    def transpose(self, op: Op) -> Lanes | None:
        perm = op.integers("perm")
        return self.kept(op) if perm[-1] == len(perm) - 1 else None

    def pad(self, op: Op) -> Lanes | None:
        pads, rank = op.integers("pads"), op.result.type.rank
        return self.kept(op) if pads[rank - 1] == pads[2 * rank - 1] == 0 else None

    def slice(self, op: Op) -> Lanes | None:
        x, rank = op.operands[0], op.result.type.rank
        axes = [axis % rank for axis in op.integers("axes")]
        if rank - 1 not in axes:
            return self.kept(op)
        if not self.of(x).leading:
            return None
        channels = x.type.shape[-1]
        ends = [min(end, channels) if a == rank - 1 else end for a, end in zip(axes, op.integers("ends"), strict=True)]
        return self.kept(op, ends=tuple(ends)) and Lanes.plain(op.result.type.shape[-1])

    def reshape(self, op: Op) -> Lanes | None:
        """Channels stay, or merge with the axes before them for a fully connected layer; else they are unpadded."""
        (x,) = op.operands
        before, after = x.type.shape, op.result.type.shape
        merged = next((j for j in range(1, len(before) + 1) if math.prod(before[-j:]) == after[-1]), None)
        if x not in self.lanes or merged is None:
            return None
        lanes = self.lanes[x]
        count = math.prod(before[-merged:-1])
        readers = self.graph.users(op.result)
        if count > 1 and (
            self.graph.is_output(op.result) or any("fully_connected" not in user.kind for user in readers)
        ):
            return None
        starts = np.arange(count)[:, None] * lanes.extent
        index = (starts + np.array(lanes.index)).reshape(-1)
        self.kept(op, shape=(*op.integers("shape")[:-1], count * lanes.extent))
        return Lanes(count * lanes.extent, tuple(map(int, index)))

    def concat(self, op: Op) -> Lanes | None:
        last = op.result.type.rank - 1
        padded = [self.lanes[operand] for operand in op.operands if operand in self.lanes]
        if not padded:
            return None
        if op.integer("axis") % (last + 1) == last:
            return self.joined(op)
        operands = [value for operand in op.operands if (value := self.conform(operand, padded[0])) is not None]
        if len(operands) < len(op.operands):
            return None
        self.rewriter.keep(op, operands)
        return padded[0]

    def joined(self, op: Op) -> Lanes:
        """A concatenation of channels, each operand with the padding that it has."""
        operands = []
        index: list[int] = []
        extent = 0
        for operand in op.operands:
            value, lanes = (
                (self.rewriter.map(operand), self.lanes[operand]) if operand in self.lanes else self.fitting(operand)
            )
            operands.append(value)
            index += [extent + lane for lane in lanes.index]
            extent += lanes.extent
        self.rewriter.keep(op, operands)
        return Lanes(extent, tuple(index))
