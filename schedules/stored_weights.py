"""Float layers whose weights are stored in fewer bits and restored in registers, once for all rows of a tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Value
from sqc.schedules.axes import PARALLEL_CYCLES
from sqc.schedules.intrinsics import LANES
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.microkernel import pack_bias, round_up, vector_lanes
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function


@dataclass(frozen=True)
class StoredProduct:
    """``x[rows, depth] @ w[columns, depth].T``, in which ``groups`` equal runs of a row of w have a scale each."""

    rows: int
    columns: int
    depth: int
    groups: int
    storage: str
    bias: bool

    def tile(self, target: Target) -> tuple[int, int]:
        """Rows and vectors of columns that are accumulated in registers at a time."""
        accumulators = target.registers * target.vector_bytes // (4 * LANES) // 2
        rows = min(self.rows, max(1, accumulators // 2))
        return rows, max(1, min(accumulators // rows, 4, -(-self.columns // LANES)))

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, fence, function, te
        from sqc.schedules.microkernel import schedule_output, schedule_start

        tile_rows, vectors = self.tile(target)
        rows, columns = round_up(self.rows, tile_rows), round_up(self.columns, vectors * LANES)
        halves = 2 if self.storage == "int4" else 1
        steps = self.depth // self.groups // halves
        dtype = "uint8" if self.storage == "int4" else self.storage
        vectors_stored = -(-self.columns // LANES)
        x = te.placeholder((self.rows, self.depth), "float32", name="x")
        w = te.placeholder((vectors_stored, self.depth // halves, LANES), dtype, name="w")
        scales = te.placeholder((vectors_stored, self.groups, LANES), "float32", name="scales")
        bias = te.placeholder((vectors_stored * LANES,), "float32", name="bias")
        scaled = self.storage != "float16"

        def restored(n: Expr, g: Expr, k: Expr, half: Expr) -> Expr:
            part = te.min(n // LANES, vectors_stored - 1)
            stored = w(part, g * steps + k, n % LANES)
            if self.storage == "int4":
                stored = ((stored >> (4 * half).astype("uint8")) & te.const(15, "uint8")).astype("int32") - 8
            real = stored.astype("float32")
            return fence(real * scales(part, g, n % LANES)) if scaled else real

        g, k, h = (
            te.reduce_axis((0, extent), name) for extent, name in ((self.groups, "g"), (steps, "k"), (halves, "h"))
        )

        def element(m: Expr, n: Expr) -> Expr:
            row = te.min(m, self.rows - 1) if rows > self.rows else m
            return te.sum(fence(x(row, (g * steps + k) * halves + h) * restored(n, g, k, h)), [g, k, h])

        acc = te.compute((rows, columns), element, name="acc")
        out = te.compute(
            (self.rows, self.columns), lambda m, n: acc(m, n) + bias(n) if self.bias else acc(m, n), name="out"
        )
        arguments = [x, w, *([scales] if scaled else []), *([bias] if self.bias else []), out]
        sch = Schedule(function(arguments))
        block = sch.get_sblock("acc")
        i, j, g, k, h = sch.get_loops(block)
        row_tile, row = sch.split(i, [None, tile_rows])
        task, vector, lane = sch.split(j, [None, vectors, LANES])
        sch.reorder(task, row_tile, g, k, h, row, vector, lane)
        sch.reverse_compute_at(sch.get_sblock("out"), row_tile, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        schedule_output(sch, 2, vector_lanes(self.columns, LANES))
        if self.rows * self.columns * self.depth / 8 >= PARALLEL_CYCLES and sch.get(task).extent.value > 1:
            sch.parallel(task)
        for loop in (h, row, vector):
            sch.unroll(loop)
        sch.vectorize(lane)
        schedule_start(sch, sch.decompose_reduction(block, g), 3)
        return sch.mod["main"]


def lower_stored_product(pattern: Pattern, target: Target) -> Kernel:
    """A kernel for ``restore_weights`` and the ``fully_connected`` behind it."""
    (layer,) = pattern.tail
    storage = pattern.anchor.string("storage")
    stored, *scales = (pattern.operand[value] for value in pattern.anchor.operands)
    x, *bias = (pattern.operand[value] for value in layer.operands if value in pattern.operand)
    rows, depth = x.type.shape
    columns = layer.result.type.shape[1]
    groups = scales[0].type.shape[1] if scales else 1
    problem = StoredProduct(rows, columns, depth, groups, storage, bool(bias))

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        arrays = [_by_vectors(constants[value]) for value in (stored, *scales)]
        return [*arrays, *(pack_bias(constants[value]) for value in bias)]

    return Kernel(problem, target, (x,), pattern.result, pack)


def _by_vectors(array: np.ndarray) -> np.ndarray:
    """``[N, K]`` as ``[N / 16][K][16]``, filled up with zeros."""
    padded = np.pad(array, ((0, -len(array) % LANES), (0, 0)))
    return np.ascontiguousarray(padded.reshape(-1, LANES, array.shape[1]).transpose(0, 2, 1))
