"""Windows of convolution and pooling: strides, dilations, explicit and automatic padding, rounding up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqc.frontend.node import Node, Unsupported
from sqc.ir import Value


@dataclass(frozen=True)
class Window:
    """A window over one to three axes. ``extra`` is what rounding up adds behind ``after``."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    extra: tuple[int, ...]

    def attributes(self, layout: str = "NCHW") -> dict[str, Any]:
        """Strides, dilations, pads and layout of a two-dimensional op; of one axis the height is 1."""
        missing = 2 - len(self.kernel)
        after = tuple(pad + extra for pad, extra in zip(self.after, self.extra, strict=True))
        return {
            "strides": (1,) * missing + self.strides,
            "dilations": (1,) * missing + self.dilations,
            "pads": (0,) * missing + self.before + (0,) * missing + after,
            "layout": layout,
        }

    def flat(self) -> Window:
        """A window over depth, height and width without the depth."""
        return self._axes(slice(1, 3))

    def along_depth(self) -> Window:
        """The depth of a window over three axes as a window of width 1."""
        column = self._axes(slice(0, 1))
        return Window(
            (*column.kernel, 1),
            (*column.strides, 1),
            (*column.dilations, 1),
            (*column.before, 0),
            (*column.after, 0),
            (*column.extra, 0),
        )

    def widened(self, axis: int, factor: int) -> Window:
        """A window in an image of which every row or column (along ``axis``) became ``factor`` of them.

        Its taps reach without gaps from the first to the last, those that a dilation skips included.
        """
        if factor == 1:
            return self

        def changed(values: tuple[int, ...], value: int) -> tuple[int, ...]:
            return (*values[:axis], value, *values[axis + 1 :])

        span = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        fields = (self.strides, self.before, self.after, self.extra)
        strides, before, after, extra = (changed(values, values[axis] * factor) for values in fields)
        kernel, dilations = changed(self.kernel, span * factor), changed(self.dilations, 1)
        return Window(kernel, strides, dilations, before, after, extra)

    def _axes(self, which: slice) -> Window:
        fields = (self.kernel, self.strides, self.dilations, self.before, self.after, self.extra)
        return Window(*(values[which] for values in fields))

    def kernel_2d(self) -> tuple[int, ...]:
        return (1,) * (2 - len(self.kernel)) + self.kernel


def spatial_extents(node: Node, x: Value) -> tuple[int, ...]:
    """The extents behind batch and channels: one to three."""
    if x.type.rank not in (3, 4, 5):
        raise Unsupported(f"its operand has rank {x.type.rank}", "rank 3 to 5 (one to three spatial axes)")
    return x.type.shape[2:]


def read_window(node: Node, extents: Sequence[int], kernel: Sequence[int], ceil: bool = False) -> Window:
    """The window that a node's attributes describe over an operand of the given spatial extents."""
    rank = len(extents)
    strides = node.integers("strides", (1,) * rank)
    dilations = node.integers("dilations", (1,) * rank)
    pads = node.integers("pads", (0,) * 2 * rank)
    auto = node.string("auto_pad", "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == len(pads) / 2 == rank:
        raise Unsupported(f"kernel, strides, dilations and pads do not fit {rank} spatial axes")
    if min(*kernel, *strides, *dilations) < 1:
        raise Unsupported("kernel, strides and dilations must be positive")
    if min(pads) < 0:
        raise Unsupported(f"negative pads {list(pads)}", "a Slice before the node")
    spans = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    before, after = list(pads[:rank]), list(pads[rank:])
    if auto == "VALID":
        before, after = [0] * rank, [0] * rank
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            total = max((-(-extents[i] // strides[i]) - 1) * strides[i] + spans[i] - extents[i], 0)
            smaller, larger = total // 2, total - total // 2
            before[i], after[i] = (smaller, larger) if auto == "SAME_UPPER" else (larger, smaller)
    elif auto != "NOTSET":
        raise Unsupported(f"auto_pad is {auto!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    extra = [0] * rank
    if ceil:
        extra = [_extra(extents[i], spans[i], strides[i], before[i], after[i]) for i in range(rank)]
    return Window(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(extra))


def _extra(extent: int, span: int, stride: int, before: int, after: int) -> int:
    """What must be padded further so that rounding down gives the extent that rounding up asks for."""
    room = extent + before + after - span
    rounded_up = -(-room // stride)
    # A last window that would start in the padding behind the data does not count.
    if rounded_up * stride >= extent + before:
        rounded_up -= 1
    return max(rounded_up * stride - room, 0)


def to_2d(node: Node, x: Value) -> Value:
    """``[N, C, W]`` as ``[N, C, 1, W]``; rank 4 as it is."""
    if x.type.rank == 4:
        return x
    batch, channels, width = x.type.shape
    return node.step("reshape", x, shape=(batch, channels, 1, width))


def result_2d(
    node: Node,
    kind: str,
    *operands: Value,
    line: bool,
    emit: Callable[..., Value] | None = None,
    **attributes: Any,
) -> Value:
    """Emit a two-dimensional op as the node's result, or by ``emit``; with ``line`` the height is dropped again."""
    emit = emit or node.result
    if not line:
        return emit(kind, *operands, **attributes)
    y = node.step(kind, *operands, **attributes)
    batch, channels, _, width = y.type.shape
    return emit("reshape", y, shape=(batch, channels, width))
