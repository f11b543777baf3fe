"""Softmax of levels: exponentials of distances to the largest level come from a table, their sums are integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.schedules.axes import PARALLEL_CYCLES, vector_width
from sqc.schedules.kernel import Kernel
from sqc.schedules.levels import divisor, level_limits, to_levels
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Tensor

WIDTHS = (64, 32, 16)
"""How many bytes are looked up, or reduced, at once."""

PLANES = 3
"""Bytes of an exponential."""

CYCLES = 6
"""About what one element takes."""


@dataclass(frozen=True)
class IntegerSoftmax:
    """Over the middle axis of ``x[outer, extent, inner]``.

    ``planes``: tables of bytes that an exponential comes from, which are shuffles where permutations of bytes are to be
    had; one of int32 else. ``multiplies``: the result's scale is such that :func:`sqc.schedules.functions.quotient`
    divides by it.
    """

    outer: int
    extent: int
    inner: int
    planes: int
    multiplies: bool

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te
        from sqc.schedules.functions import constant, quotient

        x = te.placeholder((self.outer, self.extent, self.inner), "uint8", name="x")
        dtype = "uint8" if self.planes > 1 else "int32"
        planes = [te.placeholder((256,), dtype, name=f"plane{i}") for i in range(self.planes)]
        integers = te.placeholder((3,), "int32", name="integers")
        scales = te.placeholder((1 + self.multiplies,), "float32", name="scales")
        largest, before = self._reduced(x, x.dtype, "largest")

        def power(o: Expr, p: Expr, i: Expr) -> Expr:
            distance = (largest(o, i) - x(o, p, i)).astype("int32")
            parts = [plane(distance).astype("int32") << 8 * number for number, plane in enumerate(planes)]
            return sum(parts[1:], parts[0])

        powers = te.compute(x.shape, power, name="powers")
        # Each power is at most 2**23.
        sums = "int32" if self.extent < 256 else "int64"
        total, between = self._reduced(powers, sums, "total")
        wide = te.compute(total.shape, lambda o, i: total(o, i).astype("float32"), name="wide")
        inverse = te.compute(total.shape, lambda o, i: constant(1.0) / wide(o, i), name="inverse")

        def element(o: Expr, p: Expr, i: Expr) -> Expr:
            share = quotient(powers(o, p, i).astype("float32"), wide(o, i), inverse(o, i))
            level = quotient(share, scales(0), scales(1)) if self.multiplies else share / scales(0)
            return to_levels(level, integers)

        out = te.compute(x.shape, element, name="out")
        schedule = Schedule(function([x, *planes, integers, scales, out]))
        task, position, column = schedule.get_loops(schedule.get_sblock("out"))
        along_columns = self.inner > 1
        width = vector_width(self.inner if along_columns else self.extent)
        for name in reversed([*before, "powers", *between, "wide", "inverse"]):
            block = schedule.get_sblock(name)
            schedule.compute_at(block, task, preserve_unit_loops=True)
            if self.extent * self.inner <= 1 << 13:  # small enough for the stack
                schedule.set_scope(block, 0, "local")
            loops = schedule.get_loops(block)[2:]
            if name == "powers":
                if self.planes > 1:
                    loop = loops[1] if along_columns else loops[0]
                    fitting = next((count for count in WIDTHS if schedule.get(loop).extent.value % count == 0), 1)
                    schedule.vectorize(schedule.split(loop, [None, fitting])[1])
            elif along_columns or len(before) > 1:
                column_loop, *reduced = loops
                lane = schedule.split(column_loop, [None, width])[1] if along_columns else column_loop
                if reduced:
                    schedule.reorder(*reduced, lane)
                schedule.vectorize(lane)
        schedule.vectorize(schedule.split(column if along_columns else position, [None, width])[1])
        if CYCLES * self.outer * self.extent * self.inner >= PARALLEL_CYCLES and self.outer > 1:
            schedule.parallel(task)
        return schedule.mod["main"]

    def _reduced(self, x: Tensor, dtype: str, name: str) -> tuple[Tensor, list[str]]:
        """The ``largest`` or the ``total`` over the middle axis of ``x``, and the names of the stages to it.

        Neighbours are reduced side by side, then by halves, if they fill vectors.
        """
        from sqc.schedules._tvm import te

        reduce = te.max if name == "largest" else te.sum
        lanes = next((count for count in WIDTHS if self.inner == 1 and self.extent % count == 0), 1)
        k = te.reduce_axis((0, self.extent // lanes), "k")
        part = te.compute(
            (self.outer, lanes * self.inner),
            lambda o, i: reduce(x(o, k * lanes + i, 0).astype(dtype) if lanes > 1 else x(o, k, i).astype(dtype), [k]),
            name=name if lanes == 1 else f"{name}{lanes}",
        )
        parts = [part]
        while lanes > 1:
            lanes //= 2
            parts.append(_halved(parts[-1], lanes, name if lanes == 1 else f"{name}{lanes}"))
        return parts[-1], [part.op.name for part in parts]


def _halved(x: Tensor, half: int, name: str) -> Tensor:
    """``x[outer, 2 * half]`` with one half put upon the other: the larger ones, or the sums."""
    from sqc.schedules._tvm import te

    def both(o: Expr, i: Expr) -> Expr:
        a, b = x(o, i), x(o, i + half)
        return te.max(a, b) if name.startswith("largest") else a + b

    return te.compute((x.shape[0], half), both, name=name)


def lower_integer_softmax(op: Op, target: Target) -> Kernel:
    """A kernel for ``qsoftmax``. Raises CompileError for an empty array, when packed for exponentials beyond 2**23."""
    x, table = op.operands
    shape = x.type.shape
    if not x.type.size:
        raise CompileError(f"{op.label()} works on an empty array; no kernel computes nothing")
    axis = op.integer("axis") % len(shape)
    scales = divisor(op.number("scale"))
    planes = PLANES if target.permutes_bytes else 1
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    problem = IntegerSoftmax(outer, shape[axis], inner, planes, multiplies=len(scales) > 1)

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        powers = constants[table]
        if powers.min() < 0 or powers.max() > 2**23:
            raise CompileError(f"{op.label()} has exponentials outside of [0, 2**23], for which there is no kernel")
        parts = [(powers >> 8 * i).astype(np.uint8) for i in range(planes)] if planes > 1 else [powers]
        return [*parts, level_limits(op), np.array(scales, np.float32)]

    return Kernel(problem, target, (x,), op.result, pack)
