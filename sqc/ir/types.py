"""Tensor types: shape, element type and, for quantized tensors, the affine parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

DTYPES = ("float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


@dataclass(frozen=True, slots=True)
class Quantization:
    """The affine map ``real = scale * (q - zero_point)``.

    ``scale`` and ``zero_point`` have one entry for a whole tensor (``axis`` is None) or one for each index of ``axis``.
    Scales are positive numbers that float32 holds exactly.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.zero_point) or not self.scale:
            raise ValueError("a quantization needs as many zero points as scales, and at least one")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError("a quantization without an axis has exactly one scale")
        for scale in self.scale:
            if not (math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
                raise ValueError(f"scale {scale!r} is not a positive float32 number")

    @staticmethod
    def per_tensor(scale: float, zero_point: int) -> Quantization:
        """One scale, rounded to float32, and one zero point for the whole tensor."""
        return Quantization((float(np.float32(scale)),), (int(zero_point),))


@dataclass(frozen=True, slots=True)
class TensorType:
    """A static shape, a numpy element type by name, and quantization parameters or none."""

    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown element type {self.dtype!r}; known: {', '.join(DTYPES)}")
        if any(extent < 0 for extent in self.shape):
            raise ValueError(f"negative extent in shape {self.shape}")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the dense tensor in bytes."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def scale(self) -> float:
        """The scale of a tensor quantized as a whole. Raises ValueError for any other."""
        return self._per_tensor().scale[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor quantized as a whole; 0 for an unquantized one (an accumulator)."""
        return 0 if self.quantization is None else self._per_tensor().zero_point[0]

    def _per_tensor(self) -> Quantization:
        if self.quantization is None or self.quantization.axis is not None:
            raise ValueError(f"{self} has no scale for the whole tensor")
        return self.quantization

    def with_shape(self, shape: Sequence[int]) -> TensorType:
        return replace(self, shape=tuple(int(extent) for extent in shape))

    def __str__(self) -> str:
        from sqc.ir.text import format_type

        return format_type(self)


def type_of(array: np.ndarray, quantization: Quantization | None = None) -> TensorType:
    """The type of a numpy array."""
    return TensorType(tuple(array.shape), array.dtype.name, quantization)
