"""Sums clamped to eight bits, several vectors of sixteen at a time, by AVX-512's saturating packs.

:func:`pack_saturating` is a step of lowering, so kernels write ``max(min(x + z, 255), 0)``, cast to u8, over more
lanes than a register holds or in several stores in a row, and know nothing of it. Two vectors become one with every
pack, where narrowing them one by one takes three instructions each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqc.ops.quantization import LIMITS
from sqc.schedules._tvm import Call, Load, rewrite_nodes, same, tirx
from sqc.schedules.intrinsics.tables import is_table

LANES = 16
_ELEMENTWISE = ("tirx.call_llvm_pure_intrin", "tirx.reinterpret")
_PACKS = {"uint8": "packuswb", "int8": "packsswb"}


class Saturating(NamedTuple):
    """A cast of ``total + shift`` to ``dtype``, clamped to its limits; ``shift`` is an s16 number, or None."""

    total: Any
    shift: Any
    dtype: str
    lanes: int


class Stored(NamedTuple):
    """What is stored: a saturating cast, or the bytes of a ``table`` that it indexes."""

    cast: Saturating
    table: Any


def pack_saturating(body: Any) -> Any:
    """A lowered body in which saturating casts from s32 to eight bits are made of packs.

    That is those of 32 or 64 lanes, and those of 16 that are stored one after the other, perhaps as bytes of a table.
    """

    def wide(cast: Any) -> Any:
        found = _saturating(cast)
        if found is None or found.lanes not in (2 * LANES, 4 * LANES):
            return cast
        parts = [lanes_of(found.total, start, LANES) for start in range(0, found.lanes, LANES)]
        return _packed(parts, found.shift, found.dtype)

    def stores(sequence: Any) -> Any:
        return tirx.stmt.SeqStmt(_pack_stores(list(sequence)))

    return rewrite_nodes(rewrite_nodes(body, tirx.Cast, wide), tirx.stmt.SeqStmt, stores)


def _pack_stores(statements: Sequence[Any]) -> list[Any]:
    """The statements with stores of saturating casts of sixteen lanes joined by four or two."""
    values = [_stored(s.value) if isinstance(s, tirx.BufferStore) else None for s in statements]
    result: list[Any] = []
    at = 0
    while at < len(statements):
        count = next((n for n in (4, 2) if _alike(values[at : at + n], n)), 1)
        stores, found = statements[at : at + count], [value for value in values[at : at + count] if value is not None]
        at += count
        if count == 1:
            result += stores
            continue
        (_, shift, dtype, _), table = found[0]
        value = _packed([value.cast.total for value in found], shift, dtype)
        if table is not None:
            value = tirx.BufferLoad(table, [tirx.Cast(f"int32x{count * LANES}", value)])
        packed = tirx.Var("packed", f"{dtype}x{count * LANES}")
        result.append(tirx.stmt.Bind(packed, value))
        for i, store in enumerate(stores):
            value = tirx.Shuffle([packed], [tirx.const(i * LANES + lane, "int32") for lane in range(LANES)])
            result.append(tirx.BufferStore(store.buffer, value, store.indices))
    return result


def _alike(values: Sequence[Stored | None], count: int) -> bool:
    """Whether these are ``count`` casts of sixteen lanes to one type, with one shift, or bytes of one table."""
    first = values[0]
    return (
        len(values) == count
        and first is not None
        and first.cast.lanes == LANES
        and all(
            value is not None
            and value.cast[2:] == first.cast[2:]
            and same(value.cast.shift, first.cast.shift)
            and same(value.table, first.table)
            for value in values[1:]
        )
    )


def _stored(value: Any) -> Stored | None:
    cast, table = value, None
    if isinstance(value, Load) and len(value.indices) == 1 and isinstance(value.indices[0], tirx.Cast):
        cast, table = value.indices[0].value, value.source
    found = _saturating(cast)
    if found is None or (table is not None and not is_table(table)):
        return None
    return Stored(found, table)


def _saturating(cast: Any) -> Saturating | None:
    """What ``cast`` is if it is one of ``max(min(x, most), least)``, the limits being those of its type."""
    dtype, lanes = _type_of(cast)
    if not isinstance(cast, tirx.Cast) or dtype not in _PACKS:
        return None
    least, most = LIMITS[dtype]
    value = cast.value
    if not (isinstance(value, tirx.Max) and _is(value.b, least)):
        return None
    if not (isinstance(value.a, tirx.Min) and _is(value.a.b, most)) or _type_of(value)[0] != "int32":
        return None
    return Saturating(*_shift(value.a.a), dtype, lanes)


def _is(value: Any, number: int) -> bool:
    return isinstance(value, tirx.Broadcast) and isinstance(value.value, tirx.IntImm) and int(value.value) == number


def _packed(parts: Sequence[Any], shift: Any, dtype: str) -> Any:
    """Two or four vectors of sums, shifted, clamped to ``dtype``, one behind the other."""
    packed = packed_by_turns(parts, shift, dtype)
    # The four lanes that each vector has in 128 bits follow each other there.
    words = [4 * quarter + part for part in range(len(parts)) for quarter in range(4)]
    ordered = tirx.Shuffle([tirx.reinterpret("int32x16", packed)], [tirx.const(word, "int32") for word in words])
    return tirx.reinterpret(f"{dtype}x{len(parts) * LANES}", ordered)


def packed_by_turns(parts: Sequence[Any], shift: Any, dtype: str) -> Any:
    """Two or four vectors of s32, plus an s16 number (or None), clamped to ``dtype``: four lanes of each by turns.

    That is how packs order them, which work within 128 bits. Of two vectors every 128 bits come twice.
    """
    halves = [_to_s16(a, b, shift) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return _pack(_PACKS[dtype], f"{dtype}x{4 * _type_of(parts[0])[1]}", halves[0], halves[-1])


def _pack(name: str, dtype: str, a: Any, b: Any) -> Any:
    element, lanes = _type_of(a)
    wide = lanes * int(element.removeprefix("int")) == 512
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.x86.avx512.{name}.512" if wide else f"llvm.x86.avx2.{name}", a, b)


def _shift(total: Any) -> tuple[Any, Any]:
    """``total`` as a sum of what is left and a broadcast s16 number (or None)."""
    if isinstance(total, tirx.Add) and isinstance(total.b, tirx.Broadcast):
        number = total.b.value
        if isinstance(number, tirx.Cast) and str(number.value.ty.dtype) == "int16":
            return total.a, number.value
    return total, None


def _to_s16(a: Any, b: Any, shift: Any) -> Any:
    lanes = 2 * _type_of(a)[1]
    packed = _pack("packssdw", f"int16x{lanes}", a, b)
    if shift is None:
        return packed
    # What saturates here is beyond eight bits for any zero point of eight bits.
    return tirx.call_llvm_pure_intrin(f"int16x{lanes}", "llvm.sadd.sat", packed, tirx.Broadcast(shift, lanes))


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
    dtype, whole = _type_of(vector)
    if isinstance(vector, Load) and _widths(vector.indices) == {whole} and not is_table(vector.source):
        return tirx.BufferLoad(vector.source, [lanes_of(vector.indices[0], start, count)])
    if isinstance(vector, Call) and vector.op.name in _ELEMENTWISE and _widths(vector.args) <= {1, whole}:
        parts = [lanes_of(part, start, count) if _type_of(part)[1] > 1 else part for part in vector.args]
        return Call(vector.op, parts, ret_ty=f"{dtype}x{count}")
    return tirx.Shuffle([vector], [tirx.const(lane, "int32") for lane in range(start, start + count)])


def _widths(vectors: Iterable[Any]) -> set[int]:
    return {_type_of(vector)[1] for vector in vectors}


def _type_of(vector: Any) -> tuple[str, int]:
    """Element type and number of lanes."""
    dtype, _, lanes = str(vector.ty.dtype).partition("x")
    return dtype, int(lanes or 1)
