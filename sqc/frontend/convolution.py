"""Convolution over one to three axes, in float and of levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqc.frontend.depth import convolution_3d
from sqc.frontend.node import Node, Unsupported
from sqc.frontend.quantized import Constant, rearranged
from sqc.frontend.table import handler
from sqc.frontend.windows import Window, read_window, result_2d, spatial_extents, to_2d
from sqc.ir import Value


@handler("Conv")
def conv(node: Node) -> Value:
    operands = [node.parameter(i) for i in (1, 2) if node.given(i)]
    names = [node.operand_name(i) for i in (1, 2) if node.given(i)]
    return convolution(node, node.value(0), operands, names, node.result)


def convolution(
    node: Node, x: Value, operands: Sequence[Constant], names: Sequence[str], emit: Callable[..., Value]
) -> Value:
    """The convolution that a node's attributes describe, of ``x`` with ``operands``: weights, and a bias or none."""
    return convolve(node, "conv2d", x, operands, names, convolution_window(node, x, operands[0]), emit)


def convolution_window(node: Node, x: Value, weights: Constant) -> Window:
    """The window of a convolution of ``x`` with ``weights``, of which the node has attributes."""
    extents = spatial_extents(node, x)
    kernel = weights.shape[2:]
    if len(weights.shape) != x.type.rank or node.integers("kernel_shape", kernel) != kernel:
        raise Unsupported(f"weights of shape {list(weights.shape)} do not fit the operand or kernel_shape")
    return read_window(node, extents, kernel)


def convolve(
    node: Node,
    kind: str,
    x: Value,
    operands: Sequence[Constant],
    names: Sequence[str],
    window: Window,
    emit: Callable[..., Value],
) -> Value:
    """A convolution of ``kind`` over ``window``: of one axis and of two one op, of three through two."""
    weights, *bias = operands
    groups, line = node.integer("group"), x.type.rank == 3
    offsets = [node.constant(constant, name) for constant, name in zip(bias, names[1:], strict=True)]
    if x.type.rank == 5:
        return convolution_3d(node, x, weights, next(iter(offsets), None), window, groups, kind)
    if line:
        x = to_2d(node, x)
        w = node.constant(rearranged(weights, lambda array: array[:, :, None, :]), f"{names[0]}/2d")
    else:
        w = node.constant(weights, names[0])
    return result_2d(node, kind, x, w, *offsets, emit=emit, line=line, groups=groups, **window.attributes())
