"""Sums of 32 or 64 lanes clamped to eight bits, as AVX-512's saturating packs make them from vectors of sixteen.

:func:`pack_saturating` is a step of lowering, so kernels write ``max(min(x + z, 255), 0)``, cast to u8, over more
lanes than a register holds, and know nothing of it. Two vectors become one with every pack, where narrowing them one by
one takes two instructions and a short store each.
"""

from __future__ import annotations

from typing import Any

from sqc.schedules._tvm import Call, Load, rewrite_casts, tirx

LANES = 16
_ELEMENTWISE = ("tirx.call_llvm_pure_intrin", "tirx.reinterpret")
_PACKS = {"uint8": ("llvm.x86.avx512.packuswb.512", 0, 255), "int8": ("llvm.x86.avx512.packsswb.512", -128, 127)}


def pack_saturating(body: Any) -> Any:
    """A lowered body in which saturating casts of 32 or 64 lanes from s32 to eight bits are made of packs."""

    def replace(cast: Any) -> Any:
        dtype, _, lanes = str(cast.ty.dtype).partition("x")
        if dtype not in _PACKS or lanes not in ("32", "64"):
            return cast
        pack, least, most = _PACKS[dtype]
        total = _clamped(cast.value, least, most)
        return cast if total is None else _packed(total, dtype, int(lanes), pack)

    return rewrite_casts(body, replace)


def _clamped(value: Any, least: int, most: int) -> Any:
    """``x`` where ``value`` is ``max(min(x, most), least)`` of s32 vectors; else None."""
    if isinstance(value, tirx.Max) and _is(value.b, least) and isinstance(value.a, tirx.Min) and _is(value.a.b, most):
        return value.a.a if str(value.ty.dtype).startswith("int32x") else None
    return None


def _is(value: Any, number: int) -> bool:
    return isinstance(value, tirx.Broadcast) and isinstance(value.value, tirx.IntImm) and int(value.value) == number


def _packed(total: Any, dtype: str, lanes: int, pack: str) -> Any:
    total, shift = _shift(total)
    parts = [lanes_of(total, start, LANES) for start in range(0, lanes, LANES)]
    halves = [_to_s16(a, b, shift) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    packed = tirx.call_llvm_pure_intrin(f"{dtype}x64", pack, halves[0], halves[-1])
    # Packs work within 128 bits: the four lanes of each vector there follow each other.
    words = [4 * quarter + part for part in range(len(parts)) for quarter in range(4)]
    ordered = tirx.Shuffle([tirx.reinterpret("int32x16", packed)], [tirx.const(word, "int32") for word in words])
    return tirx.reinterpret(f"{dtype}x{lanes}", ordered)


def _shift(total: Any) -> tuple[Any, Any]:
    """``total`` as a sum of what is left and a broadcast s16 number (or None)."""
    if isinstance(total, tirx.Add) and isinstance(total.b, tirx.Broadcast):
        number = total.b.value
        if isinstance(number, tirx.Cast) and str(number.value.ty.dtype) == "int16":
            return total.a, number.value
    return total, None


def _to_s16(a: Any, b: Any, shift: Any) -> Any:
    packed = tirx.call_llvm_pure_intrin("int16x32", "llvm.x86.avx512.packssdw.512", a, b)
    if shift is None:
        return packed
    # What saturates here is beyond eight bits for any zero point of eight bits.
    return tirx.call_llvm_pure_intrin("int16x32", "llvm.sadd.sat", packed, tirx.Broadcast(shift, 32))


def lanes_of(vector: Any, start: int, count: int) -> Any:
    """Lanes ``[start, start + count)`` of an expression, computed for themselves where it is elementwise."""
    if isinstance(vector, tirx.Broadcast):
        return tirx.Broadcast(vector.value, count)
    if isinstance(vector, tirx.Ramp):
        return tirx.Ramp(vector.base + vector.stride * start, vector.stride, count)
    if isinstance(vector, tirx.Cast):
        return tirx.Cast(_type(vector, count), lanes_of(vector.value, start, count))
    if isinstance(vector, (tirx.Add, tirx.Sub, tirx.Mul, tirx.Max, tirx.Min)):
        return type(vector)(lanes_of(vector.a, start, count), lanes_of(vector.b, start, count))
    if isinstance(vector, Load) and len(vector.indices) == 1:
        return tirx.BufferLoad(vector.source, [lanes_of(vector.indices[0], start, count)])
    if isinstance(vector, Call) and vector.op.name in _ELEMENTWISE:
        parts = [lanes_of(argument, start, count) if _lanes(argument) > 1 else argument for argument in vector.args]
        return Call(vector.op, parts, ret_ty=_type(vector, count))
    return tirx.Shuffle([vector], [tirx.const(lane, "int32") for lane in range(start, start + count)])


def _lanes(vector: Any) -> int:
    return int(str(vector.ty.dtype).partition("x")[2] or 1)


def _type(vector: Any, count: int) -> str:
    return f"{str(vector.ty.dtype).partition('x')[0]}x{count}"
