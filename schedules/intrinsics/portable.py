"""The dot product of AVX-512 VNNI in plain vector code, which LLVM legalizes for any processor: for tests."""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import T, register_intrinsic
from sqc.schedules.intrinsics.frames import describe, describe_column


@cache
def register(scope: str, lanes: int) -> str:
    """Register the dot product of four u8 activations in ``scope`` with s8 weights ``[16][4]``; returns its name."""
    assert lanes == 16

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), "uint8", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 4), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:4], B[0:16, 0:4])
            T.writes(C[0:16])
            for k in T.unroll(4):
                # Byte k of each 32-bit group of weights, sign-extended by two shifts.
                C[T.ramp(0, 1, 16)] = C.vload([0], "int32x16") + T.broadcast(T.Cast("int32", A[k]), 16) * (
                    T.shift_right(
                        T.shift_left(
                            T.reinterpret("int32x16", B.vload([0, 0], "int8x64")), T.broadcast(24 - 8 * k, 16)
                        ),
                        T.broadcast(24, 16),
                    )
                )

    return register_intrinsic(f"sqc.dot.portable.{scope}", describe(scope, 4, "uint8"), implementation)


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
