"""The operators: one file a family, each with attributes, type inference and numpy reference."""

from sqc.ops import convolution, elementwise, fused, matmul, movement, normalization, pooling, quantization
from sqc.ops.evaluator import evaluate, evaluate_op

__all__ = [
    "convolution",
    "elementwise",
    "evaluate",
    "evaluate_op",
    "fused",
    "matmul",
    "movement",
    "normalization",
    "pooling",
    "quantization",
]
