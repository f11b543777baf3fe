"""Arrays that are computed when they are read: the operators that only move elements, as functions of the index.

A :class:`View` composes: a chain of operators becomes one expression of the output's index, with nothing in between.
Indices are TVM expressions or plain integers; conditions that are known at once leave no trace in the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Tensor

Shape: TypeAlias = tuple[int, ...]
Index: TypeAlias = "Sequence[Expr]"


@dataclass(frozen=True)
class View:
    """An array of ``shape`` and ``dtype`` whose element at an index is ``read(index)``."""

    shape: Shape
    dtype: str
    read: Callable[[Index], Expr]

    @staticmethod
    def of(tensor: Tensor, shape: Shape, dtype: str) -> View:
        """A view of a ``te`` tensor of that shape."""
        return View(shape, dtype, lambda index: tensor(*index))

    def cast(self, dtype: str) -> View:
        """The same elements, converted."""
        return self if dtype == self.dtype else View(self.shape, dtype, lambda index: self.read(index).astype(dtype))

    def broadcast(self, shape: Shape) -> Callable[[Index], Expr]:
        """How to read this array for an index of ``shape``, to which it broadcasts as in numpy."""
        skipped = len(shape) - len(self.shape)
        return lambda index: self.read(
            [i if extent > 1 else 0 for i, extent in zip(index[skipped:], self.shape, strict=True)]
        )


def reshape(x: View, shape: Shape) -> View:
    """The same elements in the same order. Axes that both shapes share stay free of divisions."""
    groups = list(_common_groups(x.shape, shape))

    def read(index: Index) -> Expr:
        source: list[Expr] = [0] * len(x.shape)
        for old, new in groups:
            linear: Expr = 0
            for axis in new:
                linear = linear * shape[axis] + index[axis]
            for position, axis in reversed(list(enumerate(old))):
                source[axis] = linear % x.shape[axis] if position else linear
                linear = linear // x.shape[axis]
        return x.read(source)

    return View(shape, x.dtype, read)


def _common_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest grouping of axes (but those of extent 1) whose groups have as many elements in both shapes."""
    groups: list[tuple[list[int], list[int]]] = []
    left = [axis for axis, extent in enumerate(old) if extent != 1]
    right = [axis for axis, extent in enumerate(new) if extent != 1]
    while left and right:
        group = ([left.pop(0)], [right.pop(0)])
        while (a := math.prod(old[i] for i in group[0])) != (b := math.prod(new[i] for i in group[1])):
            if a < b:
                group[0].append(left.pop(0))
            else:
                group[1].append(right.pop(0))
        groups.append(group)
    return groups


def transpose(x: View, perm: Sequence[int]) -> View:
    def read(index: Index) -> Expr:
        source: list[Expr] = [0] * len(perm)
        for position, axis in enumerate(perm):
            source[axis] = index[position]
        return x.read(source)

    return View(tuple(x.shape[axis] for axis in perm), x.dtype, read)


def strided_slice(x: View, shape: Shape, starts: Sequence[int], steps: Sequence[int]) -> View:
    """From ``starts`` on, in ``steps``; one of each for every axis."""
    return View(
        shape,
        x.dtype,
        lambda index: x.read([start + i * step for i, start, step in zip(index, starts, steps, strict=True)]),
    )


def gather(x: View, indices: View, axis: int, shape: Shape) -> View:
    """Slices of ``x`` along ``axis``; an index beyond its ends reads the first or the last one."""
    from sqc.schedules._tvm import te, tirx

    extent, rank = x.shape[axis], len(indices.shape)

    def read(index: Index) -> Expr:
        place = indices.read(index[axis : axis + rank])
        place = te.max(te.min(tirx.Select(place < 0, place + extent, place), extent - 1), 0).astype("int32")
        return x.read([*index[:axis], place, *index[axis + rank :]])

    return View(shape, x.dtype, read)


def interpolate(x: View, places: View, weights: View, axis: int) -> View:
    """Sums of elements along ``axis``, from left to right, each product and each sum rounded by itself."""
    from sqc.schedules._tvm import fence, te

    count, taps = places.shape
    rounded = fence if x.dtype == "float32" else lambda value: value

    def read(index: Index) -> Expr:
        total: Expr = None
        for tap in range(taps):
            place = te.max(te.min(places.read((index[axis], tap)), x.shape[axis] - 1), 0)
            product = rounded(x.read([*index[:axis], place, *index[axis + 1 :]]) * weights.read((index[axis], tap)))
            total = product if total is None else rounded(total + product)
        return total

    return View((*x.shape[:axis], count, *x.shape[axis + 1 :]), x.dtype, read)


def pad(x: View, before: Sequence[int], after: Sequence[int], value: Expr) -> View:
    """``value`` around ``x``."""
    from sqc.schedules._tvm import te

    shape = tuple(b + extent + a for b, extent, a in zip(before, x.shape, after, strict=True))

    def read(index: Index) -> Expr:
        source = [i - b if b else i for i, b in zip(index, before, strict=True)]
        inside = bounds(source, x.shape, [b > 0 for b in before], [a > 0 for a in after])
        if inside is False:
            return value
        return x.read(source) if inside is True else te.if_then_else(inside, x.read(source), value)

    return View(shape, x.dtype, read)


def bounds(index: Index, shape: Shape, low: Sequence[bool], high: Sequence[bool]) -> Expr:
    """Whether ``index`` lies inside ``shape``, as an expression or a bool; looks where ``low`` and ``high`` say so."""
    conditions = [i >= 0 for i, check in zip(index, low, strict=True) if check]
    return all_of(conditions + [i < extent for i, extent, check in zip(index, shape, high, strict=True) if check])


def all_of(conditions: Sequence[Expr]) -> Expr:
    """Whether all conditions hold: an expression, or a bool where indices are plain integers."""
    from sqc.schedules._tvm import te

    unknown = [condition for condition in conditions if not isinstance(condition, bool)]
    if False in [condition for condition in conditions if isinstance(condition, bool)]:
        return False
    return te.all(*unknown) if unknown else True


def concatenate(xs: Sequence[View], axis: int) -> View:
    """The arrays one after another along ``axis``."""
    from sqc.schedules._tvm import te

    starts = [sum(x.shape[axis] for x in xs[:i]) for i in range(len(xs))]

    def part(number: int, index: Index) -> Expr:
        source = list(index)
        source[axis] = index[axis] - starts[number]
        return xs[number].read(source)

    def read(index: Index) -> Expr:
        result = part(len(xs) - 1, index)
        for number in reversed(range(len(xs) - 1)):
            before = index[axis] < starts[number + 1]
            if isinstance(before, bool):
                result = part(number, index) if before else result
            else:
                result = te.if_then_else(before, part(number, index), result)
        return result

    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    return View(tuple(shape), xs[0].dtype, read)
