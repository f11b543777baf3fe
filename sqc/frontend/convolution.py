"""Convolution over one to three axes, and its transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqc.frontend.depth import convolution_3d
from sqc.frontend.node import Node, Unsupported
from sqc.frontend.quantized import Constant, rearranged
from sqc.frontend.table import handler
from sqc.frontend.windows import read_window, result_2d, spatial_extents, to_2d
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
    extents = spatial_extents(node, x)
    weights, *bias = operands
    kernel = weights.shape[2:]
    if len(weights.shape) != x.type.rank or node.integers("kernel_shape", kernel) != kernel:
        raise Unsupported(f"weights of shape {list(weights.shape)} do not fit the operand or kernel_shape")
    window = read_window(node, extents, kernel)
    offsets = [node.constant(constant, name) for constant, name in zip(bias, names[1:], strict=True)]
    if len(extents) == 3:
        return convolution_3d(node, x, weights, next(iter(offsets), None), window, node.integer("group"))
    line = len(extents) == 1
    if line:
        x = to_2d(node, x)
        w = node.constant(rearranged(weights, lambda array: array[:, :, None, :]), f"{names[0]}/2d")
    else:
        w = node.constant(weights, names[0])
    groups = node.integer("group")
    return result_2d(node, "conv2d", x, w, *offsets, emit=emit, line=line, groups=groups, **window.attributes())
