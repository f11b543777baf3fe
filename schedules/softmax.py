"""Softmax in float. Sums run over sixteen lanes, then over the lanes in order, whatever the target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.ir import Op
from sqc.schedules.axes import PARALLEL_ELEMENTS
from sqc.schedules.kernel import Kernel
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function

LANES = 16


@dataclass(frozen=True)
class Softmax:
    """Over the middle axis of ``x[outer, extent, inner]``."""

    outer: int
    extent: int
    inner: int

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te, tirx
        from sqc.schedules.functions import bind, constant, exp

        rows = -(-self.extent // LANES)
        whole = rows * LANES == self.extent
        x = te.placeholder((self.outer, self.extent, self.inner), "float32", name="x")

        def clamped(position: Expr) -> Expr:
            return position if whole else te.min(position, self.extent - 1)

        def fold(source: Expr, reduce: Expr, name: str) -> Expr:
            """Reduce ``source(row, position, column)`` over positions: in lanes, then over the lanes."""
            k, lane = te.reduce_axis((0, rows), "k"), te.reduce_axis((0, LANES), "l")
            lanes = te.compute(
                (self.outer, LANES, self.inner),
                lambda o, p, i: reduce(source(o, k * LANES + p, i), [k]),
                name=f"{name}_lanes",
            )
            return te.compute((self.outer, self.inner), lambda o, i: reduce(lanes(o, lane, i), [lane]), name=name)

        largest = fold(lambda o, p, i: x(o, clamped(p), i), te.max, "largest")

        def exponential(o: Expr, p: Expr, i: Expr) -> Expr:
            value = exp(x(o, clamped(p), i) - largest(o, i))
            if whole:
                return value
            # Bound outside of the condition, lest TVM drop the clamp in view of it.
            return bind(value, lambda t: tirx.Select(p < self.extent, t, constant(0.0)))

        powers = te.compute((self.outer, rows * LANES, self.inner), exponential, name="powers")
        total = fold(powers, te.sum, "total")
        out = te.compute(x.shape, lambda o, p, i: powers(o, p, i) / total(o, i), name="out")

        schedule = Schedule(function([x, out]))
        block = schedule.get_sblock("out")
        o, p, i = schedule.get_loops(block)
        width = max(w for w in range(1, LANES + 1) if self.inner % w == 0)
        column, lane = schedule.split(i, [None, width])
        schedule.reorder(o, column, p, lane)
        task = schedule.fuse(o, column)
        for name in ("total", "total_lanes", "powers", "largest", "largest_lanes"):
            stage = schedule.get_sblock(name)
            schedule.compute_at(stage, task)
            # Small enough for the stack.
            if name != "powers" or rows * LANES * width <= 1 << 13:
                schedule.set_scope(stage, 0, "local")
            loops = schedule.get_loops(stage)[1:]
            if name.endswith("_lanes"):
                *spatial, k = loops
                schedule.reorder(k, *spatial)
                loops = [k, *spatial]
            elif name != "powers":
                continue
            if width > 1:
                schedule.vectorize(loops[-1])
            else:
                *_, vector = schedule.split(loops[-1], [None, LANES])
                schedule.vectorize(vector)
        if width > 1:
            schedule.vectorize(lane)
        elif self.inner == 1 and (divisor := math.gcd(self.extent, LANES)) > 1:
            schedule.vectorize(schedule.split(p, [None, divisor])[1])
        if self.outer * self.extent * self.inner >= PARALLEL_ELEMENTS // 8 and schedule.get(task).extent.value > 1:
            schedule.parallel(task)
        return schedule.mod["main"]


def lower_softmax(op: Op, target: Target) -> Kernel:
    """A kernel for ``softmax``."""
    shape = op.result.type.shape
    axis = op.integer("axis") % len(shape)
    problem = Softmax(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    return Kernel(problem, target, op.operands, op.result, lambda constants: [])
