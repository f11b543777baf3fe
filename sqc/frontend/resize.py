"""Resize and Upsample: the nearest elements by gather, all else by interpolation with known weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sqc.frontend.node import Node, Tensor, Unsupported
from sqc.frontend.table import handler
from sqc.ir import Value


@dataclass(frozen=True)
class _Axis:
    """One resized axis."""

    axis: int
    before: int
    after: int
    scale: float

    def coordinates(self, mode: str) -> np.ndarray:
        """Where the result's elements lie in the operand, float64[after]. Raises Unsupported for an unknown mode."""
        i = np.arange(self.after, dtype=np.float64)
        half_pixel = (i + 0.5) / self.scale - 0.5
        if mode == "half_pixel" or (mode == "pytorch_half_pixel" and self.after > 1):
            return half_pixel
        if mode == "pytorch_half_pixel":
            return np.zeros(1)
        if mode == "asymmetric":
            return i / self.scale
        if mode == "align_corners":
            return i * (self.before - 1) / max(self.after - 1, 1)
        if mode == "tf_half_pixel_for_nn":
            return (i + 0.5) / self.scale
        if mode == "half_pixel_symmetric":
            return self.before / 2 * (1 - self.after / (self.scale * self.before)) + half_pixel
        raise Unsupported(f"its coordinate_transformation_mode is {mode}", "a mode without a region of interest")


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


def _resized_axes(node: Node, x: Value) -> list[_Axis]:
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
            _Axis(axis, x.type.shape[axis], size, size / x.type.shape[axis])
            for axis, size in zip(listed, sizes, strict=True)
        ]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [_Axis(axis, x.type.shape[axis], int(np.floor(ratio * x.type.shape[axis] + 0.5)), ratio) for axis in listed]


def _scaled(x: Value, axes: Sequence[int], scales: np.ndarray) -> list[_Axis]:
    if scales.shape != (len(axes),):
        raise Unsupported(f"scales of shape {list(scales.shape)} do not fit {len(axes)} axes")
    extents = [x.type.shape[axis] for axis in axes]
    return [
        _Axis(axis, extent, int(np.floor(extent * np.float64(scale))), float(scale))
        for axis, extent, scale in zip(axes, extents, scales, strict=True)
    ]


_ROUND: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(node: Node, x: Value, axes: Sequence[_Axis], mode: str, rounding: str) -> Tensor:
    for axis in axes:
        places = np.clip(_ROUND[rounding](axis.coordinates(mode)), 0, axis.before - 1).astype(np.int32)
        if not np.array_equal(places, np.arange(axis.before)):
            x = node.step("gather", x, node.constant(places, f"places{axis.axis}"), axis=axis.axis)
    return x


def _weighted(node: Node, x: Value, axes: Sequence[_Axis], mode: str) -> Tensor:
    tables: list[Value] = []
    resized = sorted((axis for axis in axes if (axis.after, axis.scale) != (axis.before, 1.0)), key=lambda a: a.axis)
    for axis in resized:
        coordinates = axis.coordinates(mode)
        left = np.floor(coordinates)
        # While it shrinks, antialiasing widens the kernel.
        scale = min(axis.scale, 1.0) if node.integer("antialias", 0) else 1.0
        support = 1 if node.string("mode") == "linear" else 2
        first = math.floor(-support / scale) + 1
        taps = np.arange(first, 2 - first)
        distances = scale * np.abs(taps - (coordinates - left)[:, None])
        weights = np.maximum(1 - distances, 0) if support == 1 else _cubic(node, distances)
        places = (left[:, None] + taps).astype(np.int32)
        if node.integer("exclude_outside", 0):
            weights = np.where((places >= 0) & (places < axis.before), weights, 0.0)
        weights = weights / weights.sum(axis=1, keepdims=True)
        tables.append(node.constant(np.clip(places, 0, axis.before - 1), f"places{axis.axis}"))
        tables.append(node.constant(weights.astype(np.float32), f"weights{axis.axis}"))
    if not resized:
        return x
    return node.result("interpolate", x, *tables, axes=tuple(axis.axis for axis in resized))


def _cubic(node: Node, distance: np.ndarray) -> np.ndarray:
    """Keys' kernel. R. Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    a = node.number("cubic_coeff_a", -0.75)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
