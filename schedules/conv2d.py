"""Convolutions, NHWC: dense, grouped, strided, dilated, padded; the first layer's few channels too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Value
from sqc.schedules.epilogue import Epilogue
from sqc.schedules.epilogue_values import epilogue_of
from sqc.schedules.intrinsics import LANES, dot
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.microkernel import Tile, pack_weights, round_up
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Tensor


@dataclass(frozen=True)
class Window:
    """How output pixels see input pixels, each pair as (vertical, horizontal)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    before: tuple[int, int]
    """Padding above and to the left."""
    input: tuple[int, int]
    output: tuple[int, int]

    @staticmethod
    def of(pattern: Pattern) -> Window:
        """The window of a ``qconv2d`` in NHWC."""
        anchor = pattern.anchor
        x, w = (value.type.shape for value in anchor.operands[:2])
        top, left, _, _ = anchor.integers("pads")
        sy, sx = anchor.integers("strides")
        dy, dx = anchor.integers("dilations")
        y = anchor.result.type.shape
        return Window((w[2], w[3]), (sy, sx), (dy, dx), (top, left), (x[1], x[2]), (y[1], y[2]))

    def span(self, outputs: int, axis: int) -> int:
        """How many input positions ``outputs`` neighbouring outputs see along an axis."""
        return (outputs - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1

    @property
    def pads(self) -> bool:
        """Whether any output sees padding."""
        return any(
            self.before[axis] > 0 or self.span(self.output[axis], axis) > self.input[axis] + self.before[axis]
            for axis in (0, 1)
        )


@dataclass(frozen=True)
class Convolution:
    """A convolution of ``batch`` images with ``groups`` x ``depth`` channels into ``groups`` x ``columns``."""

    batch: int
    window: Window
    groups: int
    depth: int
    columns: int
    epilogue: Epilogue

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import product_tiles

        return product_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, start_sums, te
        from sqc.schedules.microkernel import schedule_tiles, stage_scope

        product, window = dot(target), self.window
        tile = tile or self.tiles(target)[0]
        (kh, kw), (sy, sx), (dy, dx), (oh, ow) = window.kernel, window.strides, window.dilations, window.output
        pixels, channels = oh * ow, self.groups * self.columns
        rows, columns = round_up(pixels, tile.block), round_up(channels, tile.parts * tile.columns)
        joined, depth = self.joins_taps(product.depth), self.tap_depth(product.depth)
        if joined:
            kw = 1
        steps = depth // product.depth
        x = te.placeholder((self.batch, *window.input, self.groups * self.depth), "uint8", name="x")
        w = te.placeholder((columns // LANES, kh, kw, steps, LANES, product.depth), "int8", name="w")
        bias = te.placeholder((columns,), "int32", name="bias")
        parameters = te.placeholder((1 + self.epilogue.parameter_count,), "int32", name="parameters")
        inputs = self.epilogue.inputs((self.batch, pixels, channels), target)
        staged = self.stages(target)
        outputs = ((rows - 1) // ow + 1, ow)
        if joined:
            source = stage_rows(x, window, outputs, depth, parameters(0), product.element)
        elif staged:
            source = stage_pixels(x, window, outputs, (self.depth, depth), parameters(0), product.element)
        else:
            source = x

        def activation(b: Expr, m: Expr, n: Expr, ky: Expr, kx: Expr, k: Expr) -> Expr:
            if joined:
                return source(b, m // ow * sy + ky * dy, m % ow * sx * self.depth + k).astype("int32")
            if not staged and rows > pixels:
                m = te.min(m, pixels - 1)
            group = n // self.columns * depth if self.groups > 1 else 0
            return source(b, m // ow * sy + ky * dy, m % ow * sx + kx * dx, group + k).astype("int32")

        ky, kx = te.reduce_axis((0, kh), "ky"), te.reduce_axis((0, kw), "kx")
        k, j = te.reduce_axis((0, steps), "k"), te.reduce_axis((0, product.depth), "j")
        acc = te.compute(
            (self.batch, rows, columns),
            lambda b, m, n: te.sum(
                activation(b, m, n, ky, kx, k * product.depth + j)
                * w(n // LANES, ky, kx, k, n % LANES, j).astype("int32"),
                [ky, kx, k, j],
            ),
            name="acc",
        )
        out = te.compute(
            (self.batch, pixels, channels),
            lambda b, m, n: inputs.apply(acc(b, m, n), (b, m, n), parameters, 1),
            name="out",
        )
        func = function([x, *inputs.operands, w, bias, *inputs.constants, parameters, out])
        sch = Schedule(start_sums(func, "acc", "bias"))
        scope = stage_scope(self.stage_bytes(tile.block, target)) if staged else None
        lanes = self.epilogue.lanes(tile.columns, target)
        return schedule_tiles(sch, tile, product, scope, lanes, by_parts=columns * kh * kw * depth > self.input_bytes)

    @property
    def input_bytes(self) -> int:
        """The size of all activations."""
        return self.batch * math.prod(self.window.input) * self.groups * self.depth

    def joins_taps(self, product_depth: int) -> bool:
        """Whether the taps of a row of the kernel, which lie side by side, are multiplied as one.

        It saves dot products where channels do not fill them, most of all in first layers.
        """
        kw = self.window.kernel[1]
        apart = kw * round_up(self.depth, product_depth)
        return self.groups == 1 and self.window.dilations[1] == 1 and round_up(kw * self.depth, product_depth) < apart

    def tap_depth(self, product_depth: int) -> int:
        """Activations that a tap multiplies, filled up for dot products; with joined taps, those of a row."""
        joined = self.window.kernel[1] if self.joins_taps(product_depth) else 1
        return round_up(joined * self.depth, product_depth)

    def stages(self, target: Target) -> bool:
        """Whether activations are copied before they are multiplied: widened, padded or filled up."""
        product = dot(target)
        return product.widens or self.window.pads or self.tap_depth(product.depth) != self.depth

    def stage_bytes(self, block: int, target: Target) -> int:
        """The size of the activations that ``block`` rows see, as they are staged."""
        product = dot(target)
        height = self.window.span(-(-block // self.window.output[1]), 0)
        if self.joins_taps(product.depth):
            width = _row_extent(self.window, self.depth, self.tap_depth(product.depth))
        else:
            width = self.window.span(self.window.output[1], 1) * self.groups * self.tap_depth(product.depth)
        return height * width * np.dtype(product.element).itemsize


def stage_rows(x: Tensor, window: Window, outputs: tuple[int, int], depth: int, zero: Expr, element: str) -> Tensor:
    """The tensor ``stage`` like that of :func:`stage_pixels`, with the channels of a row's pixels on one axis.

    From where its first tap starts, every output sees ``depth`` elements, the last of them beyond the row perhaps.
    """
    from sqc.schedules._tvm import te

    channels, (height, width) = int(x.shape[3]), window.input
    top, left = window.before[0], window.before[1] * channels
    rows = window.span(outputs[0], 0)

    def element_at(b: Expr, i: Expr, c: Expr) -> Expr:
        inside = [c >= left, c < left + width * channels]
        if top:
            inside.append(i >= top)
        if rows > height + top:
            inside.append(i < top + height)
        at = c - left
        value = x(b, i - top, at // channels, at % channels)
        return te.if_then_else(te.all(*inside), value, zero.astype("uint8")).astype(element)

    return te.compute((x.shape[0], rows, _row_extent(window, channels, depth)), element_at, name="stage")


def _row_extent(window: Window, channels: int, depth: int) -> int:
    """The elements of a staged row that the outputs see."""
    return (window.output[1] - 1) * window.strides[1] * channels + depth


def stage_pixels(
    x: Tensor, window: Window, outputs: tuple[int, int], channels: tuple[int, int], zero: Expr, element: str
) -> Tensor:
    """The tensor ``stage``: what ``outputs`` (rows, columns) see of NHWC ``x``, padded with ``zero``, as ``element``.

    Every ``channels[0]`` channels are filled up to ``channels[1]`` with padding.
    """
    from sqc.schedules._tvm import te

    extents = [window.span(count, axis) for axis, count in enumerate(outputs)]
    real, filled = channels
    groups = -(-int(x.shape[3]) // real)

    def pixel(b: Expr, i: Expr, j: Expr, c: Expr) -> Expr:
        inside, position = [], []
        for axis, at in enumerate((i, j)):
            before, extent = window.before[axis], window.input[axis]
            if before:
                inside.append(at >= before)
            if extents[axis] > extent + before:
                inside.append(at < extent + before)
            position.append(at - before)
        channel = c
        if filled != real:
            inside.append(c % filled < real)
            channel = c // filled * real + c % filled
        value = x(b, *position, channel)
        if inside:
            value = te.if_then_else(te.all(*inside), value, zero.astype("uint8"))
        return value.astype(element)

    return te.compute((x.shape[0], *extents, groups * filled), pixel, name="stage")


def merge_groups(w: np.ndarray, groups: int, merged: int) -> np.ndarray:
    """Weights ``[O, I/groups, ...]`` with each ``merged`` neighbouring groups made one, zeros between them."""
    outputs, depth, *kernel = w.shape
    per_group = outputs // groups
    wide = np.zeros((groups // merged, merged, per_group, merged, depth, *kernel), w.dtype)
    split = w.reshape(groups // merged, merged, per_group, depth, *kernel)
    for i in range(merged):
        wide[:, i, :, i] = split[:, i]
    return wide.reshape(outputs, merged * depth, *kernel)


def lower_conv2d(pattern: Pattern, target: Target) -> Kernel:
    """A kernel for ``qconv2d`` in NHWC."""
    epilogue, values = epilogue_of(pattern)
    anchor = pattern.anchor
    x, w, bias = (pattern.operand[value] for value in anchor.operands)
    groups = anchor.integer("groups")
    outputs, depth = w.type.shape[:2]
    # Vectors of output channels belong to one group; smaller groups are joined, or become one dense convolution.
    merged = LANES // math.gcd(outputs // groups, LANES)
    if groups % merged:
        merged = groups

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        wide = merge_groups(constants[w], groups, merged)
        taps = wide.transpose(0, 2, 3, 1)
        if problem.joins_taps(dot(target).depth):
            taps = taps.reshape(*taps.shape[:2], 1, -1)
        packed = pack_weights(np.ascontiguousarray(taps), dot(target))
        return [packed, *values.behind_weights(constants, bias, x.type.zero_point)]

    problem = Convolution(
        x.type.shape[0],
        Window.of(pattern),
        groups // merged,
        depth * merged,
        outputs * merged // groups,
        epilogue,
    )
    return Kernel(problem, target, (x, *values.activations), pattern.result, pack)
