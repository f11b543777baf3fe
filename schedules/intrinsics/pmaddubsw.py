"""AVX2 and AVX-512BW: ``vpmaddubsw`` on bytes as they are, for weights whose pairs cannot saturate its 16 bits.

A pair of products is at most ``255 * (w0 + w1)``, counting weights of one sign only: with sums of 128 it is 32,640.
Each result is widened to 32 bits at once, so nothing else is added up in 16 bits.
"""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import T, register_intrinsic
from sqc.schedules.intrinsics.portable import describe

_PAIRS = {8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}
_SUMS = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
"""By the s32 sums of one instruction."""


@cache
def register(scope: str, lanes: int) -> str:
    """Register the dot product of four u8 activations in ``scope`` with s8 weights ``[16][4]``; returns its name.

    One instruction sums ``lanes`` of the sixteen.
    """
    pairs, add = _PAIRS[lanes], _SUMS[lanes]
    sums, words, activations, weights = (
        f"int32x{lanes}",
        f"int16x{lanes * 2}",
        f"uint8x{lanes * 4}",
        f"int8x{lanes * 4}",
    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (4,), "uint8", offset_factor=1, scope=scope)
        B = T.match_buffer(b, (16, 4), "int8", offset_factor=1)
        C = T.match_buffer(c, (16,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:16], A[0:4], B[0:16, 0:4])
            T.writes(C[0:16])
            for part in T.unroll(16 // lanes):
                C[T.ramp(part * lanes, 1, lanes)] = C.vload([part * lanes], sums) + T.call_llvm_pure_intrin(
                    sums,
                    T.llvm_lookup_intrinsic_id(add),
                    T.call_llvm_pure_intrin(
                        words,
                        T.llvm_lookup_intrinsic_id(pairs),
                        T.reinterpret(activations, T.broadcast(T.reinterpret("int32", A.vload([0], "uint8x4")), lanes)),
                        B.vload([part * lanes, 0], weights),
                    ),
                    T.broadcast(T.int16(1), lanes * 2),
                )

    return register_intrinsic(f"sqc.dot.pmaddubsw.{lanes}.{scope}", describe(scope), implementation)
