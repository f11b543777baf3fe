"""The eight-bit types of imported models as those of the number contract: activations u8, weights s8 around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.ir import Graph, Op, Quantization, Rewriter, Value
from sqc.ops.shapes import channel_axis
from sqc.passes.base import Notes
from sqc.passes.rounding import MATRIX, MOVEMENT

_MOVED = (*MOVEMENT, "max_pool", "concat")


@dataclass(frozen=True)
class ContractTypes:
    """Rebase signed activations, and take the zero points out of weights.

    dequantize(quantize(x) {int8, z})       ->  dequantize(quantize(x) {uint8, z + 128}); likewise what moves levels
    conv2d(x, dequantize(const w<z>))       ->  conv2d(x, dequantize(const int8 w - z)), where w - z has eight bits
                                            ->  conv2d(concat(x, x), dequantize(const int8 [v, w - z - v])), where not

    Inputs and outputs keep their types. All of this is exact.
    """

    name: ClassVar[str] = "contract-types"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        return _Contract(graph, self, notes).run()


class _Contract(Rewriter):
    """``levels`` holds the unsigned levels of old signed activations, each 128 larger."""

    def __init__(self, graph: Graph, origin: ContractTypes, notes: Notes) -> None:
        super().__init__(graph)
        self.origin = origin
        self.notes = notes
        self.levels: dict[Value, Value] = {}

    def run(self) -> Graph:
        for op in self.graph.ops:
            if _is_signed(op.result) and (op.kind == "quantize" or op.kind in _MOVED):
                self.levels[op.result] = self.rebased(op)
            elif op.kind == "dequantize" and _is_signed(op.operands[0]):
                self.keep(op, [self.unsigned(op.operands[0])])
            elif op.kind in MATRIX and (weights := _stored_weights(self.graph, op)) is not None:
                self.contract_weights(op, weights)
            else:
                self.keep(op, [self.signed(operand) for operand in op.operands])
        for value in self.graph.outputs.values():
            self.signed(value)
        return self.finish()

    def rebased(self, op: Op) -> Value:
        if op.kind == "quantize":
            changes = {"dtype": "uint8", "zero_point": op.integer("zero_point") + 128}
            operands = [self.map(op.operands[0])]
        else:
            changes = {"value": op.number("value") + 128} if op.kind == "pad" else {}
            operands = [self.unsigned(operand) for operand in op.operands]
        return self.emit(op.kind, operands, {**op.attributes, **changes}, name=op.result.name, source=op.source)

    def unsigned(self, value: Value) -> Value:
        """The unsigned levels of a signed activation."""
        if value not in self.levels:
            scale, zero_point = value.type.scale, value.type.zero_point + 128
            if self.graph.is_constant(value):
                array = (self.graph.constants[value].astype(np.int16) + 128).astype(np.uint8)
                self.levels[value] = self.constant(array, value.name, Quantization.per_tensor(scale, zero_point))
            else:  # an input
                real = self.emit("dequantize", [self.map(value)], name=f"{value.name}.real", source=value.name)
                attributes = {"scale": scale, "zero_point": zero_point}
                name = f"{value.name}.unsigned"
                self.levels[value] = self.emit("quantize", [real], attributes, name=name, source=value.name)
        return self.levels[value]

    def signed(self, value: Value) -> Value:
        """The new value for an old one, of the old type."""
        op = self.graph.producer(value)
        if value not in self.levels or op is None:
            return self.map(value)
        name = f"{value.name}.signed"
        real = self.emit("dequantize", [self.levels[value]], name=f"{value.name}.real", source=op.source)
        attributes = {"scale": value.type.scale, "zero_point": value.type.zero_point, "dtype": "int8"}
        return self.replace(op, self.emit("quantize", [real], attributes, name=name, source=op.source))

    def contract_weights(self, op: Op, weights: Value) -> None:
        x = self.map(op.operands[0])
        stored = weights.type.quantization
        assert stored is not None
        zero_points = np.array(stored.zero_point, np.int16).reshape(-1, *[1] * (weights.type.rank - 1))
        centred = self.graph.constants[weights].astype(np.int16) - zero_points
        parts = [np.clip(centred, -128, 127)]
        while (rest := centred - sum(parts)).any():  # at most 255 in magnitude: three parts
            parts.append(np.clip(rest, -128, 127))
        if len(parts) > 1:
            count = len(parts)
            self.notes.add(self.origin, op, f"its weights, less their zero point, are computed in {count} parts")
            x = self.repeated(op, x, count)
        levels = np.concatenate(parts, axis=1).astype(np.int8)
        quantization = Quantization(stored.scale, (0,) * len(stored.scale), stored.axis)
        constant = self.constant(levels, weights.name, quantization)
        w = self.emit("dequantize", [constant], name=op.operands[1].name, source=op.source)
        self.keep(op, [x, w, *map(self.map, op.operands[2:])])

    def repeated(self, op: Op, x: Value, times: int) -> Value:
        """``x`` with its channels several times, group by group."""
        if op.kind == "fully_connected":
            return self.step(op, "concat", [x] * times, axis=1)
        layout, groups = op.string("layout"), op.integer("groups")
        axis = channel_axis(layout)
        if groups == 1:
            return self.step(op, "concat", [x] * times, axis=axis)
        _, *inner = x.type.shape
        channels = inner[axis - 1]
        split = (-1, *inner[: axis - 1], groups, channels // groups, *inner[axis:])
        joined = (-1, *inner[: axis - 1], times * channels, *inner[axis:])
        grouped = self.step(op, "reshape", [x], shape=split)
        copies = self.step(op, "concat", [grouped] * times, axis=axis + 1)
        return self.step(op, "reshape", [copies], shape=joined)

    def step(self, op: Op, kind: str, operands: Sequence[Value], **attributes: object) -> Value:
        return self.emit(kind, operands, attributes, name=f"{op.operands[0].name}.repeated", source=op.source)


def _is_signed(value: Value) -> bool:
    quantization = value.type.quantization
    return value.type.dtype == "int8" and quantization is not None and quantization.axis is None


def _stored_weights(graph: Graph, op: Op) -> Value | None:
    """The constant eight-bit levels behind the weights of an op, with one scale or one a channel; else None."""
    producer = graph.producer(op.operands[1])
    if producer is None or producer.kind != "dequantize" or not graph.is_constant(producer.operands[0]):
        return None
    levels = producer.operands[0]
    quantization = levels.type.quantization
    if quantization is None or quantization.axis not in (None, 0) or levels.type.dtype not in ("uint8", "int8"):
        return None
    return levels
