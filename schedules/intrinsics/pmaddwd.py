"""AVX2 and AVX-512BW: ``vpmaddwd`` on activations widened to 16 bits, and weights widened as they are loaded.

Exact, unlike ``vpmaddubsw``, whose sums of two products saturate at 16 bits.
"""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import Expr, T, register_intrinsic
from sqc.schedules.intrinsics.frames import describe_column, register_dot

_NAMES = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
"""By the s32 sums of one instruction."""


@cache
def register(scope: str, lanes: int) -> str:
    """Register the dot product of two s16 activations in ``scope`` with s8 weights ``[16][2]``; returns its name.

    One instruction sums ``lanes`` of the sixteen.
    """
    name = _NAMES[lanes]

    def total(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        wide = T.Cast(f"int16x{lanes * 2}", weights)
        return sums + T.call_llvm_pure_intrin(f"int32x{lanes}", T.llvm_lookup_intrinsic_id(name), activations, wide)

    return register_dot("pmaddwd", scope, lanes, 2, "int16", total)


@cache
def register_column(height: int, step: int, scope: str, lanes: int) -> str:
    """Register a column of a depthwise convolution; returns its name.

    ``lanes`` accumulators gain ``height`` vertical neighbours, ``step`` rows apart, of as many u8 channels in ``scope``
    times s16 weights, whose memory holds ``[height/2][lanes][2]``, filled up with zeros.
    """
    span = (height - 1) * step + 1
    padded = -(-height // 2) * 2
    interleave = [half * lanes + i for i in range(lanes) for half in range(2)]
    name, sums, words, channels = _NAMES[lanes], f"int32x{lanes}", f"int16x{lanes * 2}", f"uint8x{lanes}"

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(
            a, (span, 1, lanes), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope
        )
        B = T.match_buffer(b, (lanes, height), "int16", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (lanes,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:span, 0:1, 0:lanes], B[0:lanes, 0:height])
            T.writes(C[0:lanes])
            for pair in T.unroll(height // 2):
                C[T.ramp(0, 1, lanes)] = C.vload([0], sums) + T.call_llvm_pure_intrin(
                    sums,
                    T.llvm_lookup_intrinsic_id(name),
                    T.Cast(
                        words,
                        T.Shuffle(
                            [
                                A.vload([pair * 2 * step, 0, 0], channels),
                                A.vload([(pair * 2 + 1) * step, 0, 0], channels),
                            ],
                            interleave,
                        ),
                    ),
                    B.vload([0, pair * lanes * 2], words),
                )
            if height % 2 == 1:
                # Zero-extended to 32 bits, the last neighbour is paired with a zero.
                C[T.ramp(0, 1, lanes)] = C.vload([0], sums) + T.call_llvm_pure_intrin(
                    sums,
                    T.llvm_lookup_intrinsic_id(name),
                    T.reinterpret(words, T.Cast(sums, A.vload([span - 1, 0, 0], channels))),
                    B.vload([0, height // 2 * lanes * 2], words),
                )

    description = describe_column(height, step, padded, lanes, "int16", scope)
    return register_intrinsic(f"sqc.column.pmaddwd.{lanes}.{height}.{step}.{scope}", description, implementation)
