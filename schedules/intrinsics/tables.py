"""Reads from tables of 256 bytes, in vectors: byte shuffles in place of one load after the other.

:func:`shuffle_table_reads` is a step of lowering, so kernels write ``table(index)`` and know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqc.schedules._tvm import Load, collect, rewrite_nodes, tirx

LANES = 16
WIDTHS = (LANES, 2 * LANES, 4 * LANES)


def shuffle_table_reads(body: Any, *, vbmi: bool) -> Any:
    """A lowered body in which every read of 16, 32 or 64 elements of a 256-byte table is made of shuffles.

    With ``vbmi`` they are AVX512-VBMI's permutations of 128 bytes, of 64 at once, else AVX2's of 16.
    """

    def replace(read: Any) -> Any:
        position = _position(read)
        if position is None:
            return read
        lanes = int(str(read.ty.dtype).partition("x")[2])
        if vbmi:
            return _permuted(read.source, position, lanes)
        if collect(position, tirx.Let):  # an entry of a table indexes this one: TVM fails to simplify the two together
            return read
        return _bind(position, lambda p: _by_sixteen(read.source, p, lanes))

    return rewrite_nodes(body, Load, replace)


def is_table(buffer: Any) -> bool:
    """Whether a buffer has the shape of a table of 256."""
    return [int(extent) for extent in buffer.ty.shape] == [256]


def _position(read: Any) -> Any:
    """The bytes that index a table; None for any other load."""
    dtype = str(read.ty.dtype)
    if dtype not in [f"uint8x{width}" for width in WIDTHS] or not is_table(read.source):
        return None
    (index,) = read.indices
    return index.value if isinstance(index, tirx.Cast) and str(index.value.ty.dtype) == dtype else None


def _bind(value: Any, body: Callable[[Any], Any]) -> Any:
    variable = tirx.Var("bytes", value.ty.dtype)
    return tirx.Let(variable, value, body(variable))


def _load(table: Any, start: int, lanes: int) -> Any:
    return tirx.BufferLoad(table, [tirx.Ramp(tirx.const(start, "int32"), tirx.const(1, "int32"), lanes)])


def _lanes_of(vector: Any, lanes: Sequence[int]) -> Any:
    return tirx.Shuffle([vector], [tirx.const(lane, "int32") for lane in lanes])


def _repeat(vector: Any, lanes: int, times: int) -> Any:
    if times == 1:
        return vector
    return tirx.Shuffle([vector] * times, [tirx.const(lane, "int32") for lane in range(times * lanes)])


def _is_negative(vector: Any, lanes: int) -> Any:
    zero = tirx.Broadcast(tirx.const(0, "int8"), lanes)
    return tirx.reinterpret(f"int8x{lanes}", vector) < zero


def _by_sixteen(table: Any, position: Any, lanes: int) -> Any:
    if lanes == LANES:
        return _shuffled(table, position)
    parts = [_shuffled(table, _lanes_of(position, range(start, start + LANES))) for start in range(0, lanes, LANES)]
    return tirx.Shuffle(parts, [tirx.const(lane, "int32") for lane in range(lanes)])


def _shuffled(table: Any, position: Any) -> Any:
    """Eight shuffles, each of two neighbouring sixteenths of the table; then the right one by the upper four bits."""
    lanes = 2 * LANES

    def choose(index: Any) -> Any:
        low = tirx.bitwise_and(index, tirx.Broadcast(tirx.const(15, "uint8"), lanes))
        return _bind(index + index, lambda b6: _bind(b6 + b6, lambda b5: _bind(low, lambda c: tree(index, b6, b5, c))))

    def tree(b7: Any, b6: Any, b5: Any, low: Any) -> Any:
        parts = [
            tirx.call_llvm_pure_intrin(f"uint8x{lanes}", "llvm.x86.avx2.pshuf.b", _load(table, start, lanes), low)
            for start in range(0, 256, lanes)
        ]
        for bit in (b5, b6, b7):
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [tirx.Select(_is_negative(bit, lanes), high, low) for low, high in pairs]
        bit4 = _lanes_of(b5 + b5, range(LANES))
        return _bind(
            parts[0],
            lambda both: tirx.Select(
                _is_negative(bit4, LANES), _lanes_of(both, range(LANES, lanes)), _lanes_of(both, range(LANES))
            ),
        )

    return _bind(position, lambda p: _bind(_repeat(p, LANES, 2), choose))


def _permuted(table: Any, position: Any, lanes: int) -> Any:
    """One permutation for each half of the table; the index's upper bit tells which is right."""

    def choose(index: Any) -> Any:
        wide = _repeat(index, lanes, 64 // lanes)
        low, high = (
            tirx.call_llvm_pure_intrin(
                "uint8x64",
                "llvm.x86.avx512.vpermi2var.qi.512",
                _load(table, start, 64),
                wide,
                _load(table, start + 64, 64),
            )
            for start in (0, 128)
        )
        if lanes < 64:
            low, high = (_lanes_of(part, range(lanes)) for part in (low, high))
        return tirx.Select(_is_negative(index, lanes), high, low)

    return _bind(position, choose)
