"""Sums of a group of channels, as :mod:`frames` orders them, rounded off to eight bits in the order of the channels."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqc.ops.quantization import LIMITS
from sqc.schedules._tvm import T, register_intrinsic, tirx
from sqc.schedules.intrinsics.frames import interleaved_position
from sqc.schedules.intrinsics.packs import packed_by_turns


@cache
def register_pack(dtype: str, lanes: int, *, saturating: bool) -> str:
    """Register what rounds off ``4 * lanes`` sums; returns its name.

    Sums in the order of :func:`sqc.schedules.intrinsics.frames.interleaved_channel`, plus a number of 16 bits, become
    ``dtype``, clamped to its limits, in the order of their channels. ``saturating``: by the packs of AVX2 and AVX-512,
    which put them in order by the way.
    """
    group = 4 * lanes
    least, most = LIMITS[dtype]
    order = [interleaved_position(channel, lanes) for channel in range(group)]

    def packed(r: Any, p: Any) -> Any:
        parts = [r.vload([vector * lanes], f"int32x{lanes}") for vector in range(4)]
        shift = tirx.Cast("int16", p.vload([0]))
        if not saturating:
            parts = [part + tirx.Broadcast(tirx.Cast("int32", shift), lanes) for part in parts]
            for clamp, end in ((tirx.max, least), (tirx.min, most)):
                parts = [clamp(part, tirx.Broadcast(tirx.const(end, "int32"), lanes)) for part in parts]
            narrow = [tirx.Cast(f"{dtype}x{lanes}", part) for part in parts]
            return tirx.Shuffle(narrow, [tirx.const(position, "int32") for position in order])
        return packed_by_turns(parts, shift, dtype)

    @T.prim_func(s_tir=True)
    def description(r: T.handle, p: T.handle, y: T.handle) -> None:
        R = T.match_buffer(r, (group,), "int32", offset_factor=1, scope="local")
        P = T.match_buffer(p, (1,), "int32", offset_factor=1)
        Y = T.match_buffer(y, (group,), dtype, offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(R[0:group], P[0:1])
            T.writes(Y[0:group])
            for i in T.serial(group):
                with T.sblock("pack"):
                    vi = T.axis.spatial(group, i)
                    Y[vi] = T.Cast(
                        dtype,
                        T.max(
                            T.min(
                                R[interleaved_position(vi, lanes)] + T.Cast("int32", T.Cast("int16", P[0])),
                                most,
                            ),
                            least,
                        ),
                    )

    @T.prim_func(s_tir=True)
    def implementation(r: T.handle, p: T.handle, y: T.handle) -> None:
        R = T.match_buffer(r, (group,), "int32", offset_factor=1, scope="local")
        P = T.match_buffer(p, (1,), "int32", offset_factor=1)
        Y = T.match_buffer(y, (group,), dtype, offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(R[0:group], P[0:1])
            T.writes(Y[0:group])
            Y[T.ramp(0, 1, group)] = packed(R, P)

    return register_intrinsic(f"sqc.pack.{dtype}.{lanes}.{saturating}", description, implementation)
