"""The report after a compile: each op's precision and why, what fused, and the share of work done in int8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqc.ir import Graph, Op
from sqc.ops.cost import multiply_accumulates, precision
from sqc.passes.base import Notes
from sqc.surviving import Pair


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
    """What became of a model. ``pairs`` are the roundings that fused with no integer op."""

    rows: tuple[Row, ...]
    remarks: tuple[Remark, ...]
    pairs: tuple[Pair, ...] = ()

    @property
    def multiply_accumulates(self) -> int:
        """Of one run, in any precision."""
        return sum(row.multiply_accumulates for row in self.rows)

    @property
    def int8_share(self) -> float:
        """The share of multiply-accumulates that run in int8; 1.0 for a model without any."""
        total = self.multiply_accumulates
        return sum(row.multiply_accumulates for row in self.rows if row.precision == "int8") / total if total else 1.0

    def why(self, node: str, parts: Sequence[str]) -> str:
        """Why the kernel of a row stayed in float, and why it was not fused with more; empty where neither is so."""
        row = next((row for row in self.rows if (row.name, row.parts) == (node, tuple(parts))), None)
        reasons = [row.reason] if row and row.reason else []
        subject = f"{parts[0]} '{node}'"
        reasons += [r.message for r in self.remarks if r.subject == subject and r.message.startswith("not fused")]
        return "; ".join(reasons)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the library's description and for JSON."""
        return {**asdict(self), "int8_share": self.int8_share}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Report:
        """What :meth:`to_dict` gave, also by way of JSON."""
        rows = (Row(**{**row, "parts": tuple(row["parts"]), "shape": tuple(row["shape"])}) for row in data["rows"])
        remarks = (Remark(**remark) for remark in data["remarks"])
        return Report(tuple(rows), tuple(remarks), tuple(Pair(**pair) for pair in data.get("pairs", ())))


def work_by_result(graph: Graph) -> dict[str, int]:
    """Multiply-accumulates by the name of the value that they compute."""
    return {op.result.name: multiply_accumulates(op) for op in graph.ops}


def report_of(graph: Graph, notes: Notes, work: Mapping[str, int], pairs: tuple[Pair, ...]) -> Report:
    """The report of a fused graph, from the notes that its passes left.

    ``work`` and ``pairs`` are those of the graph before its channels were padded, so that only the model's own count.
    """
    remarks = tuple(Remark(note.pass_name, note.subject, note.message) for note in notes)
    return Report(tuple(_row(op, remarks, work) for op in graph.ops if op.kind != "reshape"), remarks, pairs)


def _row(op: Op, remarks: Iterable[Remark], work: Mapping[str, int]) -> Row:
    ops = op.body.ops if op.kind == "fused" else (op,)
    computed_in = precision(op)
    reason = ""
    if computed_in == "float32":
        reason = next((r.message for r in remarks if op.source and r.subject in (op.source, op.label())), _UNTOUCHED)
    return Row(
        op.source or op.result.name,
        tuple(part.kind for part in ops),
        op.result.type.shape,
        computed_in,
        reason,
        sum(work.get(part.result.name, 0) for part in ops),
    )


_UNTOUCHED = "float: it works on what float ops computed, or moves it"
