"""QuantizeLinear, DequantizeLinear, and the operators on levels that are no more than an operator between the two."""

from __future__ import annotations

import math

import numpy as np
import onnx

from sqc.frontend.convolution import convolution
from sqc.frontend.linear import by_constant, product
from sqc.frontend.node import LEVELS, UNIT, Node, Unsupported
from sqc.frontend.quantized import QuantizedConstant
from sqc.frontend.table import handler
from sqc.ir import Quantization, Value

_MOVES_LEVELS = ("reshape", "transpose", "slice", "concat", "max_pool")
"""Kinds whose results hold levels of their operands."""


@handler("QuantizeLinear", ignores=("axis", "precision", "saturate"))
def quantize_linear(node: Node) -> Value:
    x, dtype = node.value(0), _stored_type(node)
    if dtype not in LEVELS:
        raise Unsupported(f"it rounds to {dtype}", " and ".join(LEVELS))
    quantization, relative = _by_channel(node, x)
    if relative is not None:
        x = node.step("mul", x, node.constant(1 / relative, f"{node.operand_name(1)}/relative"))
    return _quantize(node, x, dtype, quantization)


@handler("DequantizeLinear", ignores=("axis", "output_dtype"))
def dequantize_linear(node: Node) -> Value | QuantizedConstant:
    _refuse_blocks(node)
    if not isinstance(node.inputs[0], Value):
        return _quantized_constant(node, 0, 1, node.integer("axis", 1))
    x = node.value(0)
    if x.type.dtype not in LEVELS:
        raise Unsupported(f"it reads computed {x.type.dtype}", " and ".join(LEVELS))
    quantization, relative = _by_channel(node, x)
    levels = _stated_as(node, x, quantization)
    if relative is None:
        return node.result("dequantize", levels)
    real = node.step("dequantize", levels)
    return node.result("mul", real, node.constant(relative, f"{node.operand_name(1)}/relative"))


@handler("QLinearConv")
def qlinear_conv(node: Node) -> Value:
    """x, its scale and zero point; w, its own; those of the result; an int32 bias or none."""
    x = _stated_as(node, node.value(0), _whole_tensor(node, 1))
    weights = _quantized_constant(node, 3, 4, axis=0)
    operands, names = [weights], [node.operand_name(3)]
    if node.given(8):
        scales = np.float32(x.type.scale) * np.array(weights.quantization.scale, np.float32)
        levels = node.known(8)
        axis = 0 if scales.size > 1 else None
        bias = Quantization(tuple(map(float, scales)), (0,) * scales.size, axis)
        operands, names = [weights, QuantizedConstant(levels, bias)], [*names, node.operand_name(8)]
    y = convolution(node, node.step("dequantize", x), operands, names, node.step)
    return _quantize(node, y, _result_type(node, 7), _whole_tensor(node, 6))


@handler("QLinearMatMul")
def qlinear_matmul(node: Node) -> Value:
    """a, its scale and zero point; b, its own; those of the result."""
    a, b = _real(node, 0, 1, axis=-2), node.tensor(3)
    if isinstance(b, Value) or math.prod(b.shape[:-2]) != 1:
        y = product(node, "matmul", a, _real(node, 3, 4, axis=-1), emit=node.step)
    else:
        y = by_constant(node, a, _quantized_constant(node, 3, 4, axis=-1), node.operand_name(3), node.step)
    return _quantize(node, y, _result_type(node, 7), _whole_tensor(node, 6))


def _real(node: Node, index: int, parameters: int, axis: int) -> Value:
    """The levels at input ``index``, known or computed, as the numbers that they stand for."""
    if not isinstance(node.tensor(index), Value):
        return node.constant(_quantized_constant(node, index, parameters, axis), node.operand_name(index))
    return node.step("dequantize", _stated_as(node, node.value(index), _whole_tensor(node, parameters)))


def _by_channel(node: Node, x: Value) -> tuple[Quantization, np.ndarray | None]:
    """How an activation is rounded as a whole, and by what each channel has to be divided before.

    One zero point and a scale for each channel are one scale behind a multiplication, up to a rounding in float32.
    """
    scales, zero_points = _parameters(node, 1)
    if (scales == scales[0]).all() or (zero_points != zero_points[0]).any():
        return _whole_tensor(node, 1), None
    (axis,) = node.axes([node.integer("axis", 1)], x.type.rank)
    if x.type.shape[axis] != scales.size:
        raise Unsupported(f"{scales.size} scales do not fit axis {axis} of {x.type}")
    relative = (scales / scales[0]).reshape(-1, *[1] * (x.type.rank - 1 - axis))
    return Quantization.per_tensor(float(scales[0]), int(zero_points[0])), relative


def _quantize(node: Node, x: Value, dtype: str, quantization: Quantization) -> Value:
    scale, zero_point = quantization.scale[0], quantization.zero_point[0]
    return node.result("quantize", x, scale=scale, zero_point=zero_point, dtype=dtype)


def _stored_type(node: Node) -> str:
    """The element type that QuantizeLinear rounds to."""
    _refuse_blocks(node)
    stated = node.integer("output_dtype", 0)
    wanted = str(onnx.helper.tensor_dtype_to_np_dtype(stated).name) if stated else ""
    given = str(node.known(2).dtype.name) if node.given(2) else wanted or "uint8"
    if wanted and wanted != given:
        raise Unsupported(f"its zero point is {given}, its output_dtype {wanted}", "equal types")
    return given


def _refuse_blocks(node: Node) -> None:
    if node.integer("block_size", 0):
        raise Unsupported("it has a scale for each block (block_size)", "a scale for the tensor or for each channel")


def _result_type(node: Node, index: int) -> str:
    dtype = str(node.known(index).dtype.name)
    if dtype not in LEVELS:
        raise Unsupported(f"its result is {dtype}", " and ".join(LEVELS))
    return dtype


def _whole_tensor(node: Node, index: int) -> Quantization:
    """The scale at input ``index`` and the zero point behind it, one for a whole activation."""
    scales, zero_points = _parameters(node, index)
    if (scales != scales[0]).any() or (zero_points != zero_points[0]).any():
        raise Unsupported(
            f"it has {scales.size} scales and zero points for an activation", "one zero point for the whole tensor"
        )
    return Quantization.per_tensor(float(scales[0]), int(zero_points[0]))


def _parameters(node: Node, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points as vectors of equal length."""
    scales = node.known(index)
    zero_points = node.known(index + 1) if node.given(index + 1) else np.zeros(1, np.int64)
    if max(scales.ndim, zero_points.ndim) > 1:
        raise Unsupported(f"its scale has shape {list(scales.shape)}", "a scale for the tensor or for each channel")
    shape = np.broadcast_shapes(scales.reshape(-1).shape, zero_points.reshape(-1).shape)
    return np.broadcast_to(scales, shape), np.broadcast_to(zero_points, shape)


def _quantized_constant(node: Node, index: int, parameters: int, axis: int) -> QuantizedConstant:
    """The known levels at input ``index``, with scales and zero points from ``parameters`` on."""
    levels = node.known(index)
    if levels.dtype.name not in (*LEVELS, "int32"):
        raise Unsupported(f"its constant is {levels.dtype.name}", "uint8, int8 and int32")
    scales, zero_points = _parameters(node, parameters)
    if scales.size == 1:
        return QuantizedConstant(levels, Quantization.per_tensor(float(scales[0]), int(zero_points[0])))
    if not -levels.ndim <= axis < levels.ndim or levels.shape[axis] != scales.size:
        raise Unsupported(f"{scales.size} scales do not fit axis {axis} of shape {list(levels.shape)}")
    quantization = Quantization(tuple(map(float, scales)), tuple(map(int, zero_points)), axis % levels.ndim)
    return QuantizedConstant(levels, quantization)


def _stated_as(node: Node, x: Value, quantization: Quantization) -> Value:
    """The levels ``x`` with the quantization by which the node reads them."""
    if x.type.quantization == quantization:
        return x
    op = node.producer(x)
    if x.type.quantization == UNIT and op is not None and op.kind in _MOVES_LEVELS:
        return node.step(op.kind, *(_stated_as(node, y, quantization) for y in op.operands), **op.attributes)
    if x.type.quantization == UNIT and op is not None and op.kind == "lookup":
        scale, zero_point = quantization.scale[0], quantization.zero_point[0]
        return node.step("lookup", *op.operands, scale=scale, zero_point=zero_point)
    raise Unsupported(f"it reads '{x.name}' ({x.type}) with another scale or zero point", "those it was rounded with")
