"""Softmax in float. Long sums run in sixteen lanes, then over the lanes in order, whatever the target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.ir import Op
from sqc.schedules.axes import PARALLEL_CYCLES, vector_width
from sqc.schedules.kernel import Kernel
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Schedule

LANES = 16


@dataclass(frozen=True)
class Softmax:
    """Over the middle axis of ``x[outer, extent, inner]``."""

    outer: int
    extent: int
    inner: int

    @property
    def in_lanes(self) -> bool:
        """Whether the axis is so long that it is reduced in lanes; a short one is reduced in order."""
        return self.extent > LANES

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te
        from sqc.schedules.functions import constant, exp

        rows = -(-self.extent // LANES) if self.in_lanes else 1
        padded = rows * LANES if self.in_lanes else self.extent
        x = te.placeholder((self.outer, self.extent, self.inner), "float32", name="x")

        def fold(source: Expr, reduce: Expr, name: str) -> Expr:
            """Reduce ``source(row, position, column)`` over positions, or first over lanes if there are many."""
            steps = te.reduce_axis((0, LANES if self.in_lanes else self.extent), "l")
            if self.in_lanes:
                k, whole = te.reduce_axis((0, rows), "k"), source
                source = te.compute(
                    (self.outer, LANES, self.inner),
                    lambda o, p, i: reduce(whole(o, k * LANES + p, i), [k]),
                    name=f"{name}_lanes",
                )
            return te.compute((self.outer, self.inner), lambda o, i: reduce(source(o, steps, i), [steps]), name=name)

        row = x
        if padded > self.extent:
            # Minus infinity is never the maximum, and its power is 0.
            row = te.compute(
                (self.outer, padded, self.inner),
                lambda o, p, i: te.if_then_else(p < self.extent, x(o, p, i), constant(-math.inf)),
                name="row",
            )
        largest = fold(row, te.max, "largest")
        powers = te.compute(
            (self.outer, padded, self.inner), lambda o, p, i: exp(row(o, p, i) - largest(o, i)), name="powers"
        )
        total = fold(powers, te.sum, "total")
        out = te.compute(x.shape, lambda o, p, i: powers(o, p, i) / total(o, i), name="out")
        schedule = Schedule(function([x, out]))
        return self._schedule(schedule, padded)

    def _schedule(self, schedule: Schedule, padded: int) -> Function:
        """Vectors run over columns, if there are several, else over positions, or over rows if these are short."""
        from sqc.schedules._tvm import loops_from_zero

        o, p, i = schedule.get_loops(schedule.get_sblock("out"))
        axis = 2 if self.inner > 1 else 1 if self.in_lanes else 0
        outer, lane = schedule.split((o, p, i)[axis], [None, vector_width((self.outer, self.extent, self.inner)[axis])])
        if axis == 2:
            schedule.reorder(o, outer, p, lane)
            task = schedule.fuse(o, outer)
        elif axis == 0:
            schedule.reorder(outer, p, i, lane)
            task = outer
        else:
            task = o
        schedule.vectorize(lane)
        width = schedule.get(lane).extent.value if axis != 1 else 1
        stages = ["total", "total_lanes", "powers", "largest", "largest_lanes"]
        if not self.in_lanes:
            stages = ["total", "powers", "largest"]
        elif padded > self.extent:
            stages.append("row")
        for name in stages:
            block = schedule.get_sblock(name)
            schedule.compute_at(block, task, preserve_unit_loops=True)
            # Small enough for the stack.
            if padded * width <= 1 << 13:
                schedule.set_scope(block, 0, "local")
            loops = schedule.get_loops(block)[1:]
            spatial, reduction = (loops, []) if name in ("row", "powers") else (loops[:-1], loops[-1:])
            if axis == 1 and (len(spatial) < 3 or name == "row"):
                continue
            vector = spatial[min(axis, len(spatial) - 1)]
            others = [loop for loop in spatial if loop is not vector]
            schedule.reorder(*reduction, *others, vector)
            if axis == 1:
                vector = schedule.split(vector, [None, LANES])[1]
            schedule.vectorize(vector)
        if 3 * self.outer * self.extent * self.inner >= PARALLEL_CYCLES and schedule.get(task).extent.value > 1:
            schedule.parallel(task)
        if axis == 1 and "row" in stages:
            # Whole vectors apart from the end.
            position = schedule.get_loops(schedule.get_sblock("row"))[2]
            name = schedule.get(position).loop_var.name
            schedule.loop_partition(position, [padded - LANES, None])
            schedule = loops_from_zero(schedule)
            whole = schedule.get_loops(schedule.get_sblock(f"row_{name}0"))[-2]
            schedule.vectorize(schedule.split(whole, [None, LANES])[1])
        return schedule.mod["main"]


def lower_softmax(op: Op, target: Target) -> Kernel:
    """A kernel for ``softmax``."""
    shape = op.result.type.shape
    axis = op.integer("axis") % len(shape)
    problem = Softmax(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    return Kernel(problem, target, op.operands, op.result, lambda constants: [])
