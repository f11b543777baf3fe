"""Give the operands of a concatenation its scale and zero point, so that it copies bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sqc.ir import Graph, Op, Quantization, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.rounding import MOVEMENT, levels_behind


@dataclass(frozen=True)
class RequantizeConcat:
    """Round the operands of a concatenation with the parameters of its result.

    quantize{s}(concat(dequantize(quantize{s1}(a)), ...))  ->  quantize{s}(concat(dequantize(quantize{s}(a)), ...))

    An operand that nothing else reads is rounded with the result's parameters in the first place; any other is rounded
    a second time. With ``keep_rounding`` all are, as the concatenation's own rounding would do.
    """

    name: ClassVar[str] = "requantize-concat"
    keep_rounding: bool = False

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        parameters: dict[Value, Quantization] = {}  # of results of quantize that change
        targets: dict[Value, Quantization] = {}  # of results of concat
        for op in reversed(graph.ops):
            rounding = graph.only_user(op.result) if op.kind == "concat" else None
            if rounding is None or rounding.kind != "quantize" or rounding.string("dtype") != "uint8":
                continue
            target = parameters.get(rounding.result, rounding.result.type.quantization)
            assert target is not None
            targets[op.result] = target
            for operand in () if self.keep_rounding else op.operands:
                if (rounding := _own_rounding(graph, operand)) is not None:
                    parameters[rounding.result] = target
        rewriter = Rewriter(graph)
        for op in graph.ops:
            if op.result in parameters:
                rewriter.keep(op, **_attributes(parameters[op.result]))
            elif op.result in targets:
                self._conform(rewriter, op, parameters, targets[op.result], notes)
            else:
                rewriter.keep(op)
        return rewriter.finish()

    def _conform(
        self,
        rewriter: Rewriter,
        op: Op,
        parameters: dict[Value, Quantization],
        target: Quantization,
        notes: Notes,
    ) -> None:
        operands: dict[Value, Value] = {}
        for operand in dict.fromkeys(op.operands):
            value = rewriter.map(operand)
            rounding = levels_behind(rewriter.graph, operand)
            current = None if rounding is None else parameters.get(rounding, rounding.type.quantization)
            if current is not None and current != target:
                notes.add(self, op, f"%{operand.name} is rounded again, as more than this op reads it")
            if current != target:
                name = f"{op.result.name}.operand"
                levels = rewriter.emit("quantize", [value], _attributes(target), name=name, source=op.source)
                value = rewriter.emit("dequantize", [levels], name=f"{name}.dequantized", source=op.source)
            operands[operand] = value
        rewriter.keep(op, [operands[operand] for operand in op.operands])


def _attributes(quantization: Quantization) -> dict[str, Any]:
    return {"scale": quantization.scale[0], "zero_point": quantization.zero_point[0]}


def _own_rounding(graph: Graph, value: Value) -> Op | None:
    """The quantize behind which nothing but this one use of ``value`` reads; None if there is none."""
    while (producer := graph.producer(value)) is not None and graph.only_user(value) is not None:
        if producer.kind == "quantize":
            return producer if producer.string("dtype") == "uint8" else None
        if producer.kind not in (*MOVEMENT, "max_pool", "dequantize"):
            return None
        value = producer.operands[0]
    return None
