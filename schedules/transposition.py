"""Transposes of bytes: tiles go through registers, so that nothing is read or written byte by byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqc.ir import Op
from sqc.schedules.axes import PARALLEL_CYCLES
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function, Schedule

CYCLES = 0.15
"""About what a byte takes, in cache."""

TILE = 16
"""Rows and columns of a tile; see :mod:`sqc.schedules.intrinsics.transposed_tile`."""


@dataclass(frozen=True)
class Transposition:
    """``x[shape]`` with its axes in the order ``perm``, which ends with another axis than the last."""

    shape: tuple[int, ...]
    perm: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(ops: Sequence[Op]) -> Transposition | None:
        """What a chain of transposes and reshapes does, with as few axes as possible.

        None if it does more than that, keeps the last axis, is too small for a tile or too entangled.
        """
        dtype = ops[-1].result.type.dtype
        axes = _moved_axes(ops) if dtype in ("uint8", "int8") else None
        if not axes:
            return None
        source = sorted(axes, key=lambda axis: -axis[1])
        perm = tuple(map(source.index, axes))
        last = len(perm) - 1
        row, column = perm[-1], perm.index(last)
        if row == last or last - row > 2 or last - column > 2 or min(axes[-1][0], source[-1][0]) < TILE:
            return None
        return Transposition(tuple(extent for extent, _ in source), perm, dtype)

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
        for axis in (row, column):
            sch, whole, order = _cut(sch, whole, order, axis)
        loops = dict(zip(order, sch.get_loops(sch.get_sblock(whole)), strict=True))
        rows, columns = (sch.split(loops.pop(axis), [None, TILE]) for axis in (row, column))
        # Lines that a tile writes in part are still at hand when the next tile of the inner loop fills them up.
        tiles = [rows[0], columns[0]] if shape[perm[row]] > shape[-1] else [columns[0], rows[0]]
        others = [loops[axis] for axis in sorted(loops)]
        sch.reorder(*others, *tiles, columns[1], rows[1])
        sch.tensorize(columns[1], register_transposed_tile(self.dtype))
        if CYCLES * math.prod(shape) >= PARALLEL_CYCLES:
            sch.parallel(sch.fuse(*others, tiles[0]))
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


def _cut(sch: Schedule, block: str, order: list[int], axis: int) -> tuple[Schedule, str, list[int]]:
    """The schedule with ``block``, whose loops run over axes in ``order``, cut where whole tiles along ``axis`` end.

    Returns also the name of the part with whole tiles, and the order of its loops.
    """
    from sqc.schedules._tvm import loops_from_zero, tell_accesses

    loops = dict(zip(order, sch.get_loops(sch.get_sblock(block)), strict=True))
    loop = loops[axis]
    extent, variable = sch.get(loop).extent.value, sch.get(loop).loop_var.name
    if extent % TILE == 0:
        return sch, block, order
    # Only the outermost loop leaves no loops that both parts share.
    order = [axis, *(other for other in order if other != axis)]
    sch.reorder(*(loops[i] for i in order))
    sch.loop_partition(loop, [extent // TILE * TILE, None])
    sch, whole = loops_from_zero(sch), f"{block}_{variable}0"
    tell_accesses(sch, whole)
    return sch, whole, order


def _moved_axes(ops: Sequence[Op]) -> list[tuple[int, int]] | None:
    """The axes of the result, merged, each with its extent and the distance of its elements in the operand."""
    shape = ops[0].operands[0].type.shape
    axes = [[(extent, math.prod(shape[axis + 1 :]))] for axis, extent in enumerate(shape)]
    for op in ops:
        if op.kind == "transpose":
            axes = [axes[axis] for axis in op.integers("perm")]
        elif op.kind == "reshape":
            split = _split([part for axis in axes for part in axis], op.result.type.shape)
            if split is None:
                return None
            axes = split
        else:
            return None
    merged: list[tuple[int, int]] = []
    for extent, stride in (part for axis in axes for part in axis if part[0] > 1):
        if merged and merged[-1][1] == extent * stride:
            merged[-1] = merged[-1][0] * extent, stride
        else:
            merged.append((extent, stride))
    return merged


def _split(parts: list[tuple[int, int]], shape: Sequence[int]) -> list[list[tuple[int, int]]] | None:
    """The parts of each axis of ``shape``, which reshapes them; None if an axis ends within what cannot be divided."""
    left = [part for part in parts if part[0] > 1]
    result = []
    for wanted in shape:
        axis = []
        while wanted > 1:
            extent, stride = left.pop(0)
            taken = math.gcd(extent, wanted)
            if taken not in (extent, wanted):
                return None
            if taken < extent:
                left.insert(0, (extent // taken, stride))
            axis.append((taken, stride * (extent // taken)))
            wanted //= taken
        result.append(axis)
    return result


def lower_transposition(pattern: Pattern, target: Target) -> Kernel | None:
    """A kernel for transposes and reshapes of bytes, or None where tiles are of no use."""
    problem = Transposition.of([pattern.anchor, *pattern.tail])
    if problem is None:
        return None
    (x,) = pattern.operand.values()
    return Kernel(problem, target, (x,), pattern.result, lambda constants: [])
