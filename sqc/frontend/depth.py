"""Windows over depth, height and width as windows over two axes: depth is moved where a flat window sees it.

Only elements move, so that an integer kernel computes each result in one accumulator and rounds it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    """A convolution of ``x`` [N, C, D, H, W] with weights [O, C / groups, KD, KH, KW]: taps along depth as channels."""
    batch, channels = x.type.shape[:2]
    kernel, outputs = window.kernel[0], weights.shape[0]
    x = _padded(node, x, window.before[0], window.after[0])
    planes = (x.type.shape[2] - window.dilations[0] * (kernel - 1) - 1) // window.strides[0] + 1
    gathered = node.step("concat", *_planes(node, x, window, Taps(0, planes, kernel)), axis=1)
    if groups > 1:
        image = gathered.type.shape[2:]
        split = node.step("reshape", gathered, shape=(batch * planes, kernel, groups, channels // groups, *image))
        split = node.step("transpose", split, perm=(0, 2, 1, 3, 4, 5))
        gathered = node.step("reshape", split, shape=(batch * planes, kernel * channels, *image))
    image = weights.shape[3:]
    flat = rearranged(weights, lambda array: array.transpose(0, 2, 1, 3, 4).reshape(outputs, -1, *image))
    operands = [gathered, node.constant(flat, f"{node.operand_name(1)}/2d")] + ([bias] if bias is not None else [])
    y = node.step(kind, *operands, groups=groups, **window.flat().attributes())
    return _as_volumes(node, [y], batch)


def max_pool_3d(node: Node, x: Value, window: Window) -> Value:
    """The largest element of windows of ``x`` [N, C, D, H, W]: of each plane first, then along depth."""
    batch, channels, depth = x.type.shape[:3]
    flat = window.flat()
    y = node.step("max_pool", _as_images(node, x), kernel=flat.kernel, **flat.attributes())
    image = y.type.shape[2:]
    rows = node.step("reshape", y, shape=(batch, depth, channels, *image))
    rows = node.step("transpose", rows, perm=(0, 1, 3, 4, 2))
    rows = node.step("reshape", rows, shape=(batch, depth, channels * image[0] * image[1]))
    rows = node.step("transpose", rows, perm=(0, 2, 1))
    rows = node.step("reshape", rows, shape=(*rows.type.shape, 1))
    along = window.along_depth()
    rows = node.step("max_pool", rows, kernel=along.kernel, **along.attributes())
    planes = rows.type.shape[2]
    rows = node.step("reshape", rows, shape=rows.type.shape[:3])
    rows = node.step("transpose", rows, perm=(0, 2, 1))
    rows = node.step("reshape", rows, shape=(batch, planes, *image, channels))
    return node.result("transpose", rows, perm=(0, 4, 1, 2, 3))


def average_pool_3d(node: Node, x: Value, window: Window, count_include_pad: bool) -> Value:
    """The mean of windows of ``x`` [N, C, D, H, W]: taps along depth lie between the columns of an image.

    Planes that read into uncounted padding have fewer taps and are pooled by themselves.
    """
    kernel, flat = window.kernel[0], window.flat()
    if window.dilations[2] != 1 and kernel > 1:
        raise Unsupported("it dilates columns of a window over three axes", "a dilation of 1 along the width")
    batch = x.type.shape[0]
    before, after = window.before[0], window.after[0] + window.extra[0]
    if count_include_pad:
        if any(window.extra):
            raise Unsupported("it rounds up and counts padding over three axes", "ceil_mode 0, or count_include_pad 0")
        x, before, after = _padded(node, x, before, after), 0, 0
    results = []
    for taps in _runs(x.type.shape[2], window, before, after):
        images = _planes(node, x, window, taps)
        columns = [node.step("reshape", image, shape=(*image.type.shape, 1)) for image in images]
        mixed = columns[0] if len(columns) == 1 else node.step("concat", *columns, axis=4)
        shape = images[0].type.shape
        mixed = node.step("reshape", mixed, shape=(*shape[:3], shape[3] * taps.count))
        attributes = flat.widened(taps.count).attributes()
        size = (flat.kernel[0], flat.kernel[1] * taps.count)
        y = node.step("average_pool", mixed, kernel=size, count_include_pad=count_include_pad, **attributes)
        results.append(y)
    return _as_volumes(node, results, batch)


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
    """For each tap along depth the planes that it reads: [N * planes, C, H, W]."""
    stride, dilation = window.strides[0], window.dilations[0]
    parts = []
    for tap in range(taps.count):
        start = taps.start + tap * dilation
        end = start + (taps.planes - 1) * stride + 1
        part = x
        if (start, end, stride) != (0, x.type.shape[2], 1):
            part = node.step("slice", x, axes=(2,), starts=(start,), ends=(end,), steps=(stride,))
        parts.append(_as_images(node, part))
    return parts


def _as_images(node: Node, x: Value) -> Value:
    """``[N, C, D, H, W]`` as ``[N * D, C, H, W]``."""
    batch, channels, depth, *image = x.type.shape
    x = node.step("transpose", x, perm=(0, 2, 1, 3, 4))
    return node.step("reshape", x, shape=(batch * depth, channels, *image))


def _as_volumes(node: Node, parts: Sequence[Value], batch: int) -> Value:
    """Images [N * D, C, H, W] of one or more runs of planes as [N, C, D, H, W]."""
    volumes = [node.step("reshape", y, shape=(batch, y.type.shape[0] // batch, *y.type.shape[1:])) for y in parts]
    joined = volumes[0] if len(volumes) == 1 else node.step("concat", *volumes, axis=1)
    return node.result("transpose", joined, perm=(0, 2, 1, 3, 4))


def _padded(node: Node, x: Value, before: int, after: int) -> Value:
    """``x`` with planes of zeros around."""
    if not before and not after:
        return x
    return node.step("pad", x, pads=(0, 0, before, 0, 0, 0, 0, after, 0, 0))
