"""Matrix products with weights of four bits, two in a byte, which are taken apart in registers.

Half the bytes have to come from memory, which is what layers of few rows and many weights wait for. Sums are the same
integers as with weights in bytes.

Measured on Zen 4, against weights in bytes: one row 1.5 times as quick from the second cache, 1.6 to 1.7 times from the
third, 1.7 to 1.8 times from memory; four rows 1.9 times from memory; from 32 rows on 0.90 to 0.98 times. By AVX2, for
which no sum of two products saturates 16 bits, 1.3 to 1.5 times for any number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.schedules.epilogue import Epilogue
from sqc.schedules.intrinsics import LANES, packed_dot
from sqc.schedules.microkernel import Tile, pack_weights, round_up, stage_scope
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function

LEAST, MOST = -8, 7
"""What four bits hold."""


@dataclass(frozen=True)
class PackedProduct:
    """The first ``depth`` of ``x[rows, stride]`` u8 times ``w[columns, depth]`` -8..7, plus bias, and an epilogue."""

    rows: int
    columns: int
    depth: int
    stride: int
    epilogue: Epilogue

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import product_tiles

        return product_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, start_sums, te
        from sqc.schedules.microkernel import schedule_tiles

        product = packed_dot(target)
        tile = tile or self.tiles(target)[0]
        rows, columns = round_up(self.rows, tile.block), round_up(self.columns, tile.parts * tile.columns)
        depth, half = round_up(self.depth, product.depth), product.depth // 2
        x = te.placeholder((self.rows, self.stride), "uint8", name="x")
        w = te.placeholder((columns // LANES, depth // product.depth, LANES, half), "uint8", name="w")
        bias = te.placeholder((columns,), "int32", name="bias")
        parameters = te.placeholder((max(1, self.epilogue.parameter_count),), "int32", name="parameters")
        inputs = self.epilogue.inputs((self.rows, self.columns), target)

        def read(m: Expr, k: Expr) -> Expr:
            value = x(te.min(m, self.rows - 1) if rows > self.rows else m, k)
            return value if depth == self.depth else te.if_then_else(k < self.depth, value, te.const(0, "uint8"))

        staged = depth != self.depth
        source = te.compute((rows, depth), read, name="stage") if staged else read
        k, h, j = (
            te.reduce_axis((0, extent), name) for extent, name in ((depth // product.depth, "k"), (2, "h"), (half, "j"))
        )
        acc = te.compute(
            (rows, columns),
            lambda m, n: te.sum(
                source(m, k * product.depth + h * half + j).astype("int32")
                * (((w(n // LANES, k, n % LANES, j).astype("int32") >> (h * 4)) & 15) + LEAST),
                [k, h, j],
            ),
            name="acc",
        )
        out = te.compute(
            (self.rows, self.columns), lambda m, n: inputs.apply(acc(m, n), (m, n), parameters), name="out"
        )
        func = function([x, *inputs.operands, w, bias, *inputs.constants, parameters, out])
        sch = Schedule(start_sums(func, "acc", "bias"))
        scope = stage_scope(tile.block * depth) if staged else None
        return schedule_tiles(sch, tile, product, scope, self.epilogue.lanes(tile.columns, target))

    def pack(self, w: np.ndarray, target: Target) -> list[np.ndarray]:
        """Weights ``[columns, depth]`` as bytes ``[columns / 16][depth / 8][16][4]``; see ``register_packed_dot``."""
        product = packed_dot(target)
        first, second = np.split((pack_weights(w, product) - LEAST).astype(np.uint8), 2, axis=-1)
        return [first | second << 4]


def fits_packed(w: np.ndarray) -> bool:
    """Whether four bits hold all of these weights."""
    return bool(w.min(initial=0) >= LEAST and w.max(initial=0) <= MOST)
