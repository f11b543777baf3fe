"""Batch normalization as part of the layer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.ir import Graph, Op, Value
from sqc.passes.base import Notes
from sqc.passes.linear import find_linear, fold_behind
from sqc.passes.rules import Sweep, rewrite


@dataclass(frozen=True)
class FoldBatchNorm:
    """Fold batch normalization into the conv2d or fully_connected before it; its parameters are combined in float64.

    batch_norm(conv2d(x, w, b))  ->  conv2d(x, w * s, b * s + t)  where s = gamma / sqrt(var + epsilon),
                                                                       t = beta - mean * s

    Reshapes and transposes may lie between. One that stands alone becomes mul(x, s) + t.
    """

    name: ClassVar[str] = "fold-batch-norm"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        def rule(sweep: Sweep, op: Op) -> Value | None:
            return self._fold(sweep, op, notes)

        return rewrite(graph, {"batch_norm": [rule]})

    def _fold(self, sweep: Sweep, op: Op, notes: Notes) -> Value | None:
        arrays = [sweep.array(operand) for operand in op.operands[1:]]
        if any(array is None for array in arrays):
            notes.add(self, op, "stays, for its parameters are computed at run time")
            return None
        gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        scale = gamma / np.sqrt(variance + op.number("epsilon"))
        shift = beta - mean * scale
        x = op.operands[0]
        axis = op.integer("axis") % x.type.rank
        linear = find_linear(sweep, x, axis, op)
        folded = None if linear is None else fold_behind(sweep, linear, scale, shift, op.result.name)
        if linear is not None and folded is not None:
            notes.add(self, op, f"folded into {linear.op.label()}")
            return folded
        return self._alone(sweep, op, axis, scale.astype(np.float32), shift.astype(np.float32), notes)

    def _alone(self, sweep: Sweep, op: Op, axis: int, scale: np.ndarray, shift: np.ndarray, notes: Notes) -> Value:
        x, name = sweep.map(op.operands[0]), op.result.name
        notes.add(self, op, "became a product and a sum, as no layer before it can take it in")
        shape = (scale.size,) + (1,) * (x.type.rank - 1 - axis)
        factor = sweep.constant(scale.reshape(shape), f"{name}.scale")
        term = sweep.constant(shift.reshape(shape), f"{name}.shift")
        product = sweep.emit("mul", [x, factor], name=f"{name}.scaled", source=op.source)
        return sweep.emit("add", [product, term], name=name, source=op.source)
