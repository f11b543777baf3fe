"""Asks for the weights of the next tile while the ones at hand are multiplied.

Weights of a whole network exceed the caches near a core, and where a tile has few rows their arrival would show.
:func:`prefetch_panels` is a step of lowering: schedules only tell how far the next tile's weights lie ahead. Where
several tiles read the same weights one after the other, each asks for a share of the next ones: what comes from afar
comes slowly, and all of it at once would keep the first of them waiting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqc.schedules._tvm import Load, collect, prefetch, rewrite_innermost, same, substitute, tirx

LINE = 64


def prefetch_panels(body: Any, distance: int) -> Any:
    """A lowered body whose innermost loops ask for what lies ``distance`` ahead of the 64 bytes of ``w`` they read."""

    def ask(loop_body: Any, loops: Sequence[Any]) -> Any:
        starts: list[Any] = []
        for load in collect(loop_body, Load):
            start = _start(load)
            if start is not None and not any(same(start, other) for _, other in starts):
                starts.append((load.source, start))
        prefetches = [prefetch(source, _wanted(start, loops) + distance) for source, start in starts]
        return tirx.stmt.SeqStmt([*prefetches, loop_body]) if prefetches else loop_body

    return rewrite_innermost(body, ask)


def _start(load: Any) -> Any:
    """Where a read of 64 bytes of weights starts; None for any other load."""
    if load.source.name != "w" or len(load.indices) != 1:
        return None
    (index,) = load.indices
    return index.base if isinstance(index, tirx.Ramp) and str(index.ty.dtype) == f"int32x{LINE}" else None


def _wanted(start: Any, loops: Sequence[Any]) -> Any:
    """Where, in the next tile's weights as in this one's, to ask while those at ``start`` are read.

    The innermost ``loops`` go through the weights, line by line; the one around them reads them again.
    """
    used = collect(start, tirx.Var)
    count = next((i for i, loop in enumerate(reversed(loops)) if not _any(loop.loop_var, used)), len(loops))
    if count in (0, len(loops)):
        return start
    again, steps = loops[-count - 1], loops[len(loops) - count :]
    line: Any = 0
    for loop in steps:
        line = line * loop.extent + loop.loop_var
    tiles, lines = int(again.extent), math.prod(int(loop.extent) for loop in steps)
    # By a power of two, which addresses can be scaled by, at least a share.
    stride = 1 << max(0, -(-LINE // tiles) - 1).bit_length()
    first = substitute(start, {loop.loop_var: loop.min for loop in steps})
    return first + again.loop_var * (lines * LINE // tiles) + line * stride


def _any(variable: Any, used: Sequence[Any]) -> bool:
    return any(variable.same_as(other) for other in used)
