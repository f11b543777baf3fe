"""Padding where inputs of convolutions are written, so that the convolutions need no copy of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes


@dataclass(frozen=True)
class PadAtProducer:
    """Take the padding out of convolutions whose input one kernel computes for them alone.

    qconv2d(requantize(qconv2d(...)), pads)  ->  qconv2d(pad(requantize(qconv2d(...))))
    qconv2d(quantize(x), pads)               ->  qconv2d(pad(quantize(x)))

    Fusion then lets the kernel before write its results between margins.
    """

    name: ClassVar[str] = "pad-at-producer"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        for op in graph.ops:
            if not _is_padded_for(graph, op):
                rewriter.keep(op)
                continue
            x, *others = op.operands
            top, left, bottom, right = op.integers("pads")
            padding = {"pads": (0, top, left, 0, 0, bottom, right, 0), "value": float(x.type.zero_point)}
            padded = rewriter.emit("pad", [rewriter.map(x)], padding, name=f"{x.name}.margins", source=op.source)
            rewriter.keep(op, [padded, *map(rewriter.map, others)], pads=(0, 0, 0, 0))
            notes.add(self, op, f"{x.name} is written with its padding")
        return rewriter.finish()


def _is_padded_for(graph: Graph, op: Op) -> bool:
    """Whether ``op`` is a padded convolution, and the kernel before it computes its input for nothing else."""
    if op.kind != "qconv2d" or op.string("layout") != "NHWC" or not any(op.integers("pads")):
        return False
    x = op.operands[0]
    return _reads_in_place(op) and graph.only_user(x) is op and _has_kernel(graph, x)


def _reads_in_place(op: Op) -> bool:
    """Whether kernels leave inputs where they are, if they come padded: they multiply quads of channels, or columns.

    Columns of depthwise convolutions are filled up to quads and read for all rows of results that see one column, and
    for as many pixels as fill 64 bytes.
    """
    outputs, depth, taps = op.operands[1].type.shape[:3]
    groups = op.integer("groups")
    if groups == 1 or depth > 1:
        return depth % 4 == 0
    _, height, width, _ = op.result.type.shape
    if op.integers("strides") != (1, 1):
        return outputs % 64 == 0
    return height % (-taps % 4 + 1) == 0 and width * outputs % 64 == 0


def _has_kernel(graph: Graph, value: Value) -> bool:
    """Whether ``value`` comes from a convolution, requantized, or from a chain that quantizes an input."""
    op = graph.producer(value)
    while op is not None and op.kind in ("lookup", "pad", "transpose") and graph.only_user(op.operands[0]) is op:
        op = graph.producer(op.operands[0])
    if op is None or op.kind != "requantize":
        return op is not None and op.kind == "quantize"
    anchor = graph.producer(op.operands[0])
    return anchor is not None and anchor.kind == "qconv2d" and anchor.string("layout") == "NHWC"
