"""Scale and zero point of rows, found at run time: extremes in sixteen lanes, then over the lanes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.ir import Op
from sqc.schedules.axes import PARALLEL_CYCLES
from sqc.schedules.intrinsics import LANES
from sqc.schedules.kernel import Kernel
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Tensor


@dataclass(frozen=True)
class RowParameters:
    """Pairs of scale and zero point for ``x[rows, extent]``."""

    rows: int
    extent: int

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te, tirx
        from sqc.schedules.functions import bind, constant

        x = te.placeholder((self.rows, self.extent), "float32", name="x")
        steps = -(-self.extent // LANES)
        least = te.comm_reducer(lambda a, b: tirx.Select(b < a, b, a), lambda _: constant(0.0))
        most = te.comm_reducer(lambda a, b: tirx.Select(b > a, b, a), lambda _: constant(0.0))

        def element(row: Expr, i: Expr) -> Expr:
            whole = self.extent % LANES == 0
            return x(row, i) if whole else te.if_then_else(i < self.extent, x(row, i), constant(0.0))

        def extreme(reducer: Expr, name: str) -> Tensor:
            k, lane = te.reduce_axis((0, steps), "k"), te.reduce_axis((0, LANES), "lane")
            lanes = te.compute(
                (self.rows, LANES), lambda r, j: reducer(element(r, k * LANES + j), axis=[k]), name=f"{name}_lanes"
            )
            return te.compute((self.rows,), lambda r: reducer(lanes(r, lane), axis=[lane]), name=name)

        low, high = extreme(least, "low"), extreme(most, "high")

        def pair(row: Expr, i: Expr) -> Expr:
            span = tirx.Select(high(row).equal(low(row)), constant(1.0), high(row) - low(row))

            def of_scale(scale: Expr) -> Expr:
                t = constant(0.0) - low(row) / scale
                return tirx.Select(i.equal(0), scale, te.round(te.min(te.max(t, constant(0.0)), constant(255.0))))

            return bind(span / constant(255.0), of_scale)

        out = te.compute((self.rows, 2), pair, name="out")
        sch = Schedule(function([x, out]))
        row, _ = sch.get_loops(sch.get_sblock("out"))
        for name in ("low", "high", "low_lanes", "high_lanes"):
            sch.compute_at(sch.get_sblock(name), row, preserve_unit_loops=True)
            sch.set_scope(sch.get_sblock(name), 0, "local")
        if 0.3 * self.rows * self.extent >= PARALLEL_CYCLES and self.rows > 1:
            sch.parallel(row)
        for name in ("low_lanes", "high_lanes"):
            block = sch.get_sblock(name)
            *_, lane, k = sch.get_loops(block)
            sch.reorder(k, lane)
            sch.vectorize(lane)
            sch.decompose_reduction(block, k)
        return sch.mod["main"]


def lower_dynamic_parameters(op: Op, target: Target) -> Kernel:
    """A kernel for ``dynamic_parameters``."""
    shape = op.operands[0].type.shape
    extent = shape[-1] if op.attributes["per_row"] else math.prod(shape)
    return Kernel(RowParameters(math.prod(shape) // extent, extent), target, op.operands, op.result, lambda _: [])
