"""Resize and Upsample: the nearest elements by gather, all else by interpolation with known weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sqc.frontend.interpolation import Axis, Kernel
from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value


@handler("Upsample")
def upsample(node: Node) -> Tensor:
    x = node.value(0)
    axes = _scaled(x, range(x.type.rank), node.known(1))
    if node.string("mode") == "nearest":
        return _nearest(node, x, axes, "asymmetric", "floor")
    return _weighted(node, x, axes, "asymmetric")


@handler("Resize", ignores=("extrapolation_value",))
def resize(node: Node) -> Tensor:
    x, mode = node.value(0), node.string("mode")
    if node.version == 10:
        axes, coordinates, rounding = _scaled(x, range(x.type.rank), node.known(1)), "asymmetric", "floor"
    else:
        axes = _resized_axes(node, x)
        coordinates = node.string("coordinate_transformation_mode")
        rounding = node.string("nearest_mode")
    if mode == "nearest":
        return _nearest(node, x, axes, coordinates, rounding)
    return _weighted(node, x, axes, coordinates)


def _resized_axes(node: Node, x: Value) -> list[Axis]:
    chosen = node.axes(node.integers("axes", tuple(range(x.type.rank))), x.type.rank)
    listed = [axis % x.type.rank for axis in node.integers("axes", chosen)]
    policy = node.string("keep_aspect_ratio_policy", "stretch")
    if not node.given(3) or not node.known(3).size:
        return _scaled(x, listed, node.known(2))
    sizes = node.known_integers(3)
    if len(sizes) != len(listed):
        raise Unsupported(f"sizes {list(sizes)} do not fit {len(listed)} axes")
    ratios = [size / x.type.shape[axis] for axis, size in zip(listed, sizes, strict=True)]
    if policy == "stretch":
        return [
            Axis(axis, x.type.shape[axis], size, size / x.type.shape[axis])
            for axis, size in zip(listed, sizes, strict=True)
        ]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [Axis(axis, x.type.shape[axis], int(np.floor(ratio * x.type.shape[axis] + 0.5)), ratio) for axis in listed]


def _scaled(x: Value, axes: Sequence[int], scales: np.ndarray) -> list[Axis]:
    if scales.shape != (len(axes),):
        raise Unsupported(f"scales of shape {list(scales.shape)} do not fit {len(axes)} axes")
    extents = [x.type.shape[axis] for axis in axes]
    return [
        Axis(axis, extent, int(np.floor(extent * np.float64(scale))), float(scale))
        for axis, extent, scale in zip(axes, extents, scales, strict=True)
    ]


_ROUND: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(node: Node, x: Value, axes: Sequence[Axis], mode: str, rounding: str) -> Tensor:
    for axis in sorted(axes, key=lambda axis: -axis.axis):  # what takes elements one by one has the fewest then
        places = np.clip(_ROUND[rounding](axis.coordinates(mode)), 0, axis.before - 1).astype(np.int32)
        if not np.array_equal(places, np.arange(axis.before)):
            x = node.step("gather", x, node.constant(places, f"places{axis.axis}"), axis=axis.axis)
    return x


def _weighted(node: Node, x: Value, axes: Sequence[Axis], mode: str) -> Tensor:
    kernel = Kernel(
        node.string("mode"),
        mode,
        node.number("cubic_coeff_a", -0.75),
        antialias=bool(node.integer("antialias", 0)),
        exclude_outside=bool(node.integer("exclude_outside", 0)),
    )
    tables: list[Value] = []
    resized = sorted((axis for axis in axes if (axis.after, axis.scale) != (axis.before, 1.0)), key=lambda a: a.axis)
    for axis in resized:
        places, weights = kernel.tables(axis)
        tables.append(node.constant(places, f"places{axis.axis}"))
        tables.append(node.constant(weights, f"weights{axis.axis}"))
    if not resized:
        return x
    return node.result("interpolate", x, *tables, axes=tuple(axis.axis for axis in resized))
