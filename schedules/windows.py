"""Pooling and reductions as views: small windows unrolled into expressions, large ones as a stage called ``acc``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.ops.shapes import normalize_axes
from sqc.schedules._tvm import Schedule, te, tirx
from sqc.schedules.axes import PARALLEL_CYCLES, UNROLLED
from sqc.schedules.chain import Numbers, Step
from sqc.schedules.functions import bind, constant
from sqc.schedules.views import Index, Shape, View, all_of, transpose

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function


@dataclass(frozen=True)
class Axis:
    """One windowed axis: where taps lie in the operand, and which of them exist."""

    extent: int
    kernel: int
    stride: int
    before: int
    dilation: int
    outputs: int

    @property
    def reaches_low(self) -> bool:
        return self.before > 0

    @property
    def reaches_high(self) -> bool:
        return (self.outputs - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation >= self.extent

    @property
    def clamps(self) -> bool:
        """Whether every window holds the tap that a missing one becomes when its position is clamped."""
        last = (self.outputs - 1) * self.stride - self.before
        return self.dilation == 1 and self.before < self.kernel and last < self.extent

    def position(self, output: Expr, tap: Expr) -> Expr:
        return output * self.stride + tap * self.dilation - self.before

    def clamped(self, position: Expr) -> Expr:
        position = te.max(position, 0) if self.reaches_low else position
        return te.min(position, self.extent - 1) if self.reaches_high else position

    def inside(self, position: Expr) -> list[Expr]:
        """The conditions for a tap to exist; none if it always does."""
        low = [position >= 0] if self.reaches_low else []
        return low + ([position < self.extent] if self.reaches_high else [])

    def count(self, output: Expr) -> Expr:
        """How many taps exist."""
        if not (self.reaches_low or self.reaches_high):
            return self.kernel
        flags = [all_of(self.inside(self.position(output, tap))) for tap in range(self.kernel)]
        # Not a cast: TVM's analyzer fails at vectors of those.
        one, zero = te.const(1, "int32"), te.const(0, "int32")
        counts = [int(flag) if isinstance(flag, bool) else tirx.Select(flag, one, zero) for flag in flags]
        return sum(counts[1:], counts[0])


def pool(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    """``max_pool``, ``average_pool`` and ``qsum_pool``."""
    channels_first = step["layout"] == "NCHW"
    x = transpose(sources[0], (0, 2, 3, 1)) if channels_first else sources[0]
    shape = tuple(step.shape[i] for i in (0, 2, 3, 1)) if channels_first else step.shape
    kernel, strides, pads, dilations = step["kernel"], step["strides"], step["pads"], step["dilations"]
    rows, columns = (Axis(x.shape[1 + i], kernel[i], strides[i], pads[i], dilations[i], shape[1 + i]) for i in range(2))
    maximum = step.kind == "max_pool"
    total = _window(x, shape, rows, columns, maximum)
    if maximum:
        return transpose(total, (0, 3, 1, 2)) if channels_first else total

    def read(index: Index) -> Expr:
        value = total.read(index).astype(step.dtype)
        taps = rows.count(index[1]) * columns.count(index[2])
        if step.kind == "qsum_pool":
            return value - numbers.integer(0) * taps
        if step["count_include_pad"]:
            return value / constant(float(kernel[0] * kernel[1]))
        return value / (constant(float(taps)) if isinstance(taps, int) else taps.astype("float32"))

    result = View(shape, step.dtype, read)
    return transpose(result, (0, 3, 1, 2)) if channels_first else result


def _window(x: View, shape: Shape, rows: Axis, columns: Axis, maximum: bool) -> View:
    """The maximum or the sum over the windows of an NHWC array; missing taps do not count."""
    unrolled = rows.kernel * columns.kernel <= UNROLLED
    # The sum of a few bytes fits into sixteen bits.
    dtype = x.dtype if maximum or x.dtype == "float32" else "uint16" if unrolled else "int32"
    neutral = te.const((-np.inf if dtype == "float32" else 0) if maximum else 0, dtype)
    clamps = maximum and rows.clamps and columns.clamps

    def tap(index: Index, i: Expr, j: Expr) -> Expr:
        n, oh, ow, c = index
        h, w = rows.position(oh, i), columns.position(ow, j)
        value = x.read((n, rows.clamped(h), columns.clamped(w), c)).astype(dtype)
        inside = True if clamps else all_of(rows.inside(h) + columns.inside(w))
        if isinstance(inside, bool):
            return value if inside else neutral
        # Bound outside of the condition, lest TVM drop the clamp in view of it.
        return bind(value, lambda t: tirx.Select(inside, t, neutral))

    if unrolled:
        taps = [(i, j) for i in range(rows.kernel) for j in range(columns.kernel)]

        def read(index: Index) -> Expr:
            result = tap(index, *taps[0])
            for i, j in taps[1:]:
                result = te.max(result, tap(index, i, j)) if maximum else result + tap(index, i, j)
            return result

        return View(shape, dtype, read)
    i, j = te.reduce_axis((0, rows.kernel), "i"), te.reduce_axis((0, columns.kernel), "j")
    reduce = te.max if maximum else te.sum
    acc = te.compute(shape, lambda *index: reduce(tap(index, i, j), [i, j]), name="acc")
    return View.of(acc, shape, dtype)


def reduction(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    """``reduce_mean`` and ``qreduce_sum``."""
    (x,) = sources
    axes = normalize_axes(step["axes"], len(x.shape))
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    inner = {axis: te.reduce_axis((0, x.shape[axis]), f"r{axis}") for axis in axes}
    count = math.prod(x.shape[axis] for axis in axes)
    acc_type = "float32" if step.kind == "reduce_mean" else "int32"

    def element(*index: Expr) -> Expr:
        outer = dict(zip(kept, index, strict=True)) if kept else {}
        return te.sum(
            x.read([inner[i] if i in inner else outer[i] for i in range(len(x.shape))]).astype(acc_type),
            [inner[axis] for axis in axes],
        )

    shape = tuple(x.shape[axis] for axis in kept) or (1,)
    acc = te.compute(shape, element if axes else lambda *index: x.read(index).astype(acc_type), name="acc")

    def read(index: Index) -> Expr:
        outer = [index[axis] for axis in kept] if step["keepdims"] else list(index)
        total = acc(*(outer or [0]))
        return total / constant(float(count)) if acc_type == "float32" else total - numbers.integer(0) * count

    return View(step.shape, step.dtype, read)


def schedule_reduction(schedule: Schedule, cycles: float) -> Function:
    """Reduce one tile of ``out``'s last axis after the other, each in vector registers, in the order of the taps."""
    acc, out = schedule.get_sblock("acc"), schedule.get_sblock("out")
    *outer, last = schedule.get_loops(out)
    types = [schedule.get(loop) for loop in schedule.get_loops(acc)]
    kinds = [iteration.iter_type for iteration in schedule.get(acc).iter_vars]
    spatial = kinds.count(kinds[0]) if kinds[0] == tirx.IterVar.DataPar else 0
    channels = schedule.get(last).extent.value
    in_vectors = spatial > 0 and types[spatial - 1].extent.value == channels
    widths = [width for width in range(1, 65) if channels % width == 0] if in_vectors else [1]
    # LLVM splits vectors of 48 into small pieces.
    tile = max(widths, key=lambda width: (width in (16, 32, 64), width))
    column, lane = schedule.split(last, [None, tile])
    task = schedule.fuse(*outer, column)
    schedule.compute_at(acc, task, preserve_unit_loops=True)
    schedule.set_scope(acc, 0, "local")
    if tile > 1:
        schedule.vectorize(lane)
    loops = schedule.get_loops(acc)[1:]
    reductions = loops[len(loops) - (len(kinds) - spatial) :]
    lanes = loops[: len(loops) - len(reductions)]
    if reductions:
        schedule.reorder(*reductions, *lanes)
    if tile > 1:
        schedule.vectorize(lanes[-1])
    if cycles >= PARALLEL_CYCLES and schedule.get(task).extent.value > 1:
        schedule.parallel(task)
    if reductions:
        schedule.decompose_reduction(acc, reductions[0])
    return schedule.mod["main"]
