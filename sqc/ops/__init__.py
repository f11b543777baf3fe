"""The operators: one file a family, each with attributes, type inference and numpy reference."""

from sqc.ops import (
    convolution,
    dynamic,
    elementwise,
    fused,
    gather,
    interpolate,
    matmul,
    movement,
    normalization,
    pooling,
    products,
    quantization,
    recurrent,
    stored_weights,
)

__all__ = [
    "convolution",
    "dynamic",
    "elementwise",
    "fused",
    "gather",
    "interpolate",
    "matmul",
    "movement",
    "normalization",
    "pooling",
    "products",
    "quantization",
    "recurrent",
    "stored_weights",
]
