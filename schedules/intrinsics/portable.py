"""The dot product of AVX-512 VNNI in plain vector code, which LLVM legalizes for any processor: for tests."""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import Expr, T, register_intrinsic
from sqc.schedules.intrinsics import frames
from sqc.schedules.intrinsics.frames import describe_column, register_dot, register_packed_dot


@cache
def register(scope: str, lanes: int, packed: bool = False) -> str:
    """Register the dot product of four u8 activations in ``scope`` with s8 weights ``[16][4]``; returns its name.

    With ``packed`` it is that of eight activations with weights of four bits.
    """
    assert lanes == 16
    if packed:
        return register_packed_dot("portable", scope, lanes, _total)
    return register_dot("portable", scope, lanes, 4, "uint8", _total)


def _total(sums: Expr, activations: Expr, weights: Expr) -> Expr:
    x, w = (T.reinterpret("int32x16", bytes) for bytes in (activations, weights))
    for k in range(4):
        # Byte k of each group of 32 bits: without a sign by a mask, with one by two shifts.
        activation = T.bitwise_and(T.shift_right(x, T.broadcast(8 * k, 16)), T.broadcast(255, 16))
        weight = T.shift_right(T.shift_left(w, T.broadcast(24 - 8 * k, 16)), T.broadcast(24, 16))
        sums = sums + activation * weight
    return sums


@cache
def register_column(height: int, step: int, scope: str, lanes: int) -> str:
    """Register a column of a depthwise convolution, with weights as for AVX-512 VNNI; returns its name."""
    assert lanes == 16
    span = (height - 1) * step + 1
    padded = -(-height // 4) * 4

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (span, 1, 16), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope)
        B = T.match_buffer(b, (16, height), "int8", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:span, 0:1, 0:16], B[0:16, 0:height])
            T.writes(C[0:16])
            for k in T.unroll(height):
                C[T.ramp(0, 1, 16)] = C.vload([0], "int32x16") + T.Cast(
                    "int32x16", A.vload([k * step, 0, 0], "uint8x16")
                ) * (
                    T.shift_right(
                        T.shift_left(
                            T.reinterpret("int32x16", B.vload([0, k // 4 * 64], "int8x64")),
                            T.broadcast(24 - k % 4 * 8, 16),
                        ),
                        T.broadcast(24, 16),
                    )
                )

    return register_intrinsic(
        f"sqc.column.portable.{height}.{step}.{scope}",
        describe_column(height, step, padded, 16, "int8", scope),
        implementation,
    )


@cache
def register_columns(height: int, step: int, scope: str, lanes: int) -> str:
    """Register a column over ``4 * lanes`` channels: see :func:`sqc.schedules.intrinsics.frames.register_columns`."""
    return frames.register_columns("portable", height, step, scope, lanes, _total)
