"""Memory on the stack where lines of cache start: vectors that straddle two lines take two reads.

:func:`align_stack` is a step of lowering. Arrays start at multiples of 16 bytes, for so TVM declares them, and so do
the registers that LLVM spills, unless their frame is known by a pointer of its own, which it can align.
"""

from __future__ import annotations

import math
from typing import Any

from sqc.schedules._tvm import changed_loop, collect, mutate, prefetch_frame, tirx

LINE = 64
ARRAY_BYTES = 4096
"""Smaller arrays may end up in registers."""


def align_stack(body: Any, *, frames: bool) -> Any:
    """A lowered body whose large local arrays start at multiples of 64 bytes, and with ``frames`` what LLVM spills.

    Frames take a register.
    """

    def frame(loop: Any, mutator: Any) -> Any:
        loop = mutator.default_mutate(loop)
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return changed_loop(loop, _framed(loop.body))

    body = mutate(body, (tirx.AllocBuffer, _aligned))
    if not frames:
        return body
    parallel = any(loop.kind == tirx.ForKind.PARALLEL for loop in collect(body, tirx.stmt.For))
    return mutate(body, (tirx.stmt.For, frame)) if parallel else _framed(body)


def _framed(body: Any) -> Any:
    return tirx.stmt.SeqStmt([prefetch_frame(), body])


def _aligned(allocation: Any, _mutator: Any) -> Any:
    array = allocation.buffer
    size = math.prod(int(extent) for extent in array.shape)
    if array.scope() != "local" or array.dtype not in ("uint8", "int8") or size < ARRAY_BYTES:
        return allocation
    whole = tirx.decl_buffer((size + LINE,), array.dtype, f"{array.name}_unaligned", scope="local")
    address = tirx.reinterpret("int64", whole.data)
    start = tirx.Var(f"{array.name}_aligned", whole.data.ty)
    moved = tirx.reinterpret(whole.data.ty, tirx.handle_add_byte_offset(whole.data, -address % LINE))
    return tirx.stmt.SeqStmt(
        [
            tirx.AllocBuffer(whole),
            tirx.stmt.Bind(start, moved),
            tirx.stmt.DeclBuffer(array, data=start),
        ]
    )
