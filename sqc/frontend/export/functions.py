"""Functions and arithmetic of elements, comparisons and choices."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from sqc.frontend.export.writer import Write, Writer
from sqc.ir import Op
from sqc.ops.elementwise import BINARY

_SAME_NAME = (
    "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "neg", "erf", "softplus", "softsign", "floor", "ceil",
    "round", "sign",
)  # fmt: skip
_PLAIN = {
    **{kind: kind.capitalize() for kind in (*BINARY, *_SAME_NAME)},
    "hard_swish": "HardSwish",
    "hard_sigmoid": "HardSigmoid",
    "leaky_relu": "LeakyRelu",
    "thresholded_relu": "ThresholdedRelu",
    **{kind: kind.capitalize() for kind in ("elu", "celu", "selu")},
    "prelu": "PRelu",
    "maximum": "Max",
    "minimum": "Min",
}
"""Kinds that ONNX has, with attributes of the same names."""

_COMPARISONS = {"equal": "Equal", "greater": "Greater", "greater_or_equal": "GreaterOrEqual"}


def _plain(export: Writer, op: Op) -> None:
    export.last(op, _PLAIN[op.kind], *map(export.name, op.operands), **op.attributes)


def _clip(export: Writer, op: Op) -> None:
    bounds = [
        export.array(np.array(op.number(end), np.float32), f"{op.result.name}.{end}")
        if np.isfinite(op.number(end))
        else ""
        for end in ("min", "max")
    ]
    export.node("Clip", op, *bounds)


def _power(export: Writer, op: Op) -> None:
    export.node("Pow", op, export.number(op, op.number("exponent")))


def _silu(export: Writer, op: Op) -> None:
    x, alpha = export.name(op.operands[0]), op.number("alpha")
    scaled = x if alpha == 1.0 else export.step(op, "Mul", x, export.number(op, alpha))
    export.last(op, "Mul", x, export.step(op, "Sigmoid", scaled))


def _mish(export: Writer, op: Op) -> None:
    x = export.name(op.operands[0])
    export.last(op, "Mul", x, export.step(op, "Tanh", export.step(op, "Softplus", x)))


def _gelu(export: Writer, op: Op) -> None:
    x = export.name(op.operands[0])
    if op.kind == "gelu":
        inner = export.step(op, "Erf", export.step(op, "Mul", x, export.number(op, math.sqrt(0.5))))
    else:
        cube = export.step(op, "Pow", x, export.number(op, 3.0))
        total = export.step(op, "Add", x, export.step(op, "Mul", cube, export.number(op, 0.044715)))
        inner = export.step(op, "Tanh", export.step(op, "Mul", total, export.number(op, math.sqrt(2 / math.pi))))
    gate = export.step(op, "Add", inner, export.number(op, 1.0))
    export.last(op, "Mul", export.step(op, "Mul", x, gate), export.number(op, 0.5))


def _comparison(export: Writer, op: Op) -> None:
    """With its truth values as numbers"""
    y = export.step(op, _COMPARISONS[op.kind], *map(export.name, op.operands))
    export.last(op, "Cast", y, to=TensorProto.FLOAT)


def _where(export: Writer, op: Op) -> None:
    condition, x, y = map(export.name, op.operands)
    export.last(op, "Where", export.step(op, "Cast", condition, to=TensorProto.BOOL), x, y)


WRITERS: dict[str, Write] = {
    **dict.fromkeys(_PLAIN, _plain),
    **dict.fromkeys(_COMPARISONS, _comparison),
    "where": _where,
    "clip": _clip,
    "power": _power,
    "silu": _silu,
    "mish": _mish,
    "gelu": _gelu,
    "gelu_tanh": _gelu,
}
