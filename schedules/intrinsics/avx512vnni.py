"""AVX-512 VNNI: ``vpdpbusd`` on 512 bits."""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import T, register_intrinsic
from sqc.schedules.intrinsics.portable import describe, describe_column


@cache
def register(scope: str) -> str:
    """Register the dot product of four u8 activations in ``scope`` with s8 weights ``[16][4]``; returns its name."""

    # LLVM 22 takes the bytes as <64 x i8>; the intrinsic that TVM brings still passes <16 x i32>.
    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), "uint8", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 4), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:4], B[0:16, 0:4])
            T.writes(C[0:16])
            C[T.ramp(0, 1, 16)] = T.call_llvm_pure_intrin(
                "int32x16",
                T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
                C.vload([0], "int32x16"),
                T.reinterpret("uint8x64", T.broadcast(T.reinterpret("int32", A.vload([0], "uint8x4")), 16)),
                B.vload([0, 0], "int8x64"),
            )

    return register_intrinsic(f"sqc.dot.avx512vnni.{scope}", describe(scope), implementation)


@cache
def register_column(height: int, step: int, scope: str) -> str:
    """Register a column of a depthwise convolution; returns its name.

    Sixteen accumulators gain ``height`` vertical neighbours, ``step`` rows apart, of sixteen u8 channels in ``scope``
    times s8 weights, whose memory holds ``[height/4][16][4]``, filled up with zeros.
    """
    span = (height - 1) * step + 1
    padded = -(-height // 4) * 4
    interleave = [row * 16 + i for i in range(16) for row in range(4)]

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (span, 1, 16), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope)
        B = T.match_buffer(b, (16, height), "int8", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:span, 0:1, 0:16], B[0:16, 0:height])
            T.writes(C[0:16])
            for four in T.unroll(padded // 4):
                C[T.ramp(0, 1, 16)] = T.call_llvm_pure_intrin(
                    "int32x16",
                    T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
                    C.vload([0], "int32x16"),
                    T.Shuffle(
                        [
                            A.vload([four * 4 * step, 0, 0], "uint8x16"),
                            A.vload([T.min(four * 4 + 1, height - 1) * step, 0, 0], "uint8x16"),
                            A.vload([T.min(four * 4 + 2, height - 1) * step, 0, 0], "uint8x16"),
                            A.vload([T.min(four * 4 + 3, height - 1) * step, 0, 0], "uint8x16"),
                        ],
                        interleave,
                    ),
                    B.vload([0, four * 64], "int8x64"),
                )

    return register_intrinsic(
        f"sqc.column.avx512vnni.{height}.{step}.{scope}",
        describe_column(height, step, padded, 16, "int8", scope),
        implementation,
    )
