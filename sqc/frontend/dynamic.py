"""Operators of ONNX whose scales or zero points are found at run time: DynamicQuantizeLinear, products of integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sqc.frontend.convolution import convolution_window, convolve
from sqc.frontend.linear import product
from sqc.frontend.node import Node, Unsupported
from sqc.frontend.table import handler
from sqc.frontend.windows import Window
from sqc.ir import Value

_LARGEST = 2**31 - 1


@handler("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> tuple[Value, Value, Value]:
    """Levels, their scale and their zero point, of the whole tensor."""
    x = node.value(0)
    vector = x if x.type.rank else node.step("reshape", x, shape=(1,))
    pair = node.step("dynamic_parameters", vector, per_row=False)
    levels = node.step("dynamic_quantize", vector, pair)
    scale, zero_point = (node.step("slice", pair, axes=(0,), starts=(i,), ends=(i + 1,), steps=(1,)) for i in range(2))
    zero_point = node.step("reshape", zero_point, shape=())
    return (
        node.result("reshape", levels, shape=x.type.shape),
        node.result("reshape", scale, output=1, shape=()),
        node.result("quantize", zero_point, output=2, scale=1.0, zero_point=0, dtype="uint8"),
    )


@handler("MatMulInteger")
def matmul_integer(node: Node) -> Value:
    """Levels times levels, each less its zero point, which may be computed."""
    a, b = node.tensor(0), node.tensor(1)
    if isinstance(a, Value) and isinstance(b, np.ndarray) and b.ndim == 2:
        matrix = _centred(node, b, 3, axis=-1)
        if _fits(matrix.T):
            return _by_constant(node, _Levels.read(node, 0, 2), matrix)
    left, right = _Levels.read(node, 0, 2), _Levels.read(node, 1, 3)
    zero_points = left.zero_value(node, 0), right.zero_value(node, 1)
    return product(node, "qmatmul", left.value, right.value, *zero_points)


@handler("ConvInteger")
def conv_integer(node: Node) -> Value:
    """A convolution of levels less their zero point, which may be computed, with known ones; padding adds nothing."""
    x = _Levels.read(node, 0, 2)
    weights, name = _centred(node, node.known(1), 3, axis=0), node.operand_name(1)
    window = convolution_window(node, x.value, weights)
    if not _fits(weights):
        raise Unsupported("its sums of products could leave 32 bits")
    padded = any((*window.before, *window.after))
    sums = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int32)
    levels = x.value
    if isinstance(x.zero_point, int) and padded:
        pads = (0, 0, *window.before, 0, 0, *window.after)
        levels = node.step("pad", levels, pads=pads, value=float(x.zero_point))
        window = replace(window, before=(0,) * len(window.before), after=(0,) * len(window.after))
    elif padded:
        if levels.type.zero_point:
            raise Unsupported("it pads levels that have another zero point already", "levels as computed")
        sums = _sums_by_position(weights, levels.type.shape[2:], window)
    parts = _parts(weights)
    levels = _repeated(node, levels, len(parts))

    def convolved(bias: np.ndarray, emit: Callable[..., Value]) -> Value:
        operands = [np.concatenate(parts, axis=1), bias]
        return convolve(node, "qconv2d", levels, operands, [f"{name}/levels", f"{name}/start"], window, emit)

    along = (-1, *[1] * (levels.type.rank - 2))
    return _less_zero_point(node, x, sums if sums.ndim > 1 else sums.reshape(along), convolved, node.result)


@dataclass(frozen=True)
class _Levels:
    """An operand as u8, and its zero point, known or computed: of one element."""

    value: Value
    zero_point: int | Value

    @staticmethod
    def read(node: Node, index: int, zero_point: int) -> _Levels:
        """Levels of s8 are moved up by 128, and their zero point with them."""
        tensor = node.tensor(index)
        dtype = tensor.dtype.name if isinstance(tensor, np.ndarray) else tensor.type.dtype
        shift = 128 if dtype == "int8" else 0
        if dtype not in ("int8", "uint8"):
            raise Unsupported(f"it reads {dtype}", "uint8 and int8")
        if isinstance(tensor, np.ndarray):
            moved = (tensor.astype(np.int16) + shift).astype(np.uint8)
            value = node.constant(moved, f"{node.operand_name(index)}/levels")
        elif shift:
            scale, zero = tensor.type.scale, tensor.type.zero_point + shift
            value = node.step("quantize", node.step("dequantize", tensor), scale=scale, zero_point=zero)
        else:
            value = tensor
        given = node.tensor(zero_point) if node.given(zero_point) else np.zeros((), np.uint8)
        if isinstance(given, np.ndarray):
            if (given != given.flat[0]).any():
                raise Unsupported("it has a zero point for each row or column", "one zero point for the operand")
            return _Levels(value, int(given.flat[0]) + shift)
        if given.type.size != 1 or shift:
            raise Unsupported(f"a computed zero point is {given.type}", "one of uint8")
        return _Levels(value, given)

    def zero_value(self, node: Node, operand: int) -> Value:
        if isinstance(self.zero_point, Value):
            return self.zero_point
        return node.constant(np.array(self.zero_point, np.uint8), f"{node.operand_name(operand)}/zero_point")


def _centred(node: Node, levels: np.ndarray, zero_point: int, axis: int) -> np.ndarray:
    """Known levels less their zero point, one or one for each index of ``axis``: int32."""
    if levels.dtype.name not in ("int8", "uint8"):
        raise Unsupported(f"it reads {levels.dtype.name}", "uint8 and int8")
    zeros = node.known(zero_point).reshape(-1) if node.given(zero_point) else np.zeros(1, levels.dtype)
    if zeros.size not in (1, levels.shape[axis]):
        raise Unsupported(f"{zeros.size} zero points do not fit axis {axis} of shape {list(levels.shape)}")
    along = np.moveaxis(levels.astype(np.int32), axis, -1) - zeros.astype(np.int32)
    return np.moveaxis(along, -1, axis)


def _fits(rows: np.ndarray) -> bool:
    """Whether sums of any levels, and of any zero point, times each of the rows stay within 32 bits."""
    return bool((510 * np.abs(rows.astype(np.int64)).reshape(len(rows), -1).sum(axis=1) <= _LARGEST).all())


def _parts(weights: np.ndarray) -> list[np.ndarray]:
    """One to three arrays of int8 that sum up to ``weights``."""
    parts = [np.clip(weights, -128, 127)]
    while (rest := weights - sum(parts)).any():
        parts.append(np.clip(rest, -128, 127))
    return [part.astype(np.int8) for part in parts]


def _repeated(node: Node, x: Value, times: int) -> Value:
    """``[N, C, ...]`` with its channels several times, group by group."""
    if times == 1:
        return x
    groups, shape = node.integer("group"), x.type.shape
    if groups == 1:
        return node.step("concat", *[x] * times, axis=1)
    grouped = node.step("reshape", x, shape=(shape[0], groups, shape[1] // groups, *shape[2:]))
    copies = node.step("concat", *[grouped] * times, axis=2)
    return node.step("reshape", copies, shape=(shape[0], shape[1] * times, *shape[2:]))


def _sums_by_position(weights: np.ndarray, extents: tuple[int, ...], window: Window) -> np.ndarray:
    """``[O, ...]``: the sum of the weights that see no padding, for each position of the result."""
    pads = list(zip(window.before, window.after, strict=True))
    inside = np.pad(np.ones(extents, np.int32), pads)
    spans = [d * (k - 1) + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(inside, spans)
    steps = (*window.strides, *window.dilations)
    taps = views[tuple(slice(None, None, step) for step in steps)]
    rank = len(extents)
    return np.tensordot(weights.sum(axis=1, dtype=np.int32), taps, (range(1, rank + 1), range(rank, 2 * rank)))


def _by_constant(node: Node, x: _Levels, matrix: np.ndarray) -> Value:
    """``x[..., K]`` times ``matrix[K, N]``."""
    shape, (depth, columns) = x.value.type.shape, matrix.shape
    if shape[-1:] != (depth,):
        raise Unsupported(f"operands of shapes {list(shape)} and {list(matrix.shape)} do not fit")
    name = node.operand_name(1)
    rows = x.value if len(shape) == 2 else node.step("reshape", x.value, shape=(math.prod(shape[:-1]), depth))
    parts = _parts(matrix)
    rows = node.step("concat", *[rows] * len(parts), axis=1) if len(parts) > 1 else rows
    weights = node.constant(np.ascontiguousarray(np.concatenate(parts).T), f"{name}/levels")

    def multiplied(bias: np.ndarray, emit: Callable[..., Value]) -> Value:
        return emit("qfully_connected", rows, weights, node.constant(bias, f"{name}/start"))

    sums = matrix.sum(axis=0, dtype=np.int32)
    if len(shape) == 2:
        return _less_zero_point(node, x, sums, multiplied, node.result)
    y = _less_zero_point(node, x, sums, multiplied, node.step)
    return node.result("reshape", y, shape=(*shape[:-1], columns))


def _less_zero_point(
    node: Node,
    x: _Levels,
    sums: np.ndarray,
    multiplied: Callable[[np.ndarray, Callable[..., Value]], Value],
    emit: Callable[..., Value],
) -> Value:
    """Products with weights whose ``sums`` are known, as of levels less their zero point."""
    outputs = len(sums) if sums.ndim > 1 else sums.size
    if isinstance(x.zero_point, int):
        bias = (-x.zero_point * sums.reshape(-1)).astype(np.int32)
        return multiplied(bias, emit)
    acc = multiplied(np.zeros(outputs, np.int32), node.step)
    return emit("center", acc, x.zero_point, node.constant(sums, f"{node.operand_name(1)}/sums"))
