"""Convolutions, NHWC: dense, grouped, strided, dilated, padded; the first layer's few channels too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Value
from sqc.schedules.epilogue import Epilogue, epilogue_of
from sqc.schedules.intrinsics import LANES, dot
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Tensor
    from sqc.schedules.microkernel import Tile


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
        from sqc.schedules.tiling import convolution_tiles

        return convolution_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, start_sums, te
        from sqc.schedules.microkernel import round_up, schedule_tiles, stage_scope

        product, window = dot(target), self.window
        tile = tile or self.tiles(target)[0]
        (kh, kw), (sy, sx), (dy, dx), (oh, ow) = window.kernel, window.strides, window.dilations, window.output
        pixels, channels = oh * ow, self.groups * self.columns
        rows, columns = round_up(pixels, tile.block), round_up(channels, tile.parts * tile.columns)
        depth = round_up(self.depth, product.depth)
        steps = depth // product.depth
        x = te.placeholder((self.batch, *window.input, self.groups * self.depth), "uint8", name="x")
        w = te.placeholder((columns // LANES, kh, kw, steps, LANES, product.depth), "int8", name="w")
        bias = te.placeholder((columns,), "int32", name="bias")
        parameters = te.placeholder((1 + self.epilogue.parameter_count,), "int32", name="parameters")
        inputs = self.epilogue.inputs((self.batch, pixels, channels), target)
        staged = product.widens or window.pads or depth != self.depth
        if staged:
            outputs = ((rows - 1) // ow + 1, ow)
            source = stage_pixels(x, window, outputs, (self.depth, depth), parameters(0), product.element)
        else:
            source = x

        def activation(b: Expr, m: Expr, n: Expr, ky: Expr, kx: Expr, k: Expr) -> Expr:
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
        scope = stage_scope(self.stage_bytes(tile.block, target))
        schedule_tiles(sch, tile, product, scope if staged else None)
        return sch.mod["main"]

    def stage_bytes(self, block: int, target: Target) -> int:
        """The size of the activations that ``block`` rows see, as they are staged."""
        product = dot(target)
        height = self.window.span(-(-block // self.window.output[1]), 0)
        width = self.window.span(self.window.output[1], 1)
        depth = -(-self.depth // product.depth) * product.depth
        return height * width * self.groups * depth * np.dtype(product.element).itemsize


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
        from sqc.schedules.microkernel import pack_bias, pack_weights

        wide = merge_groups(constants[w], groups, merged)
        return [
            pack_weights(np.ascontiguousarray(wide.transpose(0, 2, 3, 1)), dot(target)),
            pack_bias(constants[bias]),
            *values.pack(constants),
            np.array((x.type.zero_point, *values.parameters), np.int32),
        ]

    problem = Convolution(
        x.type.shape[0],
        Window.of(pattern),
        groups // merged,
        depth * merged,
        outputs * merged // groups,
        epilogue,
    )
    return Kernel(problem, target, (x, *values.activations), pattern.result, pack)
