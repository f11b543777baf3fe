"""Asks for the weights of the next tile while the ones at hand are multiplied.

Weights of a whole network exceed the caches near a core, and where a tile has few rows their arrival would show.
:func:`prefetch_panels` is a step of lowering: schedules only tell how far the next tile's weights lie ahead.
"""

from __future__ import annotations

from typing import Any

from sqc.schedules._tvm import Load, collect, prefetch, rewrite_innermost, same, tirx

LINE = 64


def prefetch_panels(body: Any, distance: int) -> Any:
    """A lowered body whose innermost loops ask for what lies ``distance`` ahead of the 64 bytes of ``w`` they read."""

    def ask(loop_body: Any) -> Any:
        starts: list[Any] = []
        for load in collect(loop_body, Load):
            start = _start(load)
            if start is not None and not any(same(start, other) for _, other in starts):
                starts.append((load.source, start))
        prefetches = [prefetch(source, start + distance) for source, start in starts]
        return tirx.stmt.SeqStmt([*prefetches, loop_body]) if prefetches else loop_body

    return rewrite_innermost(body, ask)


def _start(load: Any) -> Any:
    """Where a read of 64 bytes of weights starts; None for any other load."""
    if load.source.name != "w" or len(load.indices) != 1:
        return None
    (index,) = load.indices
    return index.base if isinstance(index, tirx.Ramp) and str(index.ty.dtype) == f"int32x{LINE}" else None
