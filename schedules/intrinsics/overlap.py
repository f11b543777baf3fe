"""Epilogues beside products: what follows the sums of a tile is computed among the products of the next one.

On Zen 5 an epilogue of several operands, which waits for its sums and then for its own steps one after the other, fills
the schedulers before the next tile's products, which could start at once, get in. Spread among them, it takes the
ports that they leave. :func:`overlap_epilogues` is a step of lowering, so kernels know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqc.schedules._tvm import Load, collect, loop_over, mutate, rewrite_nodes, substitute, tirx

LEAST_TILES = 3
"""The first tile's products, and the last one's epilogue, have nothing to overlap with."""

STEPS_BETWEEN = 4
"""The least steps of products between results; LLVM would unroll fewer, and move what they read out of the loop."""

MOST_STEPS = 96
"""Behind more an epilogue hardly shows; and where weights come from far away, products that are cut up are slower."""


def overlap_epilogues(body: Any) -> Any:
    """A lowered body whose loops over tiles compute each epilogue among the products of the next tile."""

    def overlap(loop: Any) -> Any:
        tiles = _tiles(loop)
        return loop if tiles is None else tiles.overlapped()

    return rewrite_nodes(body, tirx.stmt.For, overlap)


def _tiles(loop: Any) -> _Tiles | None:
    """The parts of a loop over tiles: stores that start sums, a loop over products, and stores of results.

    None for any other loop, and where nothing is gained.
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
    if collect(products.body, tirx.stmt.For) or int(products.extent) > MOST_STEPS:
        return None
    segments = min(len(results), int(products.extent) // STEPS_BETWEEN)
    return _Tiles(loop, start, products, results, sums, segments) if segments > 1 else None


@dataclass(frozen=True)
class _Tiles:
    """A loop over tiles, each with ``sums`` of its own."""

    loop: Any
    start: Sequence[Any]
    products: Any
    results: Sequence[Any]
    sums: Any
    segments: int
    """Into how many parts products are cut, with a share of the results behind each."""

    def overlapped(self) -> Any:
        """The loop without its first round; its products come before, its last results after."""
        loop, products = self.loop, self.products
        held = tirx.decl_buffer(self.sums.shape, self.sums.dtype, f"{self.sums.name}_held", scope="local")
        hold = [tirx.BufferStore(held, tirx.BufferLoad(self.sums, part.indices), part.indices) for part in self.start]
        results = [_reading(part, self.sums, held) for part in self.results]
        before = [substitute(part, {loop.loop_var: loop.loop_var - 1}) for part in results]
        round: list[Any] = [*self.start]
        for segment in range(self.segments):
            (start, end), share = (
                (count * segment // self.segments, count * (segment + 1) // self.segments)
                for count in (int(products.extent), len(before))
            )
            part = loop_over(products, products.min + start, end - start, products.body)
            round += [part, *before[slice(*share)]]
        round += hold
        first = [substitute(part, {loop.loop_var: loop.min}) for part in (*self.start, products, *hold)]
        last = [substitute(part, {loop.loop_var: loop.min + loop.extent - 1}) for part in results]
        others = loop_over(loop, loop.min + 1, loop.extent - 1, tirx.stmt.SeqStmt(round))
        return tirx.stmt.SeqStmt([tirx.AllocBuffer(held), *first, others, *last])


def _reading(part: Any, sums: Any, held: Any) -> Any:
    """A statement that reads ``held`` instead of ``sums``."""

    def load(node: Any, mutator: Any) -> Any:
        return tirx.BufferLoad(held, node.indices) if node.source.same_as(sums) else mutator.default_mutate(node)

    return mutate(part, (Load, load))
