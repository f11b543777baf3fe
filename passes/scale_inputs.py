"""Bring the channels of images to levels before they are rounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sqc.ir import Graph, Op, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.channels import by_weight


class ChannelLevels(NamedTuple):
    """Of each channel of a value, [C] each: ``x * factors + shifts`` lies within 0 .. 255."""

    factors: ArrayLike
    shifts: ArrayLike


@dataclass(frozen=True)
class ScaleInputs:
    """Scale and shift every channel of an input by itself, in float; the convolutions that read it make up for it.

    conv2d(x, w, b, pads)  ->  conv2d(pad(x) * f + d, w / f, b - sum of w / f * d)

    Pictures are bytes that were brought to other numbers, a channel each. Back among the integers from 0 to 255 they
    are rounded with no error at all, where one scale and an integer zero point for all channels would move each by up
    to half a level or more. ``levels`` maps the names of values (:func:`image_inputs`) to factors f and shifts d.
    """

    name: ClassVar[str] = "scale-inputs"
    levels: Mapping[str, ChannelLevels] = field(default_factory=dict)

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        readers = {op.result for value, ops in image_inputs(graph).items() if value.name in self.levels for op in ops}
        rewriter = Rewriter(graph)
        scaled: dict[tuple[Value, tuple[int, ...]], Value] = {}
        for op in graph.ops:
            if op.result not in readers:
                rewriter.keep(op)
                continue
            x, pads = op.operands[0], op.integers("pads")
            levels = ChannelLevels(*self.levels[x.name])
            if (x, pads) not in scaled:
                scaled[x, pads] = _scaled(rewriter, op, levels)
            operands = [scaled[x, pads], *_weights(rewriter, graph, op, levels)]
            attributes = {**op.attributes, "pads": (0, 0, 0, 0)}
            rewriter.replace(op, rewriter.emit(op.kind, operands, attributes, name=op.result.name, source=op.source))
            notes.add(self, op, f"the {x.type.shape[-1]} channels of its input are scaled and shifted to levels")
        return rewriter.finish()


def image_inputs(graph: Graph, exclude: Collection[str] = ()) -> dict[Value, list[Op]]:
    """The inputs, with channels last, that nothing but convolutions with constant weights read, and those."""
    found: dict[Value, list[Op]] = {}
    for value in graph.inputs:
        readers = graph.users(value)
        if len(readers) == 1 and readers[0].kind == "transpose":
            value = readers[0].result
            readers = graph.users(value)
        if readers and not graph.is_output(value) and all(_reads_image(graph, op, value, exclude) for op in readers):
            found[value] = list(readers)
    return found


def _reads_image(graph: Graph, op: Op, value: Value, exclude: Collection[str]) -> bool:
    return (
        op.kind == "conv2d"
        and op.operands[0] == value
        and op.string("layout") == "NHWC"
        and all(map(graph.is_constant, op.operands[1:]))
        and not {op.source, op.result.name} & set(exclude)
    )


def _scaled(rewriter: Rewriter, op: Op, levels: ChannelLevels) -> Value:
    """What ``op`` reads, padded, scaled and shifted."""
    x = op.operands[0]
    top, left, bottom, right = op.integers("pads")
    value, source = rewriter.map(x), op.source
    if top or left or bottom or right:
        attributes = {"pads": (0, top, left, 0, 0, bottom, right, 0), "value": 0.0}
        value = rewriter.emit("pad", [value], attributes, name=f"{x.name}.padded", source=source)
    factors = rewriter.constant(np.asarray(levels.factors, np.float32), f"{x.name}.factors")
    shifts = rewriter.constant(np.asarray(levels.shifts, np.float32), f"{x.name}.shifts")
    product = rewriter.emit("mul", [value, factors], name=f"{x.name}.scaled", source=source)
    return rewriter.emit("add", [product, shifts], name=f"{x.name}.levels", source=source)


def _weights(rewriter: Rewriter, graph: Graph, op: Op, levels: ChannelLevels) -> tuple[Value, Value]:
    """Weights and bias that undo factors and shifts."""
    w, *bias = op.operands[1:]
    weights = graph.constants[w].astype(np.float64)
    tail = (1,) * (weights.ndim - 2)
    factors, shifts = (
        by_weight(np.asarray(numbers, np.float32).astype(np.float64), weights.shape) for numbers in levels
    )
    divided = weights / factors.reshape(*factors.shape, *tail)
    shifted = (divided * shifts.reshape(*shifts.shape, *tail)).reshape(len(weights), -1).sum(axis=1)
    start = graph.constants[bias[0]].astype(np.float64) if bias else np.zeros(len(weights))
    name = bias[0].name if bias else f"{op.result.name}.bias"
    return (
        rewriter.constant(divided.astype(np.float32), w.name),
        rewriter.constant((start - shifted).astype(np.float32), name),
    )
