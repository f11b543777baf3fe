"""What an integer graph still computes in float between roundings, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqc.errors import CompileError
from sqc.ir import Graph, Op, Value
from sqc.passes.base import Notes
from sqc.passes.rounding import MATRIX, MOVEMENT

_ARITHMETIC = ("add", "sub", "mul", "div")


@dataclass(frozen=True, slots=True)
class Pair:
    """A quantize or dequantize (``kind``) at ``node`` that fused with no integer op, though data pass it at run time.

    Those of inputs and outputs, where float numbers come and go, don't count.
    """

    kind: str
    node: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} of '{self.value}' ({self.node}): {self.reason}"


def surviving_pairs(graph: Graph, notes: Notes) -> tuple[Pair, ...]:
    """The roundings of an integer graph beside float ops, with reasons from what its passes noted."""
    pairs = []
    for op in graph.ops:
        if op.kind == "quantize":
            ops = [producer for producer in [_computed_by(graph, op.operands[0])] if producer is not None]
            where = "in front of it"
        elif op.kind == "dequantize" and len(op.operands) == 1 and not graph.is_constant(op.operands[0]):
            ops = list({other.result: other for other in _float_readers(graph, op.result)}.values())
            where = "behind it"
        else:
            continue
        if ops:
            reason = "; ".join(f"{other.label()} {where} {_why(other, notes)}" for other in ops)
            value = op.result if op.kind == "quantize" else op.operands[0]
            pairs.append(Pair(op.kind, op.source or op.result.name, value.name, reason))
    return tuple(pairs)


def require_int8(graph: Graph, notes: Notes) -> None:
    """Raise CompileError that lists every convolution and fully connected layer in float, and every surviving pair."""
    problems = [f"{op.label()} {_why(op, notes)}" for op in graph.ops if op.kind in MATRIX]
    problems += map(str, surviving_pairs(graph, notes))
    if problems:
        raise CompileError(
            "\n".join([f"int8 is required, but {len(problems)} places are in float:", *(f"  - {p}" for p in problems)])
        )


def _computed_by(graph: Graph, value: Value) -> Op | None:
    """The float op that computes what is moved to ``value``; None for an input, or another integer type of one.

    An input that is only scaled or shifted by constants, as pictures are, is rounded in the kernel that does so.
    """
    nearest: Op | None = None
    while (op := graph.producer(value)) is not None:
        if op.kind in MOVEMENT:
            value = op.operands[0]
            continue
        nearest = nearest or op
        computed = [operand for operand in op.operands if not graph.is_constant(operand)]
        if op.kind not in _ARITHMETIC or len(computed) != 1:
            return None if nearest.kind == "dequantize" else nearest
        (value,) = computed
    return nearest if graph.is_constant(value) else None


def _float_readers(graph: Graph, value: Value) -> Iterator[Op]:
    """The float ops that read ``value``, itself or moved."""
    for op in graph.users(value):
        if op.kind in MOVEMENT:
            yield from _float_readers(graph, op.result)
        elif op.kind != "quantize":
            yield op


def _why(op: Op, notes: Notes) -> str:
    subjects = (op.label(), op.source)
    reasons = [note.message for note in notes if note.subject in subjects and "float: " in note.message]
    return f"stays in float: {reasons[-1].partition('float: ')[2]}" if reasons else "is computed in float"
