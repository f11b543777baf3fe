"""Sums clamped to eight bits, several vectors of sixteen at a time, by AVX-512's saturating packs.

:func:`pack_saturating` is a step of lowering, so kernels write ``max(min(x + z, 255), 0)``, cast to u8, over more
lanes than a register holds or in several stores in a row, and know nothing of it. Two vectors become one with every
pack, where narrowing them one by one takes three instructions each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqc.schedules._tvm import Call, Load, rewrite_casts, rewrite_sequences, same, tirx

LANES = 16
_ELEMENTWISE = ("tirx.call_llvm_pure_intrin", "tirx.reinterpret")
_PACKS = {"uint8": ("llvm.x86.avx512.packuswb.512", 0, 255), "int8": ("llvm.x86.avx512.packsswb.512", -128, 127)}


def pack_saturating(body: Any) -> Any:
    """A lowered body in which saturating casts from s32 to eight bits are made of packs.

    That is those of 32 or 64 lanes, and those of 16 that are stored one after the other.
    """

    def replace(cast: Any) -> Any:
        dtype, lanes = _type_of(cast)
        total = _clamped(cast)
        if total is None or lanes not in (2 * LANES, 4 * LANES):
            return cast
        total, shift = _shift(total)
        parts = [lanes_of(total, start, LANES) for start in range(0, lanes, LANES)]
        return _packed(parts, shift, dtype)

    return rewrite_sequences(rewrite_casts(body, replace), _pack_stores)


def _pack_stores(statements: Sequence[Any]) -> Sequence[Any]:
    """The statements with stores of saturating casts joined by four or two."""
    result: list[Any] = []
    rest = list(statements)
    while rest:
        count = next((n for n in (4, 2) if _packable(rest[:n], n)), 0)
        if not count:
            result.append(rest.pop(0))
            continue
        stores, rest = rest[:count], rest[count:]
        parts, shifts = zip(*(_shift(_clamped(store.value)) for store in stores), strict=True)
        dtype, _ = _type_of(stores[0].value)
        packed = tirx.Var("packed", f"{dtype}x{count * LANES}")
        result.append(tirx.stmt.Bind(packed, _packed(parts, shifts[0], dtype)))
        for i, store in enumerate(stores):
            value = tirx.Shuffle([packed], [tirx.const(i * LANES + lane, "int32") for lane in range(LANES)])
            result.append(tirx.BufferStore(store.buffer, value, store.indices))
    return result


def _packable(stores: Sequence[Any], count: int) -> bool:
    """Whether these are ``count`` stores of casts of sixteen lanes to one type, with one zero point."""
    if len(stores) < count or not all(isinstance(store, tirx.BufferStore) for store in stores):
        return False
    values = [store.value for store in stores]
    if any(_type_of(value)[1] != LANES or _clamped(value) is None for value in values):
        return False
    shifts = [_shift(_clamped(value))[1] for value in values]
    return all(same(shift, shifts[0]) for shift in shifts[1:])


def _clamped(cast: Any) -> Any:
    """``x`` where ``cast`` is one of ``max(min(x, most), least)``, the limits being those of its type; else None."""
    dtype, _ = _type_of(cast)
    if not isinstance(cast, tirx.Cast) or dtype not in _PACKS:
        return None
    _, least, most = _PACKS[dtype]
    value = cast.value
    if isinstance(value, tirx.Max) and _is(value.b, least) and isinstance(value.a, tirx.Min) and _is(value.a.b, most):
        return value.a.a if _type_of(value)[0] == "int32" else None
    return None


def _is(value: Any, number: int) -> bool:
    return isinstance(value, tirx.Broadcast) and isinstance(value.value, tirx.IntImm) and int(value.value) == number


def _packed(parts: Sequence[Any], shift: Any, dtype: str) -> Any:
    """Two or four vectors of sums, shifted, clamped to ``dtype``, one behind the other."""
    pack, _, _ = _PACKS[dtype]
    halves = [_to_s16(a, b, shift) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    packed = tirx.call_llvm_pure_intrin(f"{dtype}x64", pack, halves[0], halves[-1])
    # Packs work within 128 bits: the four lanes of each vector there follow each other.
    words = [4 * quarter + part for part in range(len(parts)) for quarter in range(4)]
    ordered = tirx.Shuffle([tirx.reinterpret("int32x16", packed)], [tirx.const(word, "int32") for word in words])
    return tirx.reinterpret(f"{dtype}x{len(parts) * LANES}", ordered)


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
        return tirx.Cast(f"{_type_of(vector)[0]}x{count}", lanes_of(vector.value, start, count))
    if isinstance(vector, (tirx.Add, tirx.Sub, tirx.Mul, tirx.Max, tirx.Min)):
        return type(vector)(lanes_of(vector.a, start, count), lanes_of(vector.b, start, count))
    if isinstance(vector, Load) and len(vector.indices) == 1:
        return tirx.BufferLoad(vector.source, [lanes_of(vector.indices[0], start, count)])
    if isinstance(vector, Call) and vector.op.name in _ELEMENTWISE:
        parts = [
            lanes_of(argument, start, count) if _type_of(argument)[1] > 1 else argument for argument in vector.args
        ]
        return Call(vector.op, parts, ret_ty=f"{_type_of(vector)[0]}x{count}")
    return tirx.Shuffle([vector], [tirx.const(lane, "int32") for lane in range(start, start + count)])


def _type_of(vector: Any) -> tuple[str, int]:
    """Element type and number of lanes."""
    dtype, _, lanes = str(vector.ty.dtype).partition("x")
    return dtype, int(lanes or 1)
