"""AVX2: ``vpmaddwd`` on activations widened to 16 bits, and weights widened as they are loaded.

Exact, unlike ``vpmaddubsw``, whose sums of two products saturate at 16 bits.
"""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import T, register_intrinsic
from sqc.schedules.intrinsics.portable import describe_column


@cache
def register(scope: str) -> str:
    """Register the dot product of two s16 activations in ``scope`` with s8 weights ``[16][2]``; returns its name."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (2,), "int16", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 2), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:2], B[0:16, 0:2])
            T.writes(C[0:16])
            for i, k in T.grid(16, 2):
                with T.sblock("update"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    C[vi] = C[vi] + T.Cast("int32", A[vk]) * T.Cast("int32", B[vi, vk])

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (2,), "int16", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 2), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:2], B[0:16, 0:2])
            T.writes(C[0:16])
            for half in T.unroll(2):
                C[T.ramp(half * 8, 1, 8)] = C[T.ramp(half * 8, 1, 8)] + T.call_llvm_pure_intrin(
                    "int32x8",
                    T.llvm_lookup_intrinsic_id("llvm.x86.avx2.pmadd.wd"),
                    T.reinterpret("int16x16", T.broadcast(T.reinterpret("int32", A.vload([0], "int16x2")), 8)),
                    T.Cast("int16x16", B.vload([half * 8, 0], "int8x16")),
                )

    return register_intrinsic(f"sqc.dot.avx2.{scope}", description, implementation)


@cache
def register_column(height: int, step: int, scope: str) -> str:
    """Register a column of a depthwise convolution; returns its name.

    Eight accumulators gain ``height`` vertical neighbours, ``step`` rows apart, of eight u8 channels in ``scope`` times
    s16 weights, whose memory holds ``[height/2][8][2]``, filled up with zeros. (Sixteen channels at once would not
    leave enough registers.)
    """
    span = (height - 1) * step + 1
    padded = -(-height // 2) * 2
    interleave = [half * 8 + i for i in range(8) for half in range(2)]

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (span, 1, 8), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope)
        B = T.match_buffer(b, (8, height), "int16", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (8,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:8], A[0:span, 0:1, 0:8], B[0:8, 0:height])
            T.writes(C[0:8])
            for pair in T.unroll(height // 2):
                C[T.ramp(0, 1, 8)] = C.vload([0], "int32x8") + T.call_llvm_pure_intrin(
                    "int32x8",
                    T.llvm_lookup_intrinsic_id("llvm.x86.avx2.pmadd.wd"),
                    T.Cast(
                        "int16x16",
                        T.Shuffle(
                            [
                                A.vload([pair * 2 * step, 0, 0], "uint8x8"),
                                A.vload([(pair * 2 + 1) * step, 0, 0], "uint8x8"),
                            ],
                            interleave,
                        ),
                    ),
                    B.vload([0, pair * 16], "int16x16"),
                )
            if height % 2 == 1:
                # Zero-extended to 32 bits, the last neighbour is paired with a zero.
                C[T.ramp(0, 1, 8)] = C.vload([0], "int32x8") + T.call_llvm_pure_intrin(
                    "int32x8",
                    T.llvm_lookup_intrinsic_id("llvm.x86.avx2.pmadd.wd"),
                    T.reinterpret("int16x16", T.Cast("int32x8", A.vload([span - 1, 0, 0], "uint8x8"))),
                    B.vload([0, height // 2 * 16], "int16x16"),
                )

    description = describe_column(height, step, padded, 8, "int16", scope)
    return register_intrinsic(f"sqc.column.avx2.{height}.{step}.{scope}", description, implementation)
