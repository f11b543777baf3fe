"""The places and weights by which resizing interpolates an axis, and the resizing that given ones come from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sqc.frontend.node import Unsupported
from sqc.ops.interpolate import interpolation_weights


@dataclass(frozen=True)
class Axis:
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


@dataclass(frozen=True)
class Kernel:
    """How ONNX's Resize weighs neighbours: its attributes ``mode`` (``linear`` or ``cubic``) and so on."""

    mode: str
    coordinates: str
    coefficient: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def tables(self, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
        """Places ``int32[after, taps]`` inside the axis and weights ``float32[after, taps]``. Raises Unsupported."""
        coordinates = axis.coordinates(self.coordinates)
        left = np.floor(coordinates)
        # While it shrinks, antialiasing widens the kernel.
        scale = min(axis.scale, 1.0) if self.antialias else 1.0
        support = 1 if self.mode == "linear" else 2
        first = math.floor(-support / scale) + 1
        taps = np.arange(first, 2 - first)
        distances = scale * np.abs(taps - (coordinates - left)[:, None])
        weights = np.maximum(1 - distances, 0) if support == 1 else _cubic(self.coefficient, distances)
        places = (left[:, None] + taps).astype(np.int32)
        if self.exclude_outside:
            weights = np.where((places >= 0) & (places < axis.before), weights, 0.0)
        weights = weights / weights.sum(axis=1, keepdims=True)
        return np.clip(places, 0, axis.before - 1), weights.astype(np.float32)


def _cubic(a: float, distance: np.ndarray) -> np.ndarray:
    """Keys' kernel. R. Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def smallest_scale(before: int, after: int) -> float:
    """The least float32 number that makes ``after`` elements of ``before``."""
    scale = np.float32(after / before)
    return float(scale if float(scale) * before >= after else np.nextafter(scale, np.float32(np.inf)))


def find_kernel(axes: Sequence[Axis], tables: Sequence[tuple[np.ndarray, np.ndarray]]) -> Kernel | None:
    """The kernel, one that Resize of operator set 13 has, that gives all axes their places and weights.

    Or weights that are the same in the fixed point of integer ops, if the given ones are in it.
    """
    given = [weights for _, weights in tables]
    for kernel in _kernels():
        found = [kernel.tables(axis) for axis in axes]
        if not all(np.array_equal(a[0], b[0]) for a, b in zip(found, tables, strict=True)):
            continue
        weights = [weights for _, weights in found]
        levels, bits = interpolation_weights(weights)
        fixed = [np.ldexp(array, -count) for array, count in zip(levels, bits, strict=True)]
        if any(
            all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(side, given, strict=True))
            for side in (weights, fixed)
        ):
            return kernel
    return None


def _kernels() -> Iterator[Kernel]:
    modes = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
    yield from (Kernel("linear", mode) for mode in modes)
    for mode, coefficient, exclude in itertools.product(modes, (-0.75, -0.5), (False, True)):
        yield Kernel("cubic", mode, coefficient, exclude_outside=exclude)
