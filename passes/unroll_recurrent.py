"""Take recurrent layers that stay in float apart into the steps of their cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sqc.ir import Graph, Rewriter, Value
from sqc.passes.base import Notes
from sqc.passes.time_steps import TimeSteps


@dataclass(frozen=True)
class UnrollRecurrent:
    """Replace sequences of float cells by fully connected layers and functions, step after step.

    lstm(p, r)  ->  c = sigmoid(f) * c + sigmoid(i) * tanh(g), h = sigmoid(o) * tanh(c) for each step, concat(h ...)

    The gates of a step are ``p[t] + fully_connected(h, r)``; without an initial state, ``p[0]`` alone.
    """

    name: ClassVar[str] = "unroll-recurrent"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        unroll: dict[str, Callable[..., Value]] = {"lstm": _lstm, "lstm_cells": _lstm_cells, "gru": _gru}
        rewriter = Rewriter(graph)
        for op in graph.ops:
            if op.kind in unroll:
                steps = TimeSteps(rewriter, op)
                rewriter.replace(op, unroll[op.kind](steps, *rewriter.operands(op)))
                notes.add(self, op, f"{len(steps.order)} steps of its cell")
            else:
                rewriter.keep(op)
        return rewriter.finish()


def _columns(steps: TimeSteps, gates: Value, number: int, width: int) -> Value:
    ends = ((number + 1) * width,)
    return steps.emit("slice", gates, axes=(1,), starts=(number * width,), ends=ends, steps=(1,), name="gate")


def _cell(steps: TimeSteps, gates: Value, c: Value | None) -> Value:
    width = gates.type.shape[1] // 4
    i, f = (steps.emit("sigmoid", _columns(steps, gates, number, width)) for number in (0, 2))
    g = steps.emit("tanh", _columns(steps, gates, 3, width))
    new = steps.emit("mul", i, g)
    return new if c is None else steps.emit("add", steps.emit("mul", f, c), new)


def _gates(steps: TimeSteps, p: Value, h: Value | None, r: Value) -> Value:
    return p if h is None else steps.emit("add", p, steps.emit("fully_connected", h, r))


def _lstm(steps: TimeSteps, p: Value, r: Value, h: Value | None = None, c: Value | None = None) -> Value:
    rows, states = steps.apart(p), {}
    for t in steps.order:
        gates = _gates(steps, rows[t], h, r)
        c = _cell(steps, gates, c)
        o = steps.emit("sigmoid", _columns(steps, gates, 1, r.type.shape[1]))
        states[t] = h = steps.emit("mul", o, steps.emit("tanh", c))
    return steps.together(states)


def _lstm_cells(
    steps: TimeSteps, hidden: Value, p: Value, r: Value, h: Value | None = None, c: Value | None = None
) -> Value:
    rows, known, states = steps.apart(p), steps.apart(hidden), {}
    for t in steps.order:
        states[t] = c = _cell(steps, _gates(steps, rows[t], h, r), c)
        h = known[t]
    return steps.together(states)


def _gru(steps: TimeSteps, p: Value, r: Value, bias: Value, h: Value | None = None) -> Value:
    width = r.type.shape[1]
    weights = steps.builder.constants[r]
    first = steps.builder.constant(weights[: 2 * width], f"{r.name}.gates")
    last = steps.builder.constant(weights[2 * width :], f"{r.name}.candidate")
    one = steps.builder.constant(np.float32(1).reshape(()), f"{r.name}.one")
    before = bool(steps.op.attributes["linear_before_reset"])
    rows, states = steps.apart(p), {}
    for t in steps.order:
        gates = _columns(steps, rows[t], 0, 2 * width)
        gates = steps.emit("sigmoid", _gates(steps, gates, h, first))
        update, reset = (_columns(steps, gates, number, width) for number in (0, 1))
        candidate = bias
        if before:
            linear = bias if h is None else steps.emit("fully_connected", h, last, bias)
            candidate = steps.emit("mul", reset, linear)
        elif h is not None:
            candidate = steps.emit("fully_connected", steps.emit("mul", reset, h), last, bias)
        g = steps.emit("tanh", steps.emit("add", _columns(steps, rows[t], 2, width), candidate))
        new = steps.emit("mul", steps.emit("sub", one, update), g)
        states[t] = h = new if h is None else steps.emit("add", new, steps.emit("mul", update, h))
    return steps.together(states)
