"""Convolutions and fully connected layers in float: for calibration, and for layers that stay in float.

A result is the sum over (row, column, channel) of the kernel in that order, every product and sum rounded by itself,
then the bias: the same bits for any tile, thread count and instruction set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Op, Value
from sqc.schedules.axes import PARALLEL_CYCLES
from sqc.schedules.kernel import Kernel
from sqc.schedules.target import Target
from sqc.schedules.views import Shape, View, pad, transpose

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Schedule

LANES = 16


@dataclass(frozen=True)
class FloatConvolution:
    """``x`` float32 (NHWC, or NCHW if ``channels_first``) by ``outputs`` filters of ``kernel``, and a bias or none."""

    x: Shape
    outputs: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    groups: int
    bias: bool
    channels_first: bool = False

    @property
    def nhwc(self) -> Shape:
        """The shape of ``x`` with the channels last."""
        n, *rest = self.x
        return (n, *rest[1:], rest[0]) if self.channels_first else self.x

    @property
    def extents(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (self.nhwc[1 + i] + self.pads[i] + self.pads[2 + i] - self.dilations[i] * (self.kernel[i] - 1) - 1)
            // self.strides[i]
            + 1
            for i in range(2)
        )
        return height, width

    def tile(self, target: Target) -> tuple[int, int]:
        """Pixels and vectors of channels that are accumulated in registers at a time."""
        width = self.extents[1]
        accumulators = target.registers * target.vector_bytes // (4 * LANES) * 5 // 8
        vectors = 2 if self.outputs > LANES and accumulators >= 16 else 1
        if width < 3:
            vectors = min(4, accumulators, -(-self.outputs // LANES))
        pixels = min(range(1, accumulators // vectors + 1), key=lambda t: (-(-width // t) * (t + 2), -t))
        return pixels, vectors

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, fence, function, te

        n, _, _, channels = self.nhwc
        oh, ow = self.extents
        kh, kw = self.kernel
        depth = channels // self.groups
        pixels, vectors = self.tile(target)
        columns, outputs = _round_up(ow, pixels), _round_up(self.outputs, vectors * LANES)
        x = te.placeholder(self.x, "float32", name="x")
        w = te.placeholder((outputs // LANES, kh, kw, depth, LANES), "float32", name="w")
        bias = te.placeholder((outputs,), "float32", name="bias")
        source = View.of(x, self.x, "float32")
        source = transpose(source, (0, 2, 3, 1)) if self.channels_first else source
        before, after = self._margins(columns, outputs)
        staged = self.channels_first or any((*before, *after))
        if staged:
            padded = pad(source, before, after, te.const(0, "float32"))
            source = View.of(
                te.compute(padded.shape, lambda *index: padded.read(index), name="stage"), padded.shape, "float32"
            )
        i, j = te.reduce_axis((0, kh), "i"), te.reduce_axis((0, kw), "j")
        k = te.reduce_axis((0, depth), "k")

        def product(b: Expr, h: Expr, v: Expr, o: Expr) -> Expr:
            channel = k if self.groups == 1 else o // (self.outputs // self.groups) * depth + k
            row = h * self.strides[0] + i * self.dilations[0]
            column = v * self.strides[1] + j * self.dilations[1]
            return fence(source.read((b, row, column, channel)) * w(o // LANES, i, j, k, o % LANES))

        acc = te.compute((n, oh, columns, outputs), lambda *index: te.sum(product(*index), [i, j, k]), name="acc")
        result = View(
            (n, oh, ow, self.outputs), "float32", lambda at: acc(*at) + bias(at[3]) if self.bias else acc(*at)
        )
        result = transpose(result, (0, 3, 1, 2)) if self.channels_first else result
        out = te.compute(result.shape, lambda *index: result.read(index), name="out")
        schedule = Schedule(function([x, w, bias, out] if self.bias else [x, w, out]))
        self._schedule(schedule, pixels, vectors, staged)
        return schedule.mod["main"]

    def _margins(self, columns: int, outputs: int) -> tuple[list[int], list[int]]:
        """Zeros around ``x``: padding, what a row's last tile reads too much, channels of outputs that are none."""
        _, _, width, channels = self.nhwc
        top, left, bottom, right = self.pads
        needed = (columns - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilations[1] + 1
        groups = -(-outputs // (self.outputs // self.groups)) if self.groups > 1 else 1
        more_channels = max(0, groups * (channels // self.groups) - channels)
        return [0, top, left, 0], [0, bottom, max(right, needed - left - width), more_channels]

    def _schedule(self, schedule: Schedule, pixels: int, vectors: int, staged: bool) -> None:
        acc, out = schedule.get_sblock("acc"), schedule.get_sblock("out")
        n, h, column, o, i, j, k = schedule.get_loops(acc)
        tile, pixel = schedule.split(column, [None, pixels])
        part, vector, lane = schedule.split(o, [None, vectors, LANES])
        schedule.reorder(n, part, h, tile, i, j, k, pixel, vector, lane)
        task = schedule.fuse(n, part, h)
        schedule.reverse_compute_at(out, tile)
        schedule.set_scope(acc, 0, "local")
        if not self.channels_first:
            out_lane = schedule.get_loops(out)[-1]
            if schedule.get(out_lane).extent.value % LANES == 0:
                _, out_lane = schedule.split(out_lane, [None, LANES])
            schedule.vectorize(out_lane)
        for loop in (pixel, vector):
            schedule.unroll(loop)
        schedule.vectorize(lane)
        if staged:
            *outer, last = schedule.get_loops(schedule.get_sblock("stage"))
            schedule.parallel(schedule.fuse(*outer[:2]))
            if (width := math.gcd(schedule.get(last).extent.value, LANES)) > 1 and not self.channels_first:
                schedule.vectorize(schedule.split(last, [None, width])[1])
        products = math.prod((*self.extents, self.outputs, *self.kernel, self.nhwc[3] // self.groups)) * self.x[0]
        if products / 8 >= PARALLEL_CYCLES and schedule.get(task).extent.value > 1:
            schedule.parallel(task)
        init = schedule.decompose_reduction(acc, i)
        for loop in schedule.get_loops(init)[-3:-1]:
            schedule.unroll(loop)

    def pack(self, w: np.ndarray) -> np.ndarray:
        """OIHW weights as ``[O/16][kh][kw][I][16]``, filled up with zeros for any target's tile."""
        outputs = _round_up(self.outputs, 4 * LANES)
        full = np.zeros((outputs, *w.shape[1:]), np.float32)
        full[: self.outputs] = w
        split = full.reshape(outputs // LANES, LANES, *w.shape[1:])
        return np.ascontiguousarray(split.transpose(0, 3, 4, 2, 1))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def lower_float_conv2d(op: Op, target: Target) -> Kernel:
    """A kernel for ``conv2d``."""
    x, w = (value.type.shape for value in op.operands[:2])
    first = op.string("layout") == "NCHW"
    kernel, strides, dilations = ((a[0], a[1]) for a in (w[2:], op.integers("strides"), op.integers("dilations")))
    top, left, bottom, right = op.integers("pads")
    problem = FloatConvolution(
        x, w[0], kernel, strides, (top, left, bottom, right), dilations, op.integer("groups"), len(op.operands) == 3,
        first,
    )  # fmt: skip
    if kernel == strides == (1, 1) and not first and problem.groups == 1 and not any(problem.pads):
        return _lower(op, _pointwise(math.prod(x[:3]), x[3], problem), target)
    return _lower(op, problem, target)


def lower_float_fully_connected(op: Op, target: Target) -> Kernel:
    """A kernel for ``fully_connected``."""
    rows, depth = op.operands[0].type.shape
    like = FloatConvolution(
        (1, 1, rows, depth),
        op.operands[1].type.shape[0],
        (1, 1),
        (1, 1),
        (0, 0, 0, 0),
        (1, 1),
        1,
        len(op.operands) == 3,
    )
    return _lower(op, like, target)


def _pointwise(pixels: int, depth: int, problem: FloatConvolution) -> FloatConvolution:
    """A 1x1 convolution over all pixels as one row."""
    return FloatConvolution(
        (1, 1, pixels, depth), problem.outputs, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, problem.bias
    )


def _lower(op: Op, problem: FloatConvolution, target: Target) -> Kernel:
    x, w, *bias = op.operands

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        weights = constants[w].reshape(problem.outputs, -1, *problem.kernel)
        packed = problem.pack(weights)
        if not bias:
            return [packed]
        full = np.zeros(packed.shape[0] * LANES, np.float32)
        full[: problem.outputs] = constants[bias[0]]
        return [packed, full]

    return Kernel(problem, target, (x,), op.result, pack)
