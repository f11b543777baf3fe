"""Which tiles are worth measuring: the best by estimate, and some of every other kind in case the estimate errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqc.schedules.microkernel import Tile

CANDIDATES = 24
"""How many tiles of an op are measured, unless the user says otherwise."""


def candidates(tiles: list[Tile], count: int = CANDIDATES) -> list[Tile]:
    """At most ``count`` of ``tiles``, which come best first; the first one stays first.

    One half are the best by estimate. The other half differ from them in their register tiles: of each register tile
    the best by estimate, in the order of the estimates. Where those are too few, the estimate fills up.
    """
    chosen = dict.fromkeys(tiles[: -(-count // 2)])
    seen = {(tile.rows, tile.vectors) for tile in chosen}
    for tile in tiles:
        if len(chosen) == count:
            break
        if (tile.rows, tile.vectors) not in seen:
            seen.add((tile.rows, tile.vectors))
            chosen[tile] = None
    for tile in tiles:
        if len(chosen) >= count:
            break
        chosen[tile] = None
    return sorted(chosen, key=tiles.index)
