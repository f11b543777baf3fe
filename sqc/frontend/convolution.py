"""Convolution over one to three axes, and its transpose."""

from __future__ import annotations

from sqc.frontend.depth import convolution_3d
from sqc.frontend.node import Node, Unsupported
from sqc.frontend.table import handler
from sqc.frontend.windows import read_window, result_2d, spatial_extents, to_2d
from sqc.ir import Value


@handler("Conv")
def conv(node: Node) -> Value:
    x, weights = node.value(0), node.known(1)
    extents = spatial_extents(node, x)
    kernel = weights.shape[2:]
    if weights.ndim != x.type.rank or node.integers("kernel_shape", kernel) != kernel:
        raise Unsupported(f"weights of shape {list(weights.shape)} do not fit the operand or kernel_shape")
    window = read_window(node, extents, kernel)
    if len(extents) == 3:
        bias = node.constant(node.known(2), node.operand_name(2)) if node.given(2) else None
        return convolution_3d(node, x, weights, bias, window, node.integer("group"))
    line = len(extents) == 1
    if line:
        operands = [to_2d(node, x), node.constant(weights[:, :, None, :], f"{node.operand_name(1)}/2d")]
    else:
        operands = [x, node.value(1)]
    if node.given(2):
        node.known(2)
        operands.append(node.value(2))
    return result_2d(node, "conv2d", *operands, line=line, groups=node.integer("group"), **window.attributes())
