"""Layer, group and instance normalization of levels or floats: two sums of each group, then one pass over it.

Arrays are seen as ``[outer, rows, groups, columns]``, of which rows and columns are normalized together. Sums run in
sixteen lanes along the columns, or, where there is one, along the groups; those of floats always in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.ops.shapes import normalize_axes
from sqc.schedules.axes import PARALLEL_CYCLES, vector_width
from sqc.schedules.kernel import Kernel
from sqc.schedules.levels import level_limits, to_levels
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Schedule, Tensor

LANES = 16


@dataclass(frozen=True)
class Normalize:
    """``parameter_rows`` is 1 where gamma and beta are the same in all rows, else ``rows``."""

    outer: int
    rows: int
    groups: int
    columns: int
    parameter_rows: int
    dtype: str

    @property
    def size(self) -> int:
        """How many elements are normalized together."""
        return self.rows * self.columns

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te

        shape = (self.outer, self.rows, self.groups, self.columns)
        x = te.placeholder(shape, self.dtype, name="x")
        parameters = [
            te.placeholder((self.parameter_rows, self.groups, self.columns), "float32", name=name)
            for name in ("gamma", "beta")
        ]
        levels = self.dtype == "uint8"
        integers = te.placeholder((3,), "int32", name="integers")
        scales = te.placeholder((1,), "float32", name="scales")
        out = self._levels(x, parameters, integers, scales) if levels else self._floats(x, parameters, scales)
        arguments = [x, *parameters, *([integers] if levels else []), scales, out]
        return self._schedule(Schedule(function(arguments)))

    def _levels(self, x: Tensor, parameters: Sequence[Tensor], integers: Tensor, scales: Tensor) -> Tensor:
        from sqc.schedules._tvm import fence, te

        squares = "int32" if self.size * 255 * 255 < 2**31 else "int64"
        total = self._sum(lambda *i: x(*i).astype("int32"), "total")
        square = self._sum(lambda *i: _squared(x(*i)).astype(squares), "square")

        def inverse(o: Expr, g: Expr) -> Expr:
            wide = total(o, g).astype("int64")
            spread = square(o, g).astype("int64") * te.const(self.size, "int64") - wide * wide
            return te.const(1.0, "float32") / te.sqrt(spread.astype("float32") + scales(0))

        factor = te.compute((self.outer, self.groups), inverse, name="factor")

        def element(o: Expr, r: Expr, g: Expr, c: Expr) -> Expr:
            deviation = (x(o, r, g, c).astype("int32") * self.size - total(o, g)).astype("float32")
            gamma, beta = (tensor(r if self.parameter_rows > 1 else 0, g, c) for tensor in parameters)
            return to_levels(fence(fence(fence(deviation * factor(o, g)) * gamma) + beta), integers)

        return te.compute(x.shape, element, name="out")

    def _floats(self, x: Tensor, parameters: Sequence[Tensor], scales: Tensor) -> Tensor:
        from sqc.schedules._tvm import fence, te

        size = te.const(float(self.size), "float32")
        total = self._sum(lambda *i: x(*i), "total")
        mean = te.compute((self.outer, self.groups), lambda o, g: total(o, g) / size, name="mean")

        def squared(o: Expr, r: Expr, g: Expr, c: Expr) -> Expr:
            centred = x(o, r, g, c) - mean(o, g)
            return fence(centred * centred)

        square = self._sum(squared, "square")
        factor = te.compute(
            (self.outer, self.groups), lambda o, g: te.sqrt(square(o, g) / size + scales(0)), name="factor"
        )

        def element(o: Expr, r: Expr, g: Expr, c: Expr) -> Expr:
            gamma, beta = (tensor(r if self.parameter_rows > 1 else 0, g, c) for tensor in parameters)
            return fence(gamma * ((x(o, r, g, c) - mean(o, g)) / factor(o, g))) + beta

        return te.compute(x.shape, element, name="out")

    @property
    def whole(self) -> int:
        """The columns that fill vectors."""
        return self.columns // LANES * LANES

    def _sum(self, element: Expr, name: str) -> Tensor:
        """``element`` summed over rows and columns: in lanes over whole vectors of columns, then the other columns."""
        from sqc.schedules._tvm import te

        shape = (self.outer, self.groups)
        parts = []
        if self.whole:
            r, k = te.reduce_axis((0, self.rows), "r"), te.reduce_axis((0, self.whole // LANES), "k")
            lanes = te.compute(
                (*shape, LANES),
                lambda o, g, lane: te.sum(element(o, r, g, k * LANES + lane), [r, k]),
                name=f"{name}_lanes",
            )
            lane = te.reduce_axis((0, LANES), "lane")
            parts.append(te.compute(shape, lambda o, g: te.sum(lanes(o, g, lane), [lane]), name=f"{name}_whole"))
        if self.columns > self.whole:
            i, c = te.reduce_axis((0, self.rows), "i"), te.reduce_axis((0, self.columns - self.whole), "c")
            rest = te.compute(shape, lambda o, g: te.sum(element(o, i, g, c + self.whole), [i, c]), name=f"{name}_rest")
            parts.append(rest)
        if len(parts) == 1:
            return parts[0]
        return te.compute(shape, lambda o, g: parts[0](o, g) + parts[1](o, g), name=name)

    def _stages(self) -> list[str]:
        """The names of the stages before the last, in order."""
        suffixes = ["_lanes", "_whole"] if self.whole else []
        suffixes += ["_rest"] if self.columns > self.whole else []
        suffixes += [""] if len(suffixes) == 3 else []
        mean = ["mean"] if self.dtype == "float32" else []
        return [f"total{s}" for s in suffixes] + mean + [f"square{s}" for s in suffixes] + ["factor"]

    def _schedule(self, schedule: Schedule) -> Function:
        """One task an outer index; within it vectors over columns, or over groups if there is one column."""
        along_groups = self.columns == 1
        width = vector_width(self.groups if along_groups else self.columns)
        task, _, group, column = schedule.get_loops(schedule.get_sblock("out"))
        for name in reversed(self._stages()):
            block = schedule.get_sblock(name)
            schedule.compute_at(block, task, preserve_unit_loops=True)
            if self.groups * LANES <= 1 << 11:  # small enough for the stack
                schedule.set_scope(block, 0, "local")
            _, inner, *rest = schedule.get_loops(block)[1:]
            if name.endswith("_lanes"):
                lane, *reductions = rest
                schedule.reorder(*reductions, lane)
                schedule.vectorize(lane)
            elif along_groups:
                _, lane = schedule.split(inner, [None, width])
                if rest:
                    schedule.reorder(*rest, lane)
                schedule.vectorize(lane)
        if along_groups:
            schedule.reorder(column, group)
        schedule.vectorize(schedule.split(group if along_groups else column, [None, width])[1])
        if 2 * self.outer * self.groups * self.size >= PARALLEL_CYCLES and self.outer > 1:
            schedule.parallel(task)
        return schedule.mod["main"]


def _squared(level: Expr) -> Expr:
    return level.astype("int32") * level.astype("int32")


@dataclass(frozen=True)
class _Axes:
    """Which axes of the operand become which of the kernel's; axes of extent 1 are in none."""

    outer: tuple[int, ...]
    rows: tuple[int, ...]
    groups: tuple[int, ...]
    columns: tuple[int, ...]

    @staticmethod
    def of(op: Op) -> _Axes:
        """Raises CompileError for axes that lie scattered."""
        x, *parameters = (value.type.shape for value in op.operands)
        reduced = normalize_axes(op.integers("axes"), len(x))
        aligned = [(1,) * (len(x) - len(shape)) + shape for shape in parameters]
        long = [axis for axis, extent in enumerate(x) if extent > 1]
        outer: list[int] = []
        while long and long[0] not in reduced and all(shape[long[0]] == 1 for shape in aligned):
            outer.append(long.pop(0))
        runs = [(inside, tuple(run)) for inside, run in groupby(long, key=lambda axis: axis in reduced)]
        pattern = [inside for inside, _ in runs]
        found = dict(enumerate(run for _, run in runs))
        if pattern in ([True, False], [True, False, True]):
            return _Axes(tuple(outer), found[0], found[1], found.get(2, ()))
        if pattern in ([], [True], [False], [False, True]):
            groups = found[0] if pattern[:1] == [False] else ()
            return _Axes(tuple(outer), (), groups, found[len(runs) - 1] if pattern[-1:] == [True] else ())
        raise CompileError(f"{op.label()} normalizes over axes {list(reduced)} of {list(x)}; put a transpose before it")


def lower_normalize(op: Op, target: Target) -> Kernel:
    """A kernel for ``normalize`` and ``qnormalize``; gamma and beta are constants of it.

    Raises CompileError for axes that lie scattered, and for empty arrays.
    """
    x, *parameters = op.operands
    if not x.type.size:
        raise CompileError(f"{op.label()} works on an empty array; no kernel computes nothing")
    axes, rank = _Axes.of(op), x.type.rank
    outer, rows, groups, columns = (
        math.prod(x.type.shape[axis] for axis in run) for run in (axes.outer, axes.rows, axes.groups, axes.columns)
    )
    same = all(((1,) * rank + value.type.shape)[-rank:][axis] == 1 for value in parameters for axis in axes.rows)
    problem = Normalize(outer, rows, groups, columns, 1 if same else rows, x.type.dtype)

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        inner = tuple(1 if axis in axes.outer else extent for axis, extent in enumerate(x.type.shape))
        packed = [
            np.ascontiguousarray(
                np.broadcast_to(constants[value], inner).reshape(rows, groups, columns)[: problem.parameter_rows],
                np.float32,
            )
            for value in parameters
        ]
        if x.type.dtype == "uint8":
            packed.append(level_limits(op))
        return [*packed, np.array([op.number("epsilon")], np.float32)]

    return Kernel(problem, target, (x,), op.result, pack)
