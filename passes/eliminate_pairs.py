"""Remove what cancels between rounding and its inverse, without changing a bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.ir import Graph, Op, Rewriter, Value, evaluate_op
from sqc.passes.base import Notes
from sqc.passes.integer_parameters import level
from sqc.passes.rounding import MOVEMENT


@dataclass(frozen=True)
class EliminatePairs:
    """Cancel quantize with dequantize, and let movement happen on eight bits.

    quantize(dequantize(x))              ->  x                         where parameters are equal
    transpose(dequantize(x))             ->  dequantize(transpose(x))  and so on for all movement
    quantize(transpose(x))               ->  transpose(quantize(x))
    requantize(x, 1.0)                   ->  x                         where parameters are equal and nothing is clamped
    lookup(lookup(x, const t), const u)  ->  lookup(x, const u[t])

    All of these are exact.
    """

    name: ClassVar[str] = "eliminate-pairs"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        return _Eliminator(graph).run()


class _Eliminator:
    """Walks the graph; ``levels`` holds the integers of float values that are dequantized ones."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rewriter = Rewriter(graph)
        self.levels: dict[Value, Value] = {}
        self.floats: dict[Value, Value] = {}

    def run(self) -> Graph:
        for op in self.graph.ops:
            if op.kind == "dequantize" and _per_tensor(op.operands[0]):
                self.levels[op.result] = self.rewriter.map(op.operands[0])
            elif op.kind in MOVEMENT and (moved := self.moved_levels(op)) is not None:
                self.levels[op.result] = moved
            elif (simpler := self.simplified(op)) is not None:
                self.rewriter.replace(op, simpler)
            else:
                self.rewriter.keep(op, map(self.read, op.operands))
        for value in self.graph.outputs.values():
            self.read(value)
        return self.rewriter.finish()

    def read(self, value: Value) -> Value:
        """The new value for an old one; dequantizes if that has been put off."""
        if value not in self.levels:
            return self.rewriter.map(value)
        if value not in self.floats:
            op = self.graph.producer(value)
            assert op is not None
            real = self.rewriter.emit("dequantize", [self.levels[value]], name=value.name, source=op.source)
            self.floats[value] = self.rewriter.replace(op, real)
        return self.floats[value]

    def moved_levels(self, op: Op) -> Value | None:
        """Movement of a dequantized value, on its levels; None if others read that value, or padding is no level."""
        x = self.levels.get(op.operands[0])
        if x is None or self.graph.only_user(op.operands[0]) is None:
            return None
        attributes = dict(op.attributes)
        if op.kind == "pad":
            scale, zero_point = x.type.scale, x.type.zero_point
            padding = level(op.number("value"), scale, zero_point)
            if np.float32(padding - zero_point) * np.float32(scale) != op.number("value"):
                return None
            attributes["value"] = float(padding)
        operands = [x, *map(self.read, op.operands[1:])]
        return self.rewriter.emit(op.kind, operands, attributes, name=op.result.name, source=op.source)

    def simplified(self, op: Op) -> Value | None:
        if op.kind == "quantize" and op.string("dtype") == "uint8":
            x = self.levels.get(op.operands[0])
            if x is not None:
                return x if x.type == op.result.type else None
            return self.hoisted(op)
        if op.kind == "requantize" and len(op.operands) == 2:
            x, multiplier = op.operands
            full = (op.integer("lo"), op.integer("hi")) == (0, 255)
            unit = multiplier in self.graph.constants and bool((self.graph.constants[multiplier] == 1).all())
            return self.rewriter.map(x) if full and unit and x.type == op.result.type else None
        if op.kind == "lookup":
            return self.composed(op)
        return None

    def hoisted(self, op: Op) -> Value | None:
        """Quantize before the movement in front of it."""
        chain: list[Op] = []
        value = op.operands[0]
        while (producer := self.graph.producer(value)) is not None and producer.kind in MOVEMENT:
            if self.graph.only_user(value) is None:
                break
            chain.append(producer)
            value = producer.operands[0]
        if not chain:
            return None
        result = self.rewriter.keep(op, [self.read(value)])
        for movement in reversed(chain):
            attributes = dict(movement.attributes)
            if movement.kind == "pad":
                padding = evaluate_op(op, [np.array(movement.number("value"), np.float32)])
                attributes["value"] = float(padding)
            name = f"{movement.result.name}.quantized"
            operands = [result, *map(self.read, movement.operands[1:])]
            result = self.rewriter.emit(movement.kind, operands, attributes, name=name, source=movement.source)
        return result

    def composed(self, op: Op) -> Value | None:
        """Two tables in a row as one."""
        x, outer = op.operands
        first = self.graph.producer(x)
        if first is None or first.kind != "lookup" or self.graph.only_user(x) is None:
            return None
        inner = first.operands[1]
        if inner not in self.graph.constants or outer not in self.graph.constants:
            return None
        table = self.graph.constants[outer][self.graph.constants[inner]]
        entries = self.rewriter.constant(table, f"{op.result.name}.table")
        return self.rewriter.keep(op, [self.rewriter.map(first.operands[0]), entries])


def _per_tensor(value: Value) -> bool:
    quantization = value.type.quantization
    return value.type.dtype == "uint8" and quantization is not None and quantization.axis is None
