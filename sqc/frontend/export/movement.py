"""Ops that move elements."""

from __future__ import annotations

import numpy as np

from sqc.frontend.export.writer import Write, Writer
from sqc.ir import Op


def _integers(export: Writer, op: Op, name: str) -> str:
    return export.array(np.array(op.integers(name), np.int64), f"{op.result.name}.{name}")


def _reshape(export: Writer, op: Op) -> None:
    export.node("Reshape", op, _integers(export, op, "shape"))


def _slice(export: Writer, op: Op) -> None:
    export.node("Slice", op, *(_integers(export, op, name) for name in ("starts", "ends", "axes", "steps")))


def _pad(export: Writer, op: Op) -> None:
    dtype = op.operands[0].type.dtype
    value = export.array(np.array(op.number("value"), dtype), f"{op.result.name}.value")
    export.node("Pad", op, _integers(export, op, "pads"), value)


WRITERS: dict[str, Write] = {
    "reshape": _reshape,
    "slice": _slice,
    "pad": _pad,
    "transpose": lambda export, op: export.node("Transpose", op, perm=op.integers("perm")),
    "gather": lambda export, op: export.node("Gather", op, axis=op.integer("axis")),
    "concat": lambda export, op: export.node("Concat", op, axis=op.integer("axis")),
}
