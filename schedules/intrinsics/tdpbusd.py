"""AMX: ``tdpbusd`` on tiles of 16 rows of u8 and 16 columns of s8, 64 products deep."""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import Expr, T, register_intrinsic

ROWS, DEPTH = 16, 64
"""Of one tile: rows, and what one instruction sums up."""

_LOAD, _STORE, _MULTIPLY = "llvm.x86.tileloadd64", "llvm.x86.tilestored64", "llvm.x86.tdpbusd"


def _move(instruction: str, tile: Expr, start: Expr, row_bytes: Expr) -> Expr:
    """Load or store a tile, of which rows lie ``row_bytes`` apart."""
    return T.evaluate(T.call_llvm_intrin("void", instruction, T.Cast("int8", tile), start, row_bytes))


@cache
def register(height: int, depth: int, scope: str) -> str:
    """Register the product of u8 activations ``[height, depth]`` in ``scope`` with s8 weights ``[2][depth/4][16][4]``.

    It is added to s32 sums ``[height, 2, 16]``. With a ``height`` of 16 or 32, sums (tiles 0 to 3), activations (4, 5)
    and weights (6, 7) fit into the eight tiles; ``depth`` is a multiple of 64. Returns the intrinsic's name.
    """
    rows, columns, steps = height // ROWS, 2, depth // 4

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (height, depth), "uint8", offset_factor=1, strides=[T.int32(), 1], scope=scope)
        B = T.match_buffer(b, (columns, steps, 16, 4), "int8", offset_factor=1)
        C = T.match_buffer(c, (height, columns, 16), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:height, 0:columns, 0:16], A[0:height, 0:depth], B[0:columns, 0:steps, 0:16, 0:4])
            T.writes(C[0:height, 0:columns, 0:16])
            for i, n, k, j, o in T.grid(height, columns, steps, 4, 16):
                with T.sblock("update"):
                    vi, vn, vo, vk, vj = T.axis.remap("SSSRR", [i, n, o, k, j])
                    C[vi, vn, vo] = C[vi, vn, vo] + T.Cast("int32", A[vi, vk * 4 + vj]) * T.Cast(
                        "int32", B[vn, vk, vo, vj]
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        stride = T.int32()
        A = T.match_buffer(a, (height, depth), "uint8", offset_factor=1, strides=[stride, 1], scope=scope)
        B = T.match_buffer(b, (columns, steps, 16, 4), "int8", offset_factor=1)
        C = T.match_buffer(c, (height, columns, 16), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:height, 0:columns, 0:16], A[0:height, 0:depth], B[0:columns, 0:steps, 0:16, 0:4])
            T.writes(C[0:height, 0:columns, 0:16])
            shape = T.alloc_buffer((64,), "uint8", scope="local")
            for i in T.unroll(64):
                # Palette 1; then for each tile 64 bytes a row, as 16 bits; at 48, for each tile 16 rows.
                shape[i] = T.if_then_else(
                    i == 0,
                    T.uint8(1),
                    T.if_then_else(
                        i >= 48 and i < 56,
                        T.uint8(16),
                        T.if_then_else(i >= 16 and i < 32 and i % 2 == 0, T.uint8(64), T.uint8(0)),
                    ),
                )
            T.evaluate(T.call_llvm_intrin("void", "llvm.x86.ldtilecfg", T.address_of(shape[0])))
            for r in T.unroll(rows):
                for n in T.unroll(columns):
                    _move(_LOAD, r * 2 + n, T.address_of(C[r * 16, n, 0]), T.int64(columns * 64))
            for k in range(steps // 16):
                for r in T.unroll(rows):
                    _move(_LOAD, 4 + r, T.address_of(A[r * 16, k * 64]), T.Cast("int64", stride))
                for n in T.unroll(columns):
                    _move(_LOAD, 6 + n, T.address_of(B[n, k * 16, 0, 0]), T.int64(64))
                for r in T.unroll(rows):
                    for n in T.unroll(columns):
                        T.evaluate(
                            T.call_llvm_intrin(
                                "void",
                                _MULTIPLY,
                                T.Cast("int8", r * 2 + n),
                                T.Cast("int8", 4 + r),
                                T.Cast("int8", 6 + n),
                            )
                        )
            for r in T.unroll(rows):
                for n in T.unroll(columns):
                    _move(_STORE, r * 2 + n, T.address_of(C[r * 16, n, 0]), T.int64(columns * 64))
            T.evaluate(T.call_llvm_intrin("void", "llvm.x86.tilerelease"))

    return register_intrinsic(f"sqc.tiles.{height}.{depth}.{scope}", description, implementation)
