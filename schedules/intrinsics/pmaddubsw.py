"""AVX2 and AVX-512BW: ``vpmaddubsw`` on bytes as they are, for weights whose pairs cannot saturate its 16 bits.

A pair of products is at most ``255 * (w0 + w1)``, counting weights of one sign only: with sums of 128 it is 32,640.
Each result is widened to 32 bits at once, so nothing else is added up in 16 bits.
"""

from __future__ import annotations

from functools import cache

from sqc.schedules._tvm import Expr, T
from sqc.schedules.intrinsics.frames import register_dot, register_packed_dot

_PAIRS = {8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}
_SUMS = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
"""By the s32 sums of one instruction."""


@cache
def register(scope: str, lanes: int, packed: bool = False) -> str:
    """Register the dot product of four u8 activations in ``scope`` with s8 weights ``[16][4]``; returns its name.

    One instruction sums ``lanes`` of the sixteen. With ``packed`` it is that of eight activations with weights of four
    bits.
    """
    pairs, add = _PAIRS[lanes], _SUMS[lanes]

    def total(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        words = T.call_llvm_pure_intrin(f"int16x{lanes * 2}", T.llvm_lookup_intrinsic_id(pairs), activations, weights)
        ones = T.broadcast(T.int16(1), lanes * 2)
        return sums + T.call_llvm_pure_intrin(f"int32x{lanes}", T.llvm_lookup_intrinsic_id(add), words, ones)

    if packed:
        return register_packed_dot("pmaddubsw", scope, lanes, total)
    return register_dot("pmaddubsw", scope, lanes, 4, "uint8", total)
