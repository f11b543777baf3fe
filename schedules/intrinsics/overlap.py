"""Epilogues beside products: what follows the sums of a tile is computed among the products of the next one.

On Zen 5 an epilogue of several operands, which waits for its sums and then for its own steps one after the other, fills
the schedulers before the next tile's products, which could start at once, get in. Spread among them, it takes the
ports that they leave. :func:`overlap_epilogues` is a step of lowering, so kernels know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqc.schedules._tvm import Load, collect, loop_over, mutate, rewrite_nodes, substitute, tirx

LEAST_TILES = 3
"""The first tile's products, and the last one's epilogue, have nothing to overlap with."""

STEPS_BETWEEN = 2
"""The least steps of products between two pieces of an epilogue; LLVM would unroll fewer, and move weights."""


def overlap_epilogues(body: Any) -> Any:
    """A lowered body whose loops over tiles compute each epilogue among the products of the next tile."""

    def overlap(loop: Any) -> Any:
        tiles = _tiles(loop)
        return loop if tiles is None else tiles.overlapped()

    return rewrite_nodes(body, tirx.stmt.For, overlap)


def _tiles(loop: Any) -> _Tiles | None:
    """The parts of a loop over tiles: stores that start sums, a loop over products, and stores of results.

    None for any other loop, or one that is too short.
    """
    if not isinstance(loop.body, tirx.stmt.SeqStmt) or not isinstance(loop.extent, tirx.IntImm):
        return None
    statements = list(loop.body.seq)
    where = [i for i, part in enumerate(statements) if isinstance(part, tirx.stmt.For)]
    if len(where) != 1 or int(loop.extent) < LEAST_TILES:
        return None
    start, products, results = statements[: where[0]], statements[where[0]], statements[where[0] + 1 :]
    if not start or not all(isinstance(part, tirx.BufferStore) for part in (*start, *results)):
        return None
    sums = start[0].buffer
    if not all(part.buffer.same_as(sums) for part in start) or any(part.buffer.same_as(sums) for part in results):
        return None
    steps = math.prod(int(inner.extent) for inner in (products, *collect(products.body, tirx.stmt.For)))
    if steps < STEPS_BETWEEN * (len(results) + 1):
        return None
    return _Tiles(loop, start, products, results, sums)


@dataclass(frozen=True)
class _Tiles:
    """A loop over tiles, each with ``sums`` of its own."""

    loop: Any
    start: Sequence[Any]
    products: Any
    results: Sequence[Any]
    sums: Any

    def overlapped(self) -> Any:
        """The loop without its first round; its products come before, its last results after."""
        loop, steps = self.loop, int(self.products.extent)
        held = tirx.decl_buffer(self.sums.shape, self.sums.dtype, f"{self.sums.name}_held", scope="local")
        hold = [tirx.BufferStore(held, tirx.BufferLoad(self.sums, part.indices), part.indices) for part in self.start]
        results = [_reading(part, self.sums, held) for part in self.results]
        before = [substitute(part, {loop.loop_var: loop.loop_var - 1}) for part in results]
        round: list[Any] = [*self.start]
        done = 0
        for piece, store in enumerate(before, 1):
            until = steps * piece // (len(before) + 1)
            round += [*self._steps(done, until), store]
            done = until
        round += [*self._steps(done, steps), *hold]
        first = [substitute(part, {loop.loop_var: loop.min}) for part in (*self.start, self.products, *hold)]
        last = [substitute(part, {loop.loop_var: loop.min + loop.extent - 1}) for part in results]
        others = loop_over(loop, loop.min + 1, loop.extent - 1, tirx.stmt.SeqStmt(round))
        return tirx.stmt.SeqStmt([tirx.AllocBuffer(held), *first, others, *last])

    def _steps(self, start: int, end: int) -> list[Any]:
        """The loop over some of the products, if any."""
        products = self.products
        return [loop_over(products, products.min + start, end - start, products.body)] if start < end else []


def _reading(part: Any, sums: Any, held: Any) -> Any:
    """A statement that reads ``held`` instead of ``sums``."""

    def load(node: Any, mutator: Any) -> Any:
        return tirx.BufferLoad(held, node.indices) if node.source.same_as(sums) else mutator.default_mutate(node)

    return mutate(part, (Load, load))
