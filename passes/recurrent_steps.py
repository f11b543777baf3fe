"""The integer steps of recurrent cells, as fold-qparams puts them in the place of a sequence (sqc/NUMERICS.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sqc.ir import Builder, Op, Value
from sqc.ops.recurrent import gate_scales, gate_tables
from sqc.passes.integer_parameters import fold_bias, multiplier
from sqc.passes.time_steps import TimeSteps


@dataclass(frozen=True)
class IntegerCell:
    """What the steps of a sequence share.

    ``p`` holds the accumulators of all steps, int32[T * B, G * H], worth ``unit[G * H]`` each; ``weights`` int8 with
    ``scales``, one a row; ``bias[G * H]`` what joins the products of the hidden state; ``initial`` the float32 states.
    """

    p: Value
    unit: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    initial: tuple[Value, ...]


class IntegerSteps:
    """Emits the steps of ``cell`` in the place of ``op``; the hidden state has ``scale`` and ``zero_point``."""

    def __init__(self, builder: Builder, op: Op, cell: IntegerCell, scale: float, zero_point: int) -> None:
        self.steps = TimeSteps(builder, op)
        self.op = op
        self.cell = cell
        self.parameters: dict[str, Any] = {"scale": scale, "zero_point": zero_point}
        argument = gate_scales(op.kind, self.width)
        arrays = {
            "inputs": multiplier(cell.unit / argument),
            "states": multiplier(np.float64(np.float32(scale)) * cell.scales / argument),
            "sigmoid": gate_tables()[0],
            "tanh": gate_tables()[1],
        }
        self.shared = [self.constant(array, name) for name, array in arrays.items()]

    @property
    def width(self) -> int:
        return int(self.cell.weights.shape[1])

    def constant(self, array: np.ndarray, name: str) -> Value:
        return self.steps.builder.constant(array, f"{self.op.result.name}.{name}")

    def product(self, h: Value | None, first: int, last: int) -> Value:
        """The accumulators of the hidden state for the gates from ``first`` to ``last``: one row where it is zero."""
        rows = slice(first * self.width, last * self.width)
        weights, scales, bias = self.cell.weights[rows], self.cell.scales[rows], self.cell.bias[rows]
        if h is None:
            unit = np.float64(np.float32(self.parameters["scale"])) * scales
            return self.constant(np.rint(bias / unit).astype(np.int32)[None], f"start{first}")
        folded = fold_bias(self.op, h.type, weights, scales, bias)
        operands = [self.constant(weights, f"weights{first}"), self.constant(folded, f"bias{first}")]
        return self.steps.emit("qfully_connected", h, *operands, name="sum")

    def start(self) -> tuple[Value | None, list[Value]]:
        """The hidden state before the first step as levels, None for zero, and the states in float32."""
        if not self.cell.initial:
            return None, [self.constant(np.zeros((1, self.width), np.float32), "zero")]
        return self.steps.emit("quantize", self.cell.initial[0], **self.parameters), list(self.cell.initial)

    def lstm(self) -> tuple[Value, Value]:
        """Hidden states, u8[T, B, H], and the cells', float32[T, B, H]."""
        h, states = self.start()
        c = states[-1]
        hidden, cells = {}, {}
        rows = self.steps.apart(self.cell.p)
        for t in self.steps.order:
            acc = self.product(h, 0, 4)
            cells[t] = c = self.steps.emit("qlstm_cell", rows[t], acc, c, *self.shared)
            hidden[t] = h = self.steps.emit("qlstm_hidden", rows[t], acc, c, *self.shared, **self.parameters)
        return self.steps.together(hidden), self.steps.together(cells)

    def gru(self, before: bool) -> Value:
        """Hidden states, u8[T, B, H]; with ``before`` the reset gate acts on sums of products."""
        h, (state,) = self.start()
        hidden = {}
        rows = self.steps.apart(self.cell.p)
        for t in self.steps.order:
            acc = self.product(h, 0, 3 if before else 2)
            if before:
                candidate = acc
            else:
                kept = None if h is None else self.steps.emit("qgru_reset", rows[t], acc, h, *self.shared)
                candidate = self.product(kept, 2, 3)
            operands = rows[t], acc, candidate, state, *self.shared
            state = self.steps.emit("qgru_state", *operands, linear_before_reset=before)
            hidden[t] = h = self.steps.emit("quantize", state, **self.parameters)
        return self.steps.together(hidden)
