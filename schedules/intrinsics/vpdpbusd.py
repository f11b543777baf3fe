"""AVX-512 VNNI and AVX-VNNI: ``vpdpbusd`` on 512 or 256 bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from sqc.schedules._tvm import Expr, T, register_intrinsic
from sqc.schedules.intrinsics import frames
from sqc.schedules.intrinsics.frames import describe_column, register_dot, register_packed_dot

# The 256-bit name is that of both encodings, LLVM takes the one that the target has.
_NAMES = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}
"""By the s32 sums of one instruction."""


@cache
def register(scope: str, lanes: int, packed: bool = False) -> str:
    """Register the dot product of four u8 activations in ``scope`` with s8 weights ``[16][4]``; returns its name.

    One instruction sums ``lanes`` of the sixteen. With ``packed`` it is that of eight activations with weights of four
    bits.
    """
    if packed:
        return register_packed_dot("vpdpbusd", scope, lanes, _total(lanes))
    return register_dot("vpdpbusd", scope, lanes, 4, "uint8", _total(lanes))


def _total(lanes: int) -> Callable[[Expr, Expr, Expr], Expr]:
    def total(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        name = T.llvm_lookup_intrinsic_id(_NAMES[lanes])
        return T.call_llvm_pure_intrin(f"int32x{lanes}", name, sums, activations, weights)

    return total


@cache
def register_column(height: int, step: int, scope: str, lanes: int) -> str:
    """Register a column of a depthwise convolution; returns its name.

    ``lanes`` accumulators gain ``height`` vertical neighbours, ``step`` rows apart, of as many u8 channels in ``scope``
    times s8 weights, whose memory holds ``[height/4][lanes][4]``, filled up with zeros.
    """
    span = (height - 1) * step + 1
    padded = -(-height // 4) * 4
    interleave = [row * lanes + i for i in range(lanes) for row in range(4)]
    name, sums, channels, weights = _NAMES[lanes], f"int32x{lanes}", f"uint8x{lanes}", f"int8x{lanes * 4}"

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(
            a, (span, 1, lanes), "uint8", offset_factor=1, strides=[T.int32(), T.int32(), 1], scope=scope
        )
        B = T.match_buffer(b, (lanes, height), "int8", offset_factor=1, strides=[padded, 1])
        C = T.match_buffer(c, (lanes,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:span, 0:1, 0:lanes], B[0:lanes, 0:height])
            T.writes(C[0:lanes])
            for four in T.unroll(padded // 4):
                C[T.ramp(0, 1, lanes)] = T.call_llvm_pure_intrin(
                    sums,
                    T.llvm_lookup_intrinsic_id(name),
                    C.vload([0], sums),
                    T.Shuffle(
                        [
                            A.vload([four * 4 * step, 0, 0], channels),
                            A.vload([T.min(four * 4 + 1, height - 1) * step, 0, 0], channels),
                            A.vload([T.min(four * 4 + 2, height - 1) * step, 0, 0], channels),
                            A.vload([T.min(four * 4 + 3, height - 1) * step, 0, 0], channels),
                        ],
                        interleave,
                    ),
                    B.vload([0, four * lanes * 4], weights),
                )

    return register_intrinsic(
        f"sqc.column.vpdpbusd.{lanes}.{height}.{step}.{scope}",
        describe_column(height, step, padded, lanes, "int8", scope),
        implementation,
    )


@cache
def register_columns(height: int, step: int, scope: str, lanes: int) -> str:
    """Register a column over ``4 * lanes`` channels: see :func:`sqc.schedules.intrinsics.frames.register_columns`."""
    return frames.register_columns("vpdpbusd", height, step, scope, lanes, _total(lanes))
