"""Pooling windows and reductions."""

from __future__ import annotations

import math

import numpy as np

from sqc.frontend.depth import as_plane, average_pool_3d, max_pool_3d
from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.table import handler
from sqc.frontend.windows import Window, read_window, result_2d, spatial_extents, to_2d
from sqc.ir import Value


@handler("MaxPool", ignores=("storage_order",))
def max_pool(node: Node) -> Value:
    if node.needs(1):
        raise Unsupported("its output Indices is used", "the output Y alone")
    x, window = _window(node)
    if len(window.kernel) == 3:
        return max_pool_3d(node, x, window)
    line = len(window.kernel) == 1
    kernel = window.kernel_2d()
    return result_2d(node, "max_pool", to_2d(node, x), line=line, kernel=kernel, **window.attributes())


@handler("AveragePool")
def average_pool(node: Node) -> Value:
    x, window = _window(node)
    count = bool(node.integer("count_include_pad"))
    if len(window.kernel) == 3:
        return average_pool_3d(node, x, window, count)
    line = len(window.kernel) == 1
    x, attributes = to_2d(node, x), window.attributes()
    if count and any(window.extra):
        # The taps that rounding up adds are never counted, those in the pads are: the pads come first, by themselves.
        top, left = attributes["pads"][:2]
        extra = (0,) * (2 - len(window.extra)) + window.extra
        bottom, right = (pad - more for pad, more in zip(attributes["pads"][2:], extra, strict=True))
        x = node.step("pad", x, pads=(0, 0, top, left, 0, 0, bottom, right))
        attributes["pads"] = (0, 0, *extra)
        count = False
    kernel = window.kernel_2d()
    return result_2d(node, "average_pool", x, line=line, kernel=kernel, count_include_pad=count, **attributes)


def _window(node: Node) -> tuple[Value, Window]:
    x = node.value(0)
    ceil = bool(node.integer("ceil_mode", 0))
    return x, read_window(node, spatial_extents(node, x), node.integers("kernel_shape"), ceil)


@handler("GlobalAveragePool")
def global_average_pool(node: Node) -> Value:
    x = node.value(0)
    return node.result("reduce_mean", x, axes=tuple(range(2, x.type.rank)), keepdims=True)


@handler("GlobalMaxPool")
def global_max_pool(node: Node) -> Value:
    x = node.value(0)
    plane = as_plane(node, x)
    y = node.step("max_pool", plane, kernel=plane.type.shape[2:], layout="NCHW")
    return node.result("reshape", y, shape=(*x.type.shape[:2], *(1,) * len(spatial_extents(node, x))))


@handler("ReduceMean")
def reduce_mean(node: Node) -> Tensor:
    x = node.value(0)
    axes, keepdims = _reduction(node, x, input_since=18)
    return node.result("reduce_mean", x, axes=axes, keepdims=keepdims) if axes else x


@handler("ReduceSum")
def reduce_sum(node: Node) -> Tensor:
    x = node.value(0)
    axes, keepdims = _reduction(node, x, input_since=13)
    if not axes:
        return x
    count = np.float32(math.prod(x.type.shape[axis] for axis in axes))
    return node.result("mul", node.step("reduce_mean", x, axes=axes, keepdims=keepdims), node.constant(count))


@handler("ReduceMax")
def reduce_max(node: Node) -> Tensor:
    """A max pool of a plane that holds all reduced axes."""
    x = node.value(0)
    axes, keepdims = _reduction(node, x, input_since=18)
    if not axes:
        return x
    kept = tuple(axis for axis in range(x.type.rank) if axis not in axes)
    perm, shape = (*kept, *axes), x.type.shape
    moved = node.step("transpose", x, perm=perm) if perm != tuple(range(x.type.rank)) else x
    samples = shape[0] if 0 in kept else 1
    size = math.prod(shape[axis] for axis in axes)
    plane = node.step("reshape", moved, shape=(samples, x.type.size // samples // size, size, 1))
    y = node.step("max_pool", plane, kernel=(size, 1), layout="NCHW")
    result = [1 if axis in axes else extent for axis, extent in enumerate(shape) if keepdims or axis in kept]
    return node.result("reshape", y, shape=tuple(result))


def _reduction(node: Node, x: Value, input_since: int) -> tuple[tuple[int, ...], bool]:
    """Axes, counted from the front, and keepdims. No axes: nothing to reduce."""
    if node.version < input_since:
        axes = node.integers("axes", ())
        noop = False
    else:
        axes = node.known_integers(1) if node.given(1) else ()
        noop = bool(node.integer("noop_with_empty_axes"))
    keepdims = bool(node.integer("keepdims"))
    if not axes and not noop:
        axes = tuple(range(x.type.rank))
    return node.axes(axes, x.type.rank), keepdims
