"""The report after a compile: each op's precision and why, what fused, and the share of work done in int8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqc.ir import Graph, Op
from sqc.ops.cost import multiply_accumulates
from sqc.passes.base import Notes


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel of the compiled model.

    ``parts`` are the ops that it computes, first to last; ``reason`` says why it is not in int8, if it is not;
    ``multiply_accumulates`` counts those of one run.
    """

    name: str
    parts: tuple[str, ...]
    shape: tuple[int, ...]
    precision: str
    reason: str
    multiply_accumulates: int


@dataclass(frozen=True, slots=True)
class Remark:
    """What a pass had to say about a node of the model."""

    pass_name: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a model."""

    rows: tuple[Row, ...]
    remarks: tuple[Remark, ...]

    @property
    def multiply_accumulates(self) -> int:
        """Of one run, in any precision."""
        return sum(row.multiply_accumulates for row in self.rows)

    @property
    def int8_share(self) -> float:
        """The share of multiply-accumulates that run in int8; 1.0 for a model without any."""
        total = self.multiply_accumulates
        return sum(row.multiply_accumulates for row in self.rows if row.precision == "int8") / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the library's description and for JSON."""
        return {**asdict(self), "int8_share": self.int8_share}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Report:
        """What :meth:`to_dict` gave, also by way of JSON."""
        rows = (Row(**{**row, "parts": tuple(row["parts"]), "shape": tuple(row["shape"])}) for row in data["rows"])
        return Report(tuple(rows), tuple(Remark(**remark) for remark in data["remarks"]))


def work_by_result(graph: Graph) -> dict[str, int]:
    """Multiply-accumulates by the name of the value that they compute."""
    return {op.result.name: multiply_accumulates(op) for op in graph.ops}


def report_of(graph: Graph, notes: Notes, work: Mapping[str, int]) -> Report:
    """The report of a fused graph, from the notes that its passes left.

    ``work`` is that of the graph before its channels were padded, so that only the model's own products count.
    """
    remarks = tuple(Remark(note.pass_name, note.subject, note.message) for note in notes)
    return Report(tuple(_row(op, remarks, work) for op in graph.ops if op.kind != "reshape"), remarks)


def _row(op: Op, remarks: Iterable[Remark], work: Mapping[str, int]) -> Row:
    ops = op.body.ops if op.kind == "fused" else (op,)
    precision = _precision(ops)
    reason = ""
    if precision == "float32":
        reason = next((r.message for r in remarks if op.source and r.subject in (op.source, op.label())), _UNTOUCHED)
    return Row(
        op.source or op.result.name,
        tuple(part.kind for part in ops),
        op.result.type.shape,
        precision,
        reason,
        sum(work.get(part.result.name, 0) for part in ops),
    )


_UNTOUCHED = "float: it works on what float ops computed, or moves it"


def _precision(ops: Iterable[Op]) -> str:
    dtypes = {operand.type.dtype for op in ops for operand in op.operands[:1]}
    return "int8" if dtypes & {"uint8", "int8", "int32"} else "quantize" if _quantizes(ops) else "float32"


def _quantizes(ops: Iterable[Op]) -> bool:
    return any(op.kind == "quantize" for op in ops)
