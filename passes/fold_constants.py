"""Compute at compile time what depends on constants alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sqc.ir import Graph, Rewriter, evaluate_op
from sqc.passes.base import Notes

_KEPT = ("quantize", "dequantize")
"""Folding these would undo the quantization of weights."""


@dataclass(frozen=True)
class FoldConstants:
    """Replace ops whose operands are all constants by their results, through the numpy references.

    add(const a, const b)  ->  const a + b

    Quantize and dequantize stay, and whatever reads them, except in a graph that rounds no activation: there weights
    that are stored as levels are real numbers like any other. With ``integers``, in a graph whose integer ops read
    levels themselves, what is dequantized is for float ops. Weights in fewer bits, to be restored in kernels, stay.
    """

    name: ClassVar[str] = "fold-constants"
    integers: bool = False

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        kept = _KEPT if any(op.kind == "quantize" for op in graph.ops) and not self.integers else ()
        for op in graph.ops:
            operands = rewriter.operands(op)
            if op.kind in (*kept, "restore_weights") or not all(operand in rewriter.constants for operand in operands):
                rewriter.keep(op)
                continue
            array = evaluate_op(op, [rewriter.constants[operand] for operand in operands])
            rewriter.replace(op, rewriter.constant(array, op.result.name, op.result.type.quantization))
        return rewriter.finish()
