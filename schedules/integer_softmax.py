"""Softmax of levels: exponentials of distances to the largest level come from a table, their sums are integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.schedules.axes import PARALLEL_CYCLES, vector_width
from sqc.schedules.kernel import Kernel
from sqc.schedules.levels import level_limits, to_levels
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function

CYCLES = 6
"""About what one element takes."""


@dataclass(frozen=True)
class IntegerSoftmax:
    """Over the middle axis of ``x[outer, extent, inner]``."""

    outer: int
    extent: int
    inner: int

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te

        x = te.placeholder((self.outer, self.extent, self.inner), "uint8", name="x")
        table = te.placeholder((256,), "int32", name="table")
        integers = te.placeholder((3,), "int32", name="integers")
        scales = te.placeholder((1,), "float32", name="scales")
        k = te.reduce_axis((0, self.extent), "k")
        largest = te.compute((self.outer, self.inner), lambda o, i: te.max(x(o, k, i), [k]), name="largest")
        powers = te.compute(x.shape, lambda o, p, i: table((largest(o, i) - x(o, p, i)).astype("int32")), name="powers")
        # Each power is at most 2**23.
        sums = "int32" if self.extent < 256 else "int64"
        j = te.reduce_axis((0, self.extent), "j")
        total = te.compute(
            (self.outer, self.inner), lambda o, i: te.sum(powers(o, j, i).astype(sums), [j]), name="total"
        )

        def element(o: object, p: object, i: object) -> object:
            return to_levels(powers(o, p, i).astype("float32") / total(o, i).astype("float32") / scales(0), integers)

        out = te.compute(x.shape, element, name="out")
        schedule = Schedule(function([x, table, integers, scales, out]))
        task, position, column = schedule.get_loops(schedule.get_sblock("out"))
        along_columns = self.inner > 1
        width = vector_width(self.inner if along_columns else self.extent)
        for name in ("total", "powers", "largest"):
            block = schedule.get_sblock(name)
            schedule.compute_at(block, task, preserve_unit_loops=True)
            if self.extent * self.inner <= 1 << 13:  # small enough for the stack
                schedule.set_scope(block, 0, "local")
            if along_columns and name != "powers":
                _, columns, reduced = schedule.get_loops(block)[1:]
                _, lane = schedule.split(columns, [None, width])
                schedule.reorder(reduced, lane)
                schedule.vectorize(lane)
        schedule.vectorize(schedule.split(column if along_columns else position, [None, width])[1])
        if CYCLES * self.outer * self.extent * self.inner >= PARALLEL_CYCLES and self.outer > 1:
            schedule.parallel(task)
        return schedule.mod["main"]


def lower_integer_softmax(op: Op, target: Target) -> Kernel:
    """A kernel for ``qsoftmax``. Raises CompileError for an empty array."""
    x, table = op.operands
    shape = x.type.shape
    if not x.type.size:
        raise CompileError(f"{op.label()} works on an empty array; no kernel computes nothing")
    axis = op.integer("axis") % len(shape)
    problem = IntegerSoftmax(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        return [np.ascontiguousarray(constants[table]), level_limits(op), np.array([op.number("scale")], np.float32)]

    return Kernel(problem, target, (x,), op.result, pack)
