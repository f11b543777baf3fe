"""Depthwise convolutions, NHWC: a weight for every channel and tap, columns of taps multiplied at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Value
from sqc.schedules.conv2d import Window, stage_pixels
from sqc.schedules.depthwise_columns import column_taps, pack_rows, shared_rows
from sqc.schedules.depthwise_groups import DepthwiseGroups, groups_pay
from sqc.schedules.epilogue import Epilogue
from sqc.schedules.epilogue_values import epilogue_of
from sqc.schedules.intrinsics import LANES, Column, column
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.microkernel import Tile, pack_bias, round_up
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function, Schedule


@dataclass(frozen=True)
class Depthwise:
    """A depthwise convolution of ``batch`` images of ``channels``."""

    batch: int
    window: Window
    channels: int
    epilogue: Epilogue

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import depthwise_tiles

        return depthwise_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, start_sums, te
        from sqc.schedules.microkernel import stage_scope

        weights, window = column(target), self.window
        tile = tile or self.tiles(target)[0]
        kw, (sy, sx), (dy, dx), (oh, ow) = window.kernel[1], window.strides, window.dilations, window.output
        height, width = round_up(oh, tile.block), round_up(ow, tile.rows)
        together, taps = shared_rows(window, weights), column_taps(window, weights)
        channels = round_up(self.channels, weights.lanes * tile.vectors * tile.parts)
        x = te.placeholder((self.batch, *window.input, self.channels), "uint8", name="x")
        filled = round_up(taps, weights.depth)
        w = te.placeholder((channels // weights.lanes, together, kw, weights.lanes, filled), weights.element, name="w")
        bias = te.placeholder((channels,), "int32", name="bias")
        parameters = te.placeholder((1 + self.epilogue.parameter_count,), "int32", name="parameters")
        domain = (self.batch, oh, ow, self.channels)
        inputs = self.epilogue.inputs(domain, target)
        staged = window.pads or (height, width, channels) != (oh, ow, self.channels)
        source = x
        if staged:
            source = stage_pixels(x, window, (height, width), (self.channels, channels), parameters(0), "uint8")
        kx, ky = te.reduce_axis((0, kw), "kx"), te.reduce_axis((0, taps), "ky")
        acc = te.compute(
            (self.batch, height, width, channels),
            lambda b, i, j, c: te.sum(
                source(b, i // together * together * sy + ky * dy, j * sx + kx * dx, c).astype("int32")
                * w(c // weights.lanes, i % together, kx, c % weights.lanes, ky).astype("int32"),
                [kx, ky],
            ),
            name="acc",
        )
        out = te.compute(
            domain,
            lambda b, i, j, c: inputs.apply(acc(b, i, j, c), (b, i, j, c), parameters, 1),
            name="out",
        )
        func = function([x, *inputs.operands, w, bias, *inputs.constants, parameters, out])
        sch = Schedule(start_sums(func, "acc", "bias"))
        size = window.span(tile.block, 0) * window.span(width, 1) * (channels // tile.parts)
        self._schedule(sch, tile, weights, stage_scope(size) if staged else None)
        return sch.mod["main"]

    def numbers(self, zero_point: int) -> tuple[int, ...]:
        """The kernel's own parameters."""
        return (zero_point,)

    def pack(self, w: np.ndarray, bias: np.ndarray, epilogue: list[np.ndarray], target: Target) -> list[np.ndarray]:
        """Weights ``[C, kh, kw]``, biases and constants of the epilogue as the kernel reads them."""
        return [pack_columns(w, self.window, column(target)), pack_bias(bias), *epilogue]

    def _schedule(self, sch: Schedule, tile: Tile, weights: Column, stage: str | None) -> None:
        from sqc.schedules.microkernel import schedule_output, schedule_stage, schedule_start

        acc = sch.get_sblock("acc")
        b, y, x, c, kx, ky = sch.get_loops(acc)
        together = shared_rows(self.window, weights)
        block, row, neighbour = sch.split(y, [None, tile.block // together, together])
        column_tile, pixel = sch.split(x, [None, tile.rows])
        part, channel_tile, vector, lane = sch.split(c, [tile.parts, None, tile.vectors, weights.lanes])
        sch.reorder(b, block, part, row, column_tile, channel_tile, vector, kx, neighbour, pixel, lane, ky)
        task = sch.fuse(b, block, part)
        sch.reverse_compute_at(sch.get_sblock("out"), channel_tile, preserve_unit_loops=True)
        sch.set_scope(acc, 0, "local")
        schedule_output(sch, 3, weights.lanes * tile.vectors)
        if stage:
            schedule_stage(sch, task, stage)
        if sch.get(task).extent.value > 1:
            sch.parallel(task)
        sch.annotate(channel_tile, "pragma_loop_partition_hint", 1)
        schedule_start(sch, sch.decompose_reduction(acc, kx), 3)
        for loop in (vector, kx, neighbour, pixel):
            sch.unroll(loop)
        window = self.window
        intrinsic = weights.register(column_taps(window, weights), window.dilations[0], stage or "global")
        sch.tensorize(lane, intrinsic)


def pack_columns(w: np.ndarray, window: Window, format: Column) -> np.ndarray:
    """Weights ``[C, kh, kw]`` as ``[C/lanes][rows][kw][taps/depth][lanes][depth]``, filled up with zeros.

    The shape is ``[C/lanes][rows][kw][lanes][taps]``: that of the tensor that the intrinsic is described with.
    """
    lanes, depth = format.lanes, format.depth
    full = pack_rows(np.pad(w, ((0, -len(w) % LANES), (0, 0), (0, 0))), window, format)
    channels, rows, kw, taps = full.shape
    split = full.reshape(channels // lanes, lanes, rows, kw, taps // depth, depth).transpose(0, 2, 3, 4, 1, 5)
    return np.ascontiguousarray(split).reshape(channels // lanes, rows, kw, lanes, taps)


def lower_depthwise(pattern: Pattern, target: Target) -> Kernel:
    """A kernel for a ``qconv2d`` in NHWC with as many groups as input and output channels."""
    epilogue, values = epilogue_of(pattern)
    x, w, bias = (pattern.operand[value] for value in pattern.anchor.operands)
    window = Window.of(pattern)
    # Columns have two taps at least (TensorIR drops loops of extent 1); the weights of a second one are zeros.
    window = replace(window, kernel=(max(2, window.kernel[0]), window.kernel[1]))
    batch, _, _, channels = x.type.shape
    problem: Depthwise | DepthwiseGroups = Depthwise(batch, window, channels, epilogue)
    if groups_pay(channels, window.output[1], epilogue, target):
        problem = DepthwiseGroups(batch, window, channels, epilogue)

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        return [
            *problem.pack(constants[w][:, 0], values.starts(constants[bias]), values.pack(constants), target),
            np.array((*problem.numbers(x.type.zero_point), *values.parameters), np.int32),
        ]

    return Kernel(problem, target, (x, *values.activations), pattern.result, pack)
