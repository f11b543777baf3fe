"""The operators: one file a family, each with attributes, type inference and numpy reference."""

from sqc.ops import (
    convolution,
    dynamic,
    elementwise,
    fused,
    matmul,
    movement,
    normalization,
    pooling,
    products,
    quantization,
    stored_weights,
)

__all__ = [
    "convolution",
    "dynamic",
    "elementwise",
    "fused",
    "matmul",
    "movement",
    "normalization",
    "pooling",
    "products",
    "quantization",
    "stored_weights",
]
