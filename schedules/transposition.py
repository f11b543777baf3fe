"""Transposes: tiles of bytes go through registers, so that nothing is read or written byte by byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.ir import Op
from sqc.ops.movement import TILE, moved_axes, ordered, turned_axes
from sqc.schedules.axes import PARALLEL_CYCLES
from sqc.schedules.chain import Chain, Step
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function, Schedule

_LINE = 64
"""Bytes of a cache line."""

CYCLES = 0.15
"""About what a byte takes, in cache."""


@dataclass(frozen=True)
class Transposition:
    """``x[shape]`` with its axes in the order ``perm``, which ends with another axis than the last."""

    shape: tuple[int, ...]
    perm: tuple[int, ...]
    dtype: str

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te
        from sqc.schedules.intrinsics.transposed_tile import register_transposed_tile

        shape, perm = self._tiled_axes()
        x = te.placeholder(shape, self.dtype, name="x")
        place = [perm.index(axis) for axis in range(len(perm))]
        out = te.compute([shape[axis] for axis in perm], lambda *index: x(*(index[i] for i in place)), name="out")
        row, column = len(perm) - 1, place[-1]
        sch, whole = Schedule(function([x, out])), "out"
        order = list(range(len(perm)))
        sizes = {row: min(shape[perm[row]], TILE), column: min(shape[-1], TILE)}
        for axis, size in sizes.items():
            sch, whole, order = _cut(sch, whole, order, axis, size)
        loops = dict(zip(order, sch.get_loops(sch.get_sblock(whole)), strict=True))
        rows, columns = (sch.split(loops.pop(axis), [None, size]) for axis, size in sizes.items())
        others = [loops[axis] for axis in sorted(loops)]
        sch.reorder(*others, rows[0], columns[0], columns[1], rows[1])
        sch.tensorize(columns[1], register_transposed_tile(self.dtype, sizes[row], sizes[column]))
        # Blocks of tiles read and write whole lines, which are at hand until they are complete.
        rows, columns = (sch.split(tiles[0], [None, _LINE // TILE]) for tiles in (rows, columns))
        blocks = [rows[0], columns[0]] if shape[perm[row]] > shape[-1] else [columns[0], rows[0]]
        sch.reorder(*blocks, columns[1], rows[1])
        if CYCLES * math.prod(shape) >= PARALLEL_CYCLES:
            sch.parallel(sch.fuse(*others, blocks[0]))
        return sch.mod["main"]

    def _tiled_axes(self) -> tuple[list[int], list[int]]:
        """Shape and order with one axis, perhaps of extent 1, between the two that make up tiles, before and after."""
        shape, perm = list(self.shape), list(self.perm)
        if perm[-1] == len(shape) - 2:
            shape.insert(len(shape) - 1, 1)
            perm = [len(shape) - 2, *(axis + (axis == len(shape) - 2) for axis in perm)]
        if perm[-2] == len(shape) - 1:
            shape.insert(0, 1)
            perm = [axis + 1 for axis in perm]
            perm.insert(len(perm) - 1, 0)
        return shape, perm


def _cut(sch: Schedule, block: str, order: list[int], axis: int, size: int) -> tuple[Schedule, str, list[int]]:
    """The schedule with ``block``, whose loops are over axes in ``order``, cut where tiles of ``size`` on ``axis`` end.

    Returns also the name of the part with whole tiles, and the order of its loops.
    """
    from sqc.schedules._tvm import loops_from_zero, tell_accesses

    loops = dict(zip(order, sch.get_loops(sch.get_sblock(block)), strict=True))
    loop = loops[axis]
    extent, variable = sch.get(loop).extent.value, sch.get(loop).loop_var.name
    if extent % size == 0:
        return sch, block, order
    # Only the outermost loop leaves no loops that both parts share.
    order = [axis, *(other for other in order if other != axis)]
    sch.reorder(*(loops[i] for i in order))
    sch.loop_partition(loop, [extent // size * size, None])
    sch, whole = loops_from_zero(sch), f"{block}_{variable}0"
    tell_accesses(sch, whole)
    return sch, whole, order


def _problem(ops: Sequence[Op]) -> Transposition | Chain | None:
    dtype = ops[-1].result.type.dtype
    if turned := turned_axes(ops):
        return Transposition(*turned, dtype)
    axes = moved_axes(ops)
    if not axes or axes[-1][1] != 1:
        return None
    shape, perm = ordered(axes)
    moved = Step("transpose", (0,), tuple(shape[axis] for axis in perm), dtype, (("perm", perm),), 0, 0)
    return Chain(((shape, dtype),), (moved,))


def lower_transposition(pattern: Pattern, target: Target) -> Kernel | None:
    """A kernel for transposes and reshapes: of bytes by tiles, of rows that stay whole by copying these; or None."""
    problem = _problem([pattern.anchor, *pattern.tail]) if pattern.result.type.size else None
    if problem is None:
        return None
    return Kernel(problem, target, tuple(pattern.operand.values()), pattern.result, lambda constants: [])
