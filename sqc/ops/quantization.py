"""Quantize, dequantize, requantize, lookup tables: the float arithmetic inside integer graphs (sqc/NUMERICS.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sqc.ir import Op, Quantization, Required, TensorType, define
from sqc.ops.shapes import broadcast, require_dtype

LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "int32": (-(2**31), 2**31 - 1)}
"""The least and largest value of each quantized element type."""

_QUANTIZATION = {"scale": Required(float), "zero_point": Required(int)}

ROUNDED = {**_QUANTIZATION, "lo": 0, "hi": 255}
"""The attributes of an op that rounds its own result to uint8, clamped to ``lo`` and ``hi``."""


def quantized_type(shape: Sequence[int], dtype: str, attributes: Mapping[str, Any]) -> TensorType:
    """The type of a result with the attributes ``scale`` and ``zero_point``. Raises ValueError if they don't fit it."""
    low, high = LIMITS[dtype]
    if not low <= attributes["zero_point"] <= high:
        raise ValueError(f"zero point {attributes['zero_point']} is outside [{low}, {high}]")
    if float(np.float32(attributes["scale"])) != attributes["scale"]:
        raise ValueError(f"scale {attributes['scale']!r} is no float32 number")
    return TensorType(tuple(shape), dtype, Quantization.per_tensor(attributes["scale"], attributes["zero_point"]))


def clamp(t: np.ndarray, lo: int, hi: int) -> np.ndarray:
    """Clamp float32 numbers so that NaN becomes ``lo``."""
    low, high = np.float32(lo), np.float32(hi)
    t = np.where(t > low, t, low)
    return np.where(t < high, t, high)


def _infer_quantize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "float32")
    return quantized_type(types[0].shape, attributes["dtype"], attributes)


def _quantize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    dtype, zero_point = op.string("dtype"), op.integer("zero_point")
    low, high = LIMITS[dtype]
    with np.errstate(invalid="ignore", over="ignore"):
        t = np.rint(arrays[0] / np.float32(op.number("scale")))
    return (clamp(t, low - zero_point, high - zero_point).astype(np.int32) + zero_point).astype(dtype)


def _infer_dequantize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    x = types[0]
    if len(types) == 2:
        require_dtype(x, "int32")
        require_dtype(types[1], "float32")
        if broadcast(x.shape, types[1].shape) != x.shape:
            raise ValueError("the multipliers do not broadcast to the accumulators")
    elif x.quantization is None:
        raise ValueError(f"{x} has no quantization")
    return TensorType(x.shape, "float32")


def _dequantize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    if len(arrays) == 2:  # accumulators times multipliers
        return np.asarray(arrays[0].astype(np.float32) * arrays[1])
    quantization = op.operands[0].type.quantization
    assert quantization is not None
    shape = [1] * arrays[0].ndim
    if quantization.axis is not None:
        shape[quantization.axis] = -1
    scale = np.array(quantization.scale, np.float32).reshape(shape)
    zero_point = np.array(quantization.zero_point, np.int32).reshape(shape)
    return np.asarray((arrays[0].astype(np.int32) - zero_point).astype(np.float32) * scale)


def _infer_requantize(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    if len(types) % 2:
        raise ValueError("needs as many multipliers as terms")
    terms, multipliers = types[: len(types) // 2], types[len(types) // 2 :]
    for type in terms:
        require_dtype(type, "int32", "uint8")
    for type in multipliers:
        require_dtype(type, "float32")
    shape = broadcast(*(type.shape for type in terms))
    if broadcast(shape, *(type.shape for type in multipliers)) != shape:
        raise ValueError("the multipliers do not broadcast to the terms")
    low, high = LIMITS[attributes["dtype"]]
    if not low <= attributes["lo"] <= attributes["hi"] <= high:
        raise ValueError(f"the clamp [{attributes['lo']}, {attributes['hi']}] is not inside [{low}, {high}]")
    return quantized_type(shape, attributes["dtype"], attributes)


def _requantize(op: Op, arrays: Sequence[np.ndarray]) -> np.ndarray:
    count = len(arrays) // 2
    zero_point = op.integer("zero_point")
    total: np.ndarray | None = None
    for value, x, multiplier in zip(op.operands[:count], arrays[:count], arrays[count:], strict=True):
        term = (x.astype(np.int32) - np.int32(value.type.zero_point)).astype(np.float32) * multiplier
        total = term if total is None else total + term
    assert total is not None
    t = clamp(np.rint(total), op.integer("lo") - zero_point, op.integer("hi") - zero_point)
    return (t.astype(np.int32) + zero_point).astype(op.string("dtype"))


def _infer_lookup(types: Sequence[TensorType], attributes: Mapping[str, Any]) -> TensorType:
    require_dtype(types[0], "uint8")
    require_dtype(types[1], "uint8")
    if types[1].shape != (256,):
        raise ValueError(f"the table must have 256 entries, not shape {list(types[1].shape)}")
    return quantized_type(types[0].shape, "uint8", attributes)


define(
    "quantize",
    arity=1,
    attributes={**_QUANTIZATION, "dtype": "uint8"},
    infer=_infer_quantize,
    reference=_quantize,
)
define("dequantize", arity=(1, 2), infer=_infer_dequantize, reference=_dequantize)
define(
    "requantize",
    arity=(2, None),
    attributes={**_QUANTIZATION, "dtype": "uint8", "lo": 0, "hi": 255},
    infer=_infer_requantize,
    reference=_requantize,
)
define(
    "lookup",
    arity=2,
    attributes=_QUANTIZATION,
    infer=_infer_lookup,
    reference=lambda op, arrays: arrays[1][arrays[0]],
)
