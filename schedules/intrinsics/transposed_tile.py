"""Tiles of bytes whose rows become columns: rows are interleaved with those half of them below, again and again."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqc.ops.movement import TILE
from sqc.schedules._tvm import T, register_intrinsic, tirx


@cache
def register_transposed_tile(dtype: str, rows: int, columns: int) -> str:
    """Register ``y[j, 0, i] = x[i, 0, j]`` for tiles of a one-byte ``dtype``; returns its name.

    ``rows`` and ``columns`` are powers of two, one of them sixteen. Where there are fewer columns the rows of ``x`` lie
    one behind the other; where there are fewer rows, those of ``y``.
    """
    count = rows * columns // TILE
    half, stages = count // 2, rows.bit_length() - 1
    vector = f"{dtype}x{TILE}"

    def interleaved(parts: Any, stage: Any, i: Any, first: int) -> Any:
        """The bytes of two vectors, half of all apart, in turns, from the byte ``first`` on."""
        order = [tirx.const(first + byte // 2 + byte % 2 * TILE, "int32") for byte in range(TILE)]
        return tirx.Shuffle([parts.vload([stage, i, 0], vector), parts.vload([stage, i + half, 0], vector)], order)

    @T.prim_func(s_tir=True)
    def description(x: T.handle, y: T.handle) -> None:
        X = T.match_buffer(x, (rows, 1, columns), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        Y = T.match_buffer(y, (columns, 1, rows), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        with T.sblock("root"):
            T.reads(X[0:rows, 0:1, 0:columns])
            T.writes(Y[0:columns, 0:1, 0:rows])
            for j, i in T.grid(columns, rows):
                with T.sblock("move"):
                    vj, vi = T.axis.remap("SS", [j, i])
                    Y[vj, 0, vi] = X[vi, 0, vj]

    @T.prim_func(s_tir=True)
    def implementation(x: T.handle, y: T.handle) -> None:
        X = T.match_buffer(x, (rows, 1, columns), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        Y = T.match_buffer(y, (columns, 1, rows), dtype, offset_factor=1, strides=[T.int32(), T.int32(), 1])
        with T.sblock("root"):
            T.reads(X[0:rows, 0:1, 0:columns])
            T.writes(Y[0:columns, 0:1, 0:rows])
            parts = T.alloc_buffer((stages + 1, count, TILE), dtype, scope="local")
            for i in T.unroll(count):
                parts[0, i, T.ramp(0, 1, TILE)] = X.vload([i * (TILE // columns), 0, 0], vector)
            for stage in T.unroll(stages):
                for i in T.unroll(half):
                    parts[stage + 1, 2 * i, T.ramp(0, 1, TILE)] = interleaved(parts, stage, i, 0)
                    parts[stage + 1, 2 * i + 1, T.ramp(0, 1, TILE)] = interleaved(parts, stage, i, TILE // 2)
            for i in T.unroll(count):
                Y[i * (TILE // rows), 0, T.ramp(0, 1, TILE)] = parts.vload([stages, i, 0], vector)

    return register_intrinsic(f"sqc.transposed_tile.{dtype}.{rows}.{columns}", description, implementation)
