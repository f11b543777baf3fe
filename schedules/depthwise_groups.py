"""Depthwise convolutions, NHWC, four vectors of channels at a time, whose rows are interleaved by unpacking bytes.

Four rows of as many channels as a register has bytes become four vectors for dot products by eight unpacks, where
:mod:`sqc.schedules.depthwise` interleaves each vector by itself. Sums then stand in another order than channels do, and
so do weights, biases and multipliers; the packs at the end put their results in order by the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.schedules.conv2d import Window
from sqc.schedules.depthwise_columns import column_taps, pack_rows, shared_rows
from sqc.schedules.epilogue import Epilogue, Requantize
from sqc.schedules.intrinsics import column
from sqc.schedules.microkernel import Tile, round_up
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Schedule, Tensor

SCRATCH = 8
"""Registers that interleaving takes beside weights, factors and sums."""

WEIGHT_BYTES = 32_768
"""So many bytes of weights stay in a first cache beside inputs."""

ROW_BYTES = 32_768
"""The most that results of a row, of one group, take before it is known which of them exist."""

LEAST_FILLED = 0.57
"""The share of groups that has to be filled with channels; below, each vector by itself is quicker."""


@dataclass(frozen=True)
class DepthwiseGroups:
    """A depthwise convolution of ``batch`` images of ``channels``, whose results are requantized."""

    batch: int
    window: Window
    channels: int
    epilogue: Epilogue

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import depthwise_group_tiles

        return depthwise_group_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, hide_reads, start_sums, te
        from sqc.schedules.intrinsics.frames import interleaved_channel, interleaved_position
        from sqc.schedules.microkernel import stage_scope

        format, window = column(target), self.window
        tile = tile or self.tiles(target)[0]
        group, joined = group_channels(target), self.joined(target)
        kw, (sy, sx), (dy, dx), (oh, ow) = window.kernel[1], window.strides, window.dilations, window.output
        height, width = round_up(oh, tile.block), round_up(ow // joined, tile.rows)
        together, taps = shared_rows(window, format), column_taps(window, format)
        channels = round_up(joined * self.channels, group)
        part, part_sums = self.channels // tile.parts, channels // tile.parts
        (ih, iw), phases = window.input, self.phases(target)
        x = te.placeholder((self.batch, ih, 1, iw * self.channels), "uint8", name="x")
        filled = round_up(taps, format.depth)
        w = te.placeholder((channels // group, together, kw, group, filled), "int8", name="w")
        bias = te.placeholder((channels,), "int32", name="bias")
        names = ("multipliers", "offsets")[: self._factors]
        factors = [te.placeholder((channels,), "float32", name=name) for name in names]
        parameters = te.placeholder((2 + self.epilogue.parameter_count,), "int32", name="parameters")
        domain = (self.batch, oh, ow // joined, joined * self.channels)
        inputs = self.epilogue.inputs(domain, target)
        source, staged = x, self.stages(tile, target)
        if staged:
            source = self._staged(x, parameters(0), window.span(height, 0), tile, target)

        def activation(b: Expr, i: Expr, j: Expr, p: Expr, kx: Expr) -> Expr:
            in_group = interleaved_channel(p % group, format.lanes)
            if not staged:
                return source(b, i, 0, (j * joined * sx + kx * dx) * self.channels + p // group * group + in_group)
            channel = p % part_sums // group * group + in_group
            if joined == 1:
                return source(b, i, p // part_sums, (j * sx + kx * dx) * part + channel)
            pixel = j * joined + kx * dx // phases
            return source(b, i, kx * dx % phases, pixel * self.channels + channel)

        # LLVM would copy to the stack what all pixels read and registers don't hold; it doesn't see that this is 0.
        hidden = self.by_groups(tile, target) and self.weight_vectors(target) > target.registers

        def offset(j: Expr) -> Expr | int:
            return j // tile.rows * parameters(1) if hidden else 0

        kx, ky = te.reduce_axis((0, kw), "kx"), te.reduce_axis((0, taps), "ky")
        acc = te.compute(
            (self.batch, height, width, channels),
            lambda b, i, j, p: te.sum(
                activation(b, i // together * together * sy + ky * dy, j, p, kx).astype("int32")
                * w(p // group + offset(j), i % together, kx, p % group, ky).astype("int32"),
                [kx, ky],
            ),
            name="acc",
        )
        total = te.compute(
            acc.shape, lambda b, i, j, p: inputs.first_total(acc(b, i, j, p), [f(p) for f in factors]), name="total"
        )
        level = te.compute(
            acc.shape,
            lambda b, i, j, c: inputs.first_level(
                total(b, i, j, c // group * group + interleaved_position(c % group, format.lanes)),
                parameters,
                2,
            ),
            name="level",
        )

        out = te.compute(domain, lambda *index: inputs.after_first(level(*index), index, parameters, 2), name="out")
        func = function([x, *inputs.operands, w, bias, *factors, *inputs.constants[self._factors :], parameters, out])
        func = start_sums(func, "acc", "bias")
        sch = Schedule(hide_reads(func, "acc", "parameters") if hidden else func)
        size = window.span(tile.block, 0) * phases * self.stage_row(tile, target)
        self._schedule(sch, tile, target, stage_scope(size) if staged else None)
        return sch.mod["main"]

    def joined(self, target: Target) -> int:
        """How many neighbouring pixels are computed as one, of as many times the channels."""
        return joined_pixels(self.channels, self.window.output[1], target)

    def phases(self, target: Target) -> int:
        """Into how many rows the pixels of an input row are sorted, so that the strides of outputs leave no gaps."""
        return self.window.strides[1] if self.joined(target) > 1 else 1

    def stages(self, tile: Tile, target: Target) -> bool:
        """Whether inputs are copied first: sorted, padded, or followed by what the last group sees beyond the end."""
        return self.phases(target) > 1 or self.window.pads or not self.is_exact(tile, target)

    def is_exact(self, tile: Tile, target: Target) -> bool:
        """Whether no tile goes beyond the last row, pixel or channel."""
        joined, (oh, ow) = self.joined(target), self.window.output
        beyond = oh % tile.block, ow // joined % tile.rows, joined * self.channels % group_channels(target)
        return not any(beyond)

    def by_groups(self, tile: Tile, target: Target) -> bool:
        """Whether a row of outputs is computed group by group, rather than pixel by pixel.

        That pays where all numbers of a group stay in registers, or where the weights of all groups would push each
        other out of the first cache. And where LLVM, for one group, would move sums into the tests of whether their
        results exist, after all the interleaving, for which registers don't suffice.
        """
        together, weights = shared_rows(self.window, column(target)), self.weight_vectors(target)
        group, exact = group_channels(target), self.is_exact(tile, target)
        groups = -(-self.joined(target) * self.channels // (group * tile.parts))
        if not exact and together * round_up(self.window.output[1], tile.rows) * group > ROW_BYTES:
            return False
        if weights + 4 * self._factors + 4 * together * tile.rows + SCRATCH <= target.registers:
            return True
        if groups == 1:
            return not exact and weights >= 2 * target.registers
        return groups * weights * target.vector_bytes > WEIGHT_BYTES

    def weight_vectors(self, target: Target) -> int:
        """Into how many registers the weights of a group would go."""
        window, format = self.window, column(target)
        taps = round_up(column_taps(window, format), format.depth)
        return 4 * shared_rows(window, format) * window.kernel[1] * taps // format.depth

    def stage_row(self, tile: Tile, target: Target) -> int:
        """The bytes of a staged row, of all pixels that its outputs see: a part of their channels side by side."""
        group, joined = group_channels(target), self.joined(target)
        width = round_up(self.window.output[1] // joined, tile.rows)
        if joined == 1:
            return self.window.span(width, 1) * (self.channels // tile.parts) + -self.channels % group
        beyond = (self.window.kernel[1] - 1) * self.window.dilations[1] // self.phases(target)
        return (width * joined + beyond) * self.channels

    def stage_lanes(self, tile: Tile, target: Target) -> int:
        """How many bytes of a staged row are copied at once: none of them beside others that are padding."""
        if self.joined(target) > 1 and self.phases(target) == 1:
            edges = (self.window.before[1], self.window.input[1])
            return math.gcd(group_channels(target), *(edge * self.channels for edge in edges))
        return math.gcd(group_channels(target), self.channels // tile.parts)

    def numbers(self, zero_point: int) -> tuple[int, ...]:
        """The kernel's own parameters: the zero point of the inputs, and a number that has to be 0."""
        return zero_point, 0

    def pack(self, w: np.ndarray, bias: np.ndarray, epilogue: list[np.ndarray], target: Target) -> list[np.ndarray]:
        """Weights ``[C, kh, kw]``, biases and constants of the epilogue as the kernel reads them."""
        factors = [np.broadcast_to(array, (self.channels,)) for array in epilogue[: self._factors]]
        w, *numbers = (np.concatenate([array] * self.joined(target)) for array in (w, bias, *factors))
        ordered = [interleaved(array, target) for array in numbers]
        return [pack_groups(w, self.window, target), *ordered, *epilogue[self._factors :]]

    @property
    def _factors(self) -> int:
        """How many numbers of each channel the first step takes."""
        first = self.epilogue.steps[0]
        return 2 if isinstance(first, Requantize) and first.affine else 1

    def _staged(self, x: Tensor, zero: Expr, rows: int, tile: Tile, target: Target) -> Tensor:
        """The tensor ``stage``: ``rows`` of inputs, each in parts of its channels or phases of its pixels."""
        from sqc.schedules._tvm import te

        (ih, iw), (top, left) = self.window.input, self.window.before
        phases, part = self.phases(target), self.channels // tile.parts

        def element(b: Expr, i: Expr, s: Expr, at: Expr) -> Expr:
            edges = (left, left + iw)
            if phases > 1:
                edges = tuple((edge - s + phases - 1) // phases for edge in edges)
                source = (at // part * phases + s - left) * part + at % part
            else:
                source = (at // part - left) * self.channels + s * part + at % part
            inside = [at >= edges[0] * part, at < edges[1] * part]
            if top:
                inside.append(i >= top)
            if rows > ih + top:
                inside.append(i < top + ih)
            return te.if_then_else(te.all(*inside), x(b, i - top, 0, source), zero.astype("uint8"))

        count = tile.parts if phases == 1 else phases
        return te.compute((self.batch, rows, count, self.stage_row(tile, target)), element, name="stage")

    def _schedule(self, sch: Schedule, tile: Tile, target: Target, stage: str | None) -> None:
        from sqc.schedules.intrinsics.group_pack import register_pack
        from sqc.schedules.microkernel import schedule_stage, schedule_start

        format, window, group = column(target), self.window, group_channels(target)
        acc, total, level, out = (sch.get_sblock(name) for name in ("acc", "total", "level", "out"))
        b, y, x, p, kx, ky = sch.get_loops(acc)
        together = shared_rows(window, format)
        block, row, neighbour = sch.split(y, [None, tile.block // together, together])
        column_tile, pixel = sch.split(x, [None, tile.rows])
        part, channel_tile, lane = sch.split(p, [tile.parts, None, group])
        exact, tiles = self.is_exact(tile, target), [column_tile, channel_tile]
        if self.by_groups(tile, target):
            tiles.reverse()
        sch.reorder(b, block, part, row, *tiles, kx, neighbour, pixel, lane, ky)
        task = sch.fuse(b, block, part)
        for consumer in (total, level):
            sch.reverse_compute_at(consumer, tiles[1], preserve_unit_loops=True)
        # Where some results don't exist, they go through memory, so that tests stay out of the arithmetic.
        sch.reverse_compute_at(out, tiles[1] if exact else tiles[0], preserve_unit_loops=True)
        for buffer in (acc, total, level):
            sch.set_scope(buffer, 0, "local")
        *_, i, j, c = sch.get_loops(total)
        vector, lanes = sch.split(c, [None, format.lanes])
        for loop in (i, j, vector):
            sch.unroll(loop)
        sch.vectorize(lanes)
        _, lanes = sch.split(sch.get_loops(out)[-1], [None, math.gcd(group, self.joined(target) * self.channels)])
        sch.vectorize(lanes)
        if stage:
            pixel_bytes = self.channels if self.phases(target) > 1 else None
            schedule_stage(sch, task, stage, self.stage_lanes(tile, target), pixel_bytes)
        if sch.get(task).extent.value > 1:
            sch.parallel(task)
        schedule_start(sch, sch.decompose_reduction(acc, kx), 3)
        for loop in (kx, neighbour, pixel):
            sch.unroll(loop)
        sch.tensorize(lane, format.register_group(column_taps(window, format), window.dilations[0], stage or "global"))
        *_, i, j, c = sch.get_loops(level)
        for loop in (i, j):
            sch.unroll(loop)
        first = self.epilogue.steps[0]
        assert isinstance(first, Requantize)
        sch.tensorize(c, register_pack(first.dtype, format.lanes, saturating=not target.emulated))


def group_channels(target: Target) -> int:
    """The channels whose rows are interleaved at once."""
    return 4 * column(target).lanes


def joined_pixels(channels: int, width: int, target: Target) -> int:
    """How many neighbouring pixels of rows of ``width`` outputs are computed as one, of as many times the channels."""
    group = group_channels(target)
    whole = group // math.gcd(group, channels)
    return whole if width % whole == 0 else 1


def groups_pay(channels: int, width: int, epilogue: Epilogue, target: Target) -> bool:
    """Whether rows of ``width`` depthwise outputs are computed so: sums are requantized and groups well filled."""
    first = epilogue.steps[0] if epilogue.steps else None
    requantized = isinstance(first, Requantize) and first.moderate and [t.centered for t in first.terms] == [True]
    channels *= joined_pixels(channels, width, target)
    filled = channels / round_up(channels, group_channels(target))
    return target.has_vnni and requantized and filled >= LEAST_FILLED


def interleaved(array: np.ndarray, target: Target) -> np.ndarray:
    """``array[C, ...]`` filled up with zeros to whole groups of channels, which stand in the order of their sums."""
    lanes, group = column(target).lanes, group_channels(target)
    full = np.pad(array, [(0, -len(array) % group), *[(0, 0)] * (array.ndim - 1)])
    # [groups][lane of 128 bits][vector][four channels]
    split = full.reshape(-1, lanes // 4, 4, 4, *array.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(full.shape)


def pack_groups(w: np.ndarray, window: Window, target: Target) -> np.ndarray:
    """Weights ``[C, kh, kw]`` as ``[C/group][rows][kw][vector][taps/4][lanes][4]``, filled up with zeros."""
    format, group = column(target), group_channels(target)
    rows = interleaved(pack_rows(w, window, format), target)  # [C][rows][kw][taps]
    _, together, kw, taps = rows.shape
    split = rows.reshape(-1, 4, format.lanes, together, kw, taps // 4, 4).transpose(0, 3, 4, 1, 5, 2, 6)
    return np.ascontiguousarray(split).reshape(-1, together, kw, group, taps)
