"""Transposed convolution as one convolution whose channels are the phases of the stride, moved between the pixels.

Output position ``q * stride + r`` of an axis reads the taps ``r, r + stride, ...`` of the kernel alone. So each phase
``r`` is a convolution with those taps, and no product with an inserted zero is computed (the sub-pixel form of Shi et
al., "Is the deconvolution layer the same as a convolutional layer?", 2016).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sqc.frontend.depth import convolution_3d
from sqc.frontend.node import Node, Unsupported
from sqc.frontend.quantized import Constant, rearranged
from sqc.frontend.table import handler
from sqc.frontend.windows import Window, spatial_extents, to_2d
from sqc.ir import Value


@handler("ConvTranspose")
def conv_transpose(node: Node) -> Value:
    x, weights = node.value(0), node.parameter(1)
    extents = spatial_extents(node, x)
    kernel = weights.shape[2:]
    if len(weights.shape) != x.type.rank or node.integers("kernel_shape", kernel) != kernel:
        raise Unsupported(f"weights of shape {list(weights.shape)} do not fit the operand or kernel_shape")
    if len(extents) == 1:
        x = to_2d(node, x)
    missing = x.type.rank - 2 - len(extents)
    strides = node.integers("strides", (1,) * len(extents))
    dilations = node.integers("dilations", (1,) * len(extents))
    spans = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    axes = (_Axis(0, 1),) * missing + _axes(node, extents, spans, strides)
    strides = (1,) * missing + strides
    groups = node.integer("group")

    def phases(array: np.ndarray) -> np.ndarray:
        dilated = _dilated(array, dilations)
        return _phases(dilated.reshape(*dilated.shape[:2], *(1,) * missing, *dilated.shape[2:]), strides, groups)

    def repeated(bias: np.ndarray) -> np.ndarray:
        return np.tile(bias.reshape(groups, 1, -1), (1, int(np.prod(strides)), 1)).reshape(-1)

    bias = rearranged(node.parameter(2), repeated) if node.given(2) else None
    y = _convolve(node, x, rearranged(weights, phases), bias, groups, axes, strides)
    y = _interleave(node, y, groups, strides)
    starts = tuple(axis.crop for axis in axes)
    ends = tuple(axis.crop + axis.length for axis in axes)
    spatial = tuple(range(2, y.type.rank))
    y = node.step("slice", y, axes=spatial, starts=starts, ends=ends, steps=(1,) * len(spatial))
    return node.result("reshape", y, shape=(*y.type.shape[:2], *y.type.shape[2 + missing :]))


@dataclass(frozen=True)
class _Axis:
    """Of the full result of an axis, ``length`` elements from ``crop`` on are the node's."""

    crop: int
    length: int


def _axes(node: Node, extents: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> tuple[_Axis, ...]:
    rank = len(extents)
    extra = node.integers("output_padding", (0,) * rank)
    pads = list(node.integers("pads", (0,) * 2 * rank))
    auto = node.string("auto_pad", "NOTSET")
    asked = node.integers("output_shape", ())
    if not len(strides) == len(extra) == len(pads) / 2 == rank or len(asked) not in (0, rank):
        raise Unsupported(f"strides, pads, output_padding and output_shape do not fit {rank} spatial axes")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad is {auto!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    if auto == "VALID":
        pads = [0] * 2 * rank
    if not asked and auto.startswith("SAME"):
        asked = tuple(extent * stride for extent, stride in zip(extents, strides, strict=True))
    axes = []
    for i, (extent, span, stride) in enumerate(zip(extents, spans, strides, strict=True)):
        full = (extent - 1) * stride + span + extra[i]
        before, after = pads[i], pads[rank + i]
        if asked:
            total = max(full - asked[i], 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = full - asked[i] - before
        if full - before - after < 1 or before < 0:
            raise Unsupported("its pads leave nothing of the result, or are negative")
        axes.append(_Axis(before, full - before - after))
    return tuple(axes)


def _dilated(weights: np.ndarray, dilations: Sequence[int]) -> np.ndarray:
    """Weights [C, O / groups, ...] with zeros between their taps."""
    spans = [dilation * (size - 1) + 1 for size, dilation in zip(weights.shape[2:], dilations, strict=True)]
    result = np.zeros((*weights.shape[:2], *spans), weights.dtype)
    result[tuple(slice(None, None, step) for step in (1, 1, *dilations))] = weights
    return result


def _phases(weights: np.ndarray, strides: Sequence[int], groups: int) -> np.ndarray:
    """The kernels of all phases, from weights [C, O / groups, ...]: [groups * phases * O / groups, C / groups, ...]."""
    inputs, outputs = weights.shape[0] // groups, weights.shape[1]
    taps = [-(-size // stride) for size, stride in zip(weights.shape[2:], strides, strict=True)]
    padding = [(0, count * stride - size) for size, stride, count in zip(weights.shape[2:], strides, taps, strict=True)]
    whole = np.pad(weights, [(0, 0), (0, 0), *padding])
    whole = whole.reshape(groups, inputs, outputs, *whole.shape[2:])
    kernels = []
    for phase in itertools.product(*map(range, strides)):
        every = ((0, 1), (0, 1), (0, 1), *zip(phase, strides, strict=True))
        part = whole[tuple(slice(start, None, step) for start, step in every)]
        # A convolution runs over its taps in the other direction.
        kernels.append(np.flip(part, tuple(range(3, part.ndim))).swapaxes(1, 2))
    return np.stack(kernels, axis=1).reshape(-1, inputs, *taps)


def _convolve(
    node: Node,
    x: Value,
    weights: Constant,
    bias: Constant | None,
    groups: int,
    axes: Sequence[_Axis],
    strides: Sequence[int],
) -> Value:
    """All phases of all positions that the result reads."""
    kernel = weights.shape[2:]
    before = tuple(size - 1 for size in kernel)
    ends = [-(-(axis.crop + axis.length) // stride) for axis, stride in zip(axes, strides, strict=True)]
    after = tuple(max(end - extent, 0) for end, extent in zip(ends, x.type.shape[2:], strict=True))
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    window = Window(tuple(kernel), ones, ones, before, after, zeros)
    offset = None if bias is None else node.constant(bias, f"{node.operand_name(2)}/phases")
    if len(kernel) == 3:
        return convolution_3d(node, x, weights, offset, window, groups)
    operands = [x, node.constant(weights, f"{node.operand_name(1)}/phases")] + ([offset] if offset is not None else [])
    return node.step("conv2d", *operands, groups=groups, **window.attributes())


def _interleave(node: Node, y: Value, groups: int, strides: Sequence[int]) -> Value:
    """``[N, groups * phases * C, Q...]`` as ``[N, groups * C, Q * stride ...]``."""
    batch, channels, *extents = y.type.shape
    rank = len(strides)
    each = channels // int(np.prod(strides)) // groups
    y = node.step("reshape", y, shape=(batch, groups, *strides, each, *extents))
    positions = itertools.chain.from_iterable((3 + rank + i, 2 + i) for i in range(rank))
    y = node.step("transpose", y, perm=(0, 1, 2 + rank, *positions))
    longer = tuple(extent * stride for extent, stride in zip(extents, strides, strict=True))
    return node.step("reshape", y, shape=(batch, groups * each, *longer))
