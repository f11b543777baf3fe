"""Constants that a model stores as levels with scales and zero points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from sqc.ir import Quantization


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """Integer ``levels`` and what they stand for: what DequantizeLinear makes of known integers."""

    levels: np.ndarray
    quantization: Quantization

    @property
    def shape(self) -> tuple[int, ...]:
        return self.levels.shape

    @cached_property
    def array(self) -> np.ndarray:
        """The real numbers in float32."""
        along = [1] * self.levels.ndim
        if self.quantization.axis is not None:
            along[self.quantization.axis] = -1
        scale = np.array(self.quantization.scale, np.float32).reshape(along)
        zero_point = np.array(self.quantization.zero_point, np.int64).reshape(along)
        return np.asarray((self.levels.astype(np.int64) - zero_point).astype(np.float32) * scale)


Constant: TypeAlias = "np.ndarray | QuantizedConstant"
"""A known tensor, quantized or not."""


def rearranged(constant: Constant, function: Callable[[np.ndarray], np.ndarray]) -> Constant:
    """``function``, which only moves, repeats or drops elements and inserts zeros, applied to a constant.

    The result stays quantized unless its scales no longer lie along one axis, or no level is zero for all.
    """
    if isinstance(constant, np.ndarray):
        return function(constant)
    levels, quantization = function(constant.levels), constant.quantization
    along = [1] * constant.levels.ndim
    if quantization.axis is not None:
        along[quantization.axis] = -1
    # Counted from 1, as zeros are what was inserted.
    channels = np.arange(1, len(quantization.scale) + 1).reshape(along)
    moved = function(np.array(np.broadcast_to(channels, constant.shape)))
    if any(quantization.zero_point) and not moved.all():
        return function(constant.array)
    if quantization.axis is None:
        return QuantizedConstant(levels, quantization)
    for axis, extent in enumerate(moved.shape):
        lines = np.moveaxis(moved, axis, 0).reshape(extent, -1)
        if lines.size and ((lines == lines.max(1, keepdims=True)) | (lines == 0)).all():
            channel = np.maximum(lines.max(1) - 1, 0)
            scale = tuple(quantization.scale[i] for i in channel)
            zero_point = tuple(quantization.zero_point[i] for i in channel)
            return QuantizedConstant(levels, Quantization(scale, zero_point, axis))
    return function(constant.array)
