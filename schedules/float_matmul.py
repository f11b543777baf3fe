"""Products of two computed operands in float, each a sum of rounded products in order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.ir import Op
from sqc.ops.products import permutations, product_shapes
from sqc.schedules.axes import PARALLEL_CYCLES
from sqc.schedules.intrinsics import LANES
from sqc.schedules.kernel import Kernel
from sqc.schedules.microkernel import round_up, vector_lanes
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FloatProduct:
    """What ``matmul`` computes of ``a`` and ``b``, their axes permuted."""

    a: Shape
    b: Shape
    perm_a: Shape
    perm_b: Shape
    perm_y: Shape

    @property
    def shape(self) -> Shape:
        """The shape of the product before its axes are permuted."""
        return product_shapes(self.a, self.b, {"perm_a": self.perm_a, "perm_b": self.perm_b})[2]

    def tile(self, target: Target) -> tuple[int, int]:
        """Rows and vectors of columns that are accumulated in registers at a time."""
        accumulators = target.registers * target.vector_bytes // (4 * LANES) * 3 // 4
        vectors = 2 if self.shape[-1] > LANES and accumulators >= 16 else 1
        return min(self.shape[-2], accumulators // vectors), vectors

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, fence, function, te
        from sqc.schedules.microkernel import schedule_output
        from sqc.schedules.views import View, transpose

        *lead, m, n = self.shape
        depth = self.a[self.perm_a[-1]]
        tile_rows, vectors = self.tile(target)
        rows, columns = round_up(m, tile_rows), round_up(n, vectors * LANES)
        a, b = (te.placeholder(shape, "float32", name=name) for shape, name in ((self.a, "a"), (self.b, "b")))
        matrices = transpose(View.of(a, self.a, "float32"), self.perm_a).broadcast((*lead, m, depth))
        others = transpose(View.of(b, self.b, "float32"), self.perm_b).broadcast((*lead, depth, n))

        def packed(*at: Expr) -> Expr:
            *batch, part, k, lane = at
            column = part * LANES + lane
            value = others((*batch, k, column))
            return value if n == columns else te.if_then_else(column < n, value, te.const(0, "float32"))

        pack = te.compute((*lead, columns // LANES, depth, LANES), packed, name="pack")
        k = te.reduce_axis((0, depth), "k")

        def element(*at: Expr) -> Expr:
            *batch, i, j = at
            row = te.min(i, m - 1) if rows > m else i
            return te.sum(fence(matrices((*batch, row, k)) * pack(*batch, j // LANES, k, j % LANES)), [k])

        acc = te.compute((*lead, rows, columns), element, name="acc")
        back = [self.perm_y.index(axis) for axis in range(len(self.perm_y))]
        y = tuple(self.shape[axis] for axis in self.perm_y)
        out = te.compute(y, lambda *at: acc(*(at[position] for position in back)), name="out")
        sch = Schedule(function([a, b, out]))
        block = sch.get_sblock("acc")
        *outer, i, j, k = sch.get_loops(block)
        row_tile, row = sch.split(i, [None, tile_rows])
        column_tile, vector, lane = sch.split(j, [None, vectors, LANES])
        sch.reorder(*outer, column_tile, row_tile, k, row, vector, lane)
        task = sch.fuse(*outer, column_tile)
        sch.reverse_compute_at(sch.get_sblock("out"), row_tile, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        schedule_output(sch, len(y) - self.perm_y.index(len(y) - 2), vector_lanes(n, LANES))
        pack_block = sch.get_sblock("pack")
        sch.compute_at(pack_block, task, preserve_unit_loops=True)
        if math.prod(self.shape) * depth / 8 >= PARALLEL_CYCLES and sch.get(task).extent.value > 1:
            sch.parallel(task)
        sch.vectorize(sch.get_loops(pack_block)[-1])
        for loop in (row, vector):
            sch.unroll(loop)
        sch.vectorize(lane)
        *_, init_row, init_vector, init_lane = sch.get_loops(sch.decompose_reduction(block, k))
        for loop in (init_row, init_vector):
            sch.unroll(loop)
        sch.vectorize(init_lane)
        return sch.mod["main"]


def lower_float_product(op: Op, target: Target) -> Kernel:
    """A kernel for ``matmul``."""
    a, b = op.operands
    problem = FloatProduct(a.type.shape, b.type.shape, *permutations(op))
    return Kernel(problem, target, op.operands, op.result, lambda constants: [])
