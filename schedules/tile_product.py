"""Matrix products by AMX's tiles: see :mod:`sqc.schedules.fully_connected` for those by vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.schedules.epilogue import Epilogue
from sqc.schedules.intrinsics import LANES, dot
from sqc.schedules.microkernel import pack_weights, round_up, schedule_output, stage_scope
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function

ROWS, COLUMNS, DEPTH = 16, 32, 64
"""Two tiles of 16 columns side by side; each instruction sums up 64 products."""


@dataclass(frozen=True)
class TileProduct:
    """``x[rows, :depth]`` u8 of ``stride`` times ``w[columns, depth]`` s8, plus bias, and an epilogue."""

    rows: int
    columns: int
    depth: int
    stride: int
    epilogue: Epilogue

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te
        from sqc.schedules.intrinsics.tdpbusd import register

        block = ROWS if self.rows <= ROWS else 2 * ROWS
        rows, vectors = round_up(self.rows, block), round_up(self.columns, COLUMNS) // LANES
        depth = round_up(self.depth, DEPTH)
        x = te.placeholder((self.rows, self.stride), "uint8", name="x")
        w = te.placeholder((vectors, depth // 4, LANES, 4), "int8", name="w")
        bias = te.placeholder((round_up(self.columns, LANES),), "int32", name="bias")
        parameters = te.placeholder((max(1, self.epilogue.parameter_count),), "int32", name="parameters")
        inputs = self.epilogue.inputs((self.rows, self.columns), target)

        def read(m: Expr, k: Expr) -> Expr:
            value = x(te.min(m, self.rows - 1) if rows > self.rows else m, k)
            return value if depth == self.depth else te.if_then_else(k < self.depth, value, te.const(0, "uint8"))

        staged = rows > self.rows or depth > self.depth
        source = te.compute((rows, depth), read, name="stage") if staged else x
        k, j = te.reduce_axis((0, depth // 4), "k"), te.reduce_axis((0, 4), "j")
        acc = te.compute(
            (rows, vectors, LANES),
            lambda m, n, o: te.sum(source(m, k * 4 + j).astype("int32") * w(n, k, o, j).astype("int32"), [k, j]),
            name="acc",
        )
        out = te.compute(
            (self.rows, self.columns),
            lambda m, n: inputs.apply(acc(m, n // LANES, n % LANES) + bias(n), (m, n), parameters),
            name="out",
        )
        func = function([x, *inputs.operands, w, bias, *inputs.constants, parameters, out])
        sch = Schedule(func)
        sums = sch.get_sblock("acc")
        m, n, o, k_loop, j_loop = sch.get_loops(sums)
        task, row = sch.split(m, [None, block])
        tile, vector = sch.split(n, [None, 2])
        sch.reorder(task, tile, row, vector, k_loop, j_loop, o)
        sch.reverse_compute_at(sch.get_sblock("out"), tile, preserve_unit_loops=True)
        sch.set_scope(sums, 0, "local")
        schedule_output(sch, 1, self.epilogue.lanes(COLUMNS, target))
        scope = "global"
        if staged:
            scope = stage_scope(block * depth)
            stage = sch.get_sblock("stage")
            sch.compute_at(stage, task, preserve_unit_loops=True)
            sch.set_scope(stage, 0, scope)
            _, lanes = sch.split(sch.get_loops(stage)[-1], [None, DEPTH])
            sch.vectorize(lanes)
        if sch.get(task).extent.value > 1:
            sch.parallel(task)
        start = sch.decompose_reduction(sums, row)
        sch.vectorize(sch.get_loops(start)[-1])
        if not target.emulated:
            sch.tensorize(row, register(block, depth, scope))
        return sch.mod["main"]

    def pack(self, w: np.ndarray, target: Target) -> list[np.ndarray]:
        """Weights ``[columns, depth]`` as ``[vectors][depth/4][16][4]``, filled up with zeros to whole tiles."""
        columns, depth = round_up(self.columns, COLUMNS), round_up(self.depth, DEPTH)
        full = np.pad(w, ((0, columns - self.columns), (0, depth - self.depth)))
        return [pack_weights(full, dot(target))]
