"""Windows over depth, height and width as windows over two axes: depth is moved where a flat window sees it.

Only elements move, so that an integer kernel computes each result in one accumulator and rounds it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sqc.frontend.node import Node, Unsupported
from sqc.frontend.quantized import Constant, rearranged
from sqc.frontend.windows import Window, to_2d
from sqc.ir import Value


@dataclass(frozen=True)
class Taps:
    """A run of output planes that read ``count`` planes each, the first of them from plane ``start`` on."""

    start: int
    planes: int
    count: int


def convolution_3d(
    node: Node, x: Value, weights: Constant, bias: Value | None, window: Window, groups: int, kind: str = "conv2d"
) -> Value:
    """A convolution of ``x`` [N, C, D, H, W] with weights [O, C / groups, KD, KH, KW].

    Taps along depth become channels, or, where there are groups, rows between the rows of an image.
    """
    batch, kernel, outputs = x.type.shape[0], window.kernel[0], weights.shape[0]
    x = _padded(node, _channels_last(node, x), window.before[0], window.after[0])
    planes = (x.type.shape[1] - window.dilations[0] * (kernel - 1) - 1) // window.strides[0] + 1
    images, flat = _planes(node, x, window, Taps(0, planes, kernel)), window.flat()
    if groups == 1 or kernel == 1:
        gathered = node.step("concat", *images, axis=3)
        merged = rearranged(weights, lambda w: w.transpose(0, 2, 1, 3, 4).reshape(outputs, -1, *w.shape[3:]))
    else:
        gathered, merged = _mixed(node, images, axis=1), rearranged(weights, lambda w: _mixed_rows(w, flat))
        flat = flat.widened(0, kernel)
    operands = [gathered, node.constant(merged, f"{node.operand_name(1)}/2d")] + ([bias] if bias is not None else [])
    y = node.step(kind, *operands, groups=groups, **flat.attributes("NHWC"))
    return _as_volumes(node, [y], batch)


def max_pool_3d(node: Node, x: Value, window: Window) -> Value:
    """The largest element of windows of ``x`` [N, C, D, H, W]: of each plane first, then along depth."""
    batch, channels, depth = x.type.shape[:3]
    flat, along = window.flat(), window.along_depth()
    images = _as_images(node, _channels_last(node, x))
    y = node.step("max_pool", images, kernel=flat.kernel, **flat.attributes("NHWC"))
    image = y.type.shape[1:3]
    rows = node.step("reshape", y, shape=(batch, depth, 1, image[0] * image[1] * channels))
    rows = node.step("max_pool", rows, kernel=along.kernel, **along.attributes("NHWC"))
    planes = rows.type.shape[1]
    rows = node.step("reshape", rows, shape=(batch, planes, *image, channels))
    return node.result("transpose", rows, perm=_CHANNELS_SECOND)


def average_pool_3d(node: Node, x: Value, window: Window, count_include_pad: bool) -> Value:
    """The mean of windows of ``x`` [N, C, D, H, W]: taps along depth lie between the columns of an image.

    Planes that read into uncounted padding have fewer taps and are pooled by themselves.
    """
    kernel, flat = window.kernel[0], window.flat()
    if window.dilations[2] != 1 and kernel > 1:
        raise Unsupported("it dilates columns of a window over three axes", "a dilation of 1 along the width")
    batch, depth = x.type.shape[0], x.type.shape[2]
    before, after = window.before[0], window.after[0] + window.extra[0]
    x = _channels_last(node, x)
    if count_include_pad:
        if any(window.extra):
            raise Unsupported("it rounds up and counts padding over three axes", "ceil_mode 0, or count_include_pad 0")
        x, depth, before, after = _padded(node, x, before, after), before + depth + after, 0, 0
    results = []
    for taps in _runs(depth, window, before, after):
        wide, mixed = flat.widened(1, taps.count), _mixed(node, _planes(node, x, window, taps), axis=2)
        attributes = {"kernel": wide.kernel, "count_include_pad": count_include_pad, **wide.attributes("NHWC")}
        results.append(node.step("average_pool", mixed, **attributes))
    return _as_volumes(node, results, batch)


def _mixed(node: Node, images: Sequence[Value], axis: int) -> Value:
    """Images [N, H, W, C] as one, whose rows (axis 1) or columns (axis 2) are theirs in turns."""
    shape = images[0].type.shape
    parts = [node.step("reshape", image, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :])) for image in images]
    mixed = parts[0] if len(parts) == 1 else node.step("concat", *parts, axis=axis + 1)
    return node.step("reshape", mixed, shape=(*shape[:axis], shape[axis] * len(images), *shape[axis + 1 :]))


def _mixed_rows(weights: np.ndarray, window: Window) -> np.ndarray:
    """Weights [O, C, KD, KH, KW] for images whose rows are mixed: rows that a dilation skips are zeros."""
    outputs, channels, depth, height, width = weights.shape
    rows = np.zeros((outputs, channels, window.dilations[0] * (height - 1) + 1, depth, width), weights.dtype)
    rows[:, :, :: window.dilations[0]] = weights.transpose(0, 1, 3, 2, 4)
    return rows.reshape(outputs, channels, -1, width)


def as_plane(node: Node, x: Value) -> Value:
    """``[N, C, ...]`` with one to three spatial axes as one image: ``[N, C, H, W]``."""
    if x.type.rank < 5:
        return to_2d(node, x)
    batch, channels, depth, height, width = x.type.shape
    return node.step("reshape", x, shape=(batch, channels, depth * height, width))


def _runs(depth: int, window: Window, before: int, after: int) -> Iterator[Taps]:
    """The output planes in order, joined where they read equally many planes at the stride's distance."""
    kernel, stride, dilation = window.kernel[0], window.strides[0], window.dilations[0]
    planes = (depth + before + after - dilation * (kernel - 1) - 1) // stride + 1
    run: Taps | None = None
    for plane in range(planes):
        read = [p for p in range(plane * stride - before, plane * stride - before + dilation * kernel, dilation)]
        inside = [p for p in read if 0 <= p < depth]
        if not inside:
            raise Unsupported("a window lies in the padding alone", "smaller pads")
        if run and run.count == len(inside) and inside[0] == run.start + run.planes * stride:
            run = Taps(run.start, run.planes + 1, run.count)
            continue
        if run:
            yield run
        run = Taps(inside[0], 1, len(inside))
    if run:
        yield run


def _planes(node: Node, x: Value, window: Window, taps: Taps) -> list[Value]:
    """For each tap along depth the planes that it reads: [N * planes, H, W, C]."""
    stride, dilation = window.strides[0], window.dilations[0]
    parts = []
    for tap in range(taps.count):
        start = taps.start + tap * dilation
        end = start + (taps.planes - 1) * stride + 1
        part = x
        if (start, end, stride) != (0, x.type.shape[1], 1):
            part = node.step("slice", x, axes=(1,), starts=(start,), ends=(end,), steps=(stride,))
        parts.append(_as_images(node, part))
    return parts


def _channels_last(node: Node, x: Value) -> Value:
    """``[N, C, D, H, W]`` as ``[N, D, H, W, C]``, in which depth is moved without touching what is in a plane."""
    return node.step("transpose", x, perm=(0, 2, 3, 4, 1))


def _as_images(node: Node, x: Value) -> Value:
    """``[N, D, H, W, C]`` as ``[N * D, H, W, C]``."""
    batch, depth, *image = x.type.shape
    return node.step("reshape", x, shape=(batch * depth, *image))


def _as_volumes(node: Node, parts: Sequence[Value], batch: int) -> Value:
    """Images [N * D, H, W, C] of one or more runs of planes as [N, C, D, H, W]."""
    volumes = [node.step("reshape", y, shape=(batch, y.type.shape[0] // batch, *y.type.shape[1:])) for y in parts]
    joined = volumes[0] if len(volumes) == 1 else node.step("concat", *volumes, axis=1)
    return node.result("transpose", joined, perm=_CHANNELS_SECOND)


def _padded(node: Node, x: Value, before: int, after: int) -> Value:
    """``x`` [N, D, H, W, C] with planes of zeros around."""
    if not before and not after:
        return x
    return node.step("pad", x, pads=(0, before, 0, 0, 0, 0, after, 0, 0, 0))


_CHANNELS_SECOND = (0, 4, 1, 2, 3)
