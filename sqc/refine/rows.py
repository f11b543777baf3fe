"""The inputs that meet a layer's weights, and the outputs that they make, at some positions of each sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sqc.ir import Op
from sqc.ops.shapes import to_nhwc, windows

_LEAST_ROWS = 8192
_ROWS_PER_COLUMN = 4


class Rows:
    """Which positions of a convolution's output are looked at in each sample; all of a fully connected layer's.

    Enough for the moments of the layer's inputs: rows in all are a few times as many as inputs to each output. Equal
    layers and numbers of batches give equal positions.
    """

    def __init__(self, op: Op, batches: int) -> None:
        self.op = op
        weights, shape = op.operands[1].type.shape, op.result.type.shape
        self.groups = op.integer("groups") if op.kind == "conv2d" else 1
        self.outputs, self.columns = weights[0], math.prod(weights[1:])
        positions = math.prod(shape) // self.outputs
        wanted = -(-max(_LEAST_ROWS, _ROWS_PER_COLUMN * self.columns) // batches)
        self._positions = positions
        self._count = min(positions, wanted)

    def _chosen(self, batch: int) -> NDArray[np.intp]:
        if self._count == self._positions:
            return np.arange(self._positions)
        return np.sort(np.random.default_rng(batch).permutation(self._positions)[: self._count])

    def inputs(self, x: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
        """[1, groups, rows, columns] of the layer's operand ``x``; columns are ordered as in the layer's weights."""
        if self.op.kind != "conv2d":
            return x[None, None]
        kernel = self.op.operands[1].type.shape[2:]
        taken = windows(to_nhwc(x, self.op.string("layout")), kernel, self.op.attributes, 0.0)
        rows = taken[np.unravel_index(self._chosen(batch), taken.shape[:3])]
        split = rows.reshape(len(rows), math.prod(kernel), self.groups, -1).transpose(2, 0, 3, 1)
        return np.ascontiguousarray(split).reshape(1, self.groups, len(rows), self.columns)

    def outputs_of(self, y: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
        """[rows, outputs] of the layer's result ``y``, at the same positions."""
        if self.op.kind != "conv2d":
            return y
        return to_nhwc(y, self.op.string("layout")).reshape(-1, self.outputs)[self._chosen(batch)]
