"""The operators: one file a family, each with attributes, type inference and numpy reference."""

from sqc.ops import (
    convolution,
    elementwise,
    fused,
    gather,
    interpolate,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
)

__all__ = [
    "convolution",
    "elementwise",
    "fused",
    "gather",
    "interpolate",
    "matmul",
    "movement",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
]
