"""Sixteen rows of sixteen bytes as sixteen columns: four times interleaving each row with the one eight rows below."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqc.schedules._tvm import T, register_intrinsic, tirx

TILE = 16
"""Rows and columns of a tile."""

_HALF = TILE // 2
_STAGES = 4
"""Rows double in what they interleave each time, until they hold whole columns."""


@cache
def register_transposed_tile(dtype: str) -> str:
    """Register ``y[j, 0, i] = x[i, 0, j]`` for tiles of a one-byte ``dtype``; returns its name."""
    row = f"{dtype}x{TILE}"

    def interleaved(rows: Any, stage: Any, i: Any, first: int) -> Any:
        """The bytes of rows ``i`` and ``i + 8`` in turns, from the byte ``first`` on."""
        order = [tirx.const(first + byte // 2 + byte % 2 * TILE, "int32") for byte in range(TILE)]
        return tirx.Shuffle([rows.vload([stage, i, 0], row), rows.vload([stage, i + _HALF, 0], row)], order)

    @T.prim_func(s_tir=True)
    def description(x: T.handle, y: T.handle) -> None:
        X = T.match_buffer(x, (TILE, 1, TILE), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        Y = T.match_buffer(y, (TILE, 1, TILE), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        with T.sblock("root"):
            T.reads(X[0:TILE, 0:1, 0:TILE])
            T.writes(Y[0:TILE, 0:1, 0:TILE])
            for j, i in T.grid(TILE, TILE):
                with T.sblock("move"):
                    vj, vi = T.axis.remap("SS", [j, i])
                    Y[vj, 0, vi] = X[vi, 0, vj]

    @T.prim_func(s_tir=True)
    def implementation(x: T.handle, y: T.handle) -> None:
        X = T.match_buffer(x, (TILE, 1, TILE), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        Y = T.match_buffer(y, (TILE, 1, TILE), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        with T.sblock("root"):
            T.reads(X[0:TILE, 0:1, 0:TILE])
            T.writes(Y[0:TILE, 0:1, 0:TILE])
            rows = T.alloc_buffer((_STAGES + 1, TILE, TILE), dtype, scope="local")
            for i in T.unroll(TILE):
                rows[0, i, T.ramp(0, 1, TILE)] = X.vload([i, 0, 0], row)
            for stage in T.unroll(_STAGES):
                for i in T.unroll(_HALF):
                    rows[stage + 1, 2 * i, T.ramp(0, 1, TILE)] = interleaved(rows, stage, i, 0)
                    rows[stage + 1, 2 * i + 1, T.ramp(0, 1, TILE)] = interleaved(rows, stage, i, _HALF)
            for j in T.unroll(TILE):
                Y[j, 0, T.ramp(0, 1, TILE)] = rows.vload([_STAGES, j, 0], row)

    return register_intrinsic(f"sqc.transposed_tile.{dtype}", description, implementation)
