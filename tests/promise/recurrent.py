"""Random steps of recurrent cells: integer gates over what a layer computes for the inputs of all steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Value
from sqc.ops.recurrent import gate_tables

if TYPE_CHECKING:
    from tests.promise.generator import Generator


class Cell:
    """A sequence of one or two steps of so many gates, over the pixels of an image."""

    def __init__(self, generator: Generator, gates: int) -> None:
        self.g = generator
        draw = generator.draw
        x = generator.image()
        rows, self.width = x.type.size // x.type.shape[-1], draw.whole(1, 40)
        x = self.emit("reshape", x, shape=(-1, x.type.shape[-1]))
        self.steps = draw.one([1, 2])
        self.batch = min(rows // self.steps, draw.whole(1, 5))
        if not self.batch:
            self.steps, self.batch = 1, rows
        x = self.emit("slice", x, axes=(0,), starts=(0,), ends=(self.steps * self.batch,), steps=(1,))
        p, spread = self.product(x, gates)
        self.p = self.emit("reshape", p, shape=(self.steps, self.batch, gates * self.width))
        multipliers = [draw.multipliers(s, (gates * self.width,)) for s in (spread, self.spread)]
        tables = [draw.table(), draw.table()] if draw.chance(0.5) else gate_tables()
        self.shared = [generator.constant(array, "cell") for array in (*multipliers, *tables)]

    @property
    def spread(self) -> float:
        return 75.0 * 147.0 * float(np.sqrt(self.width))

    def emit(self, kind: str, *operands: Value, **attributes: object) -> Value:
        return self.g.builder.emit(kind, operands, attributes, name=self.g.name(kind))

    def product(self, x: Value, gates: int) -> tuple[Value, float]:
        w, bias, spread = self.g.draw.weights((gates * self.width, x.type.shape[1]))
        return self.emit("qfully_connected", x, self.g.constant(w, "w"), self.g.constant(bias, "b")), spread

    def step(self, number: int) -> Value:
        """The accumulators of a step's inputs."""
        p = self.emit("slice", self.p, axes=(0,), starts=(number,), ends=(number + 1,), steps=(1,))
        return self.emit("reshape", p, shape=p.type.shape[1:])

    def start(self, gates: int) -> Value:
        """The accumulators of a hidden state of zero: one row."""
        levels = self.g.draw.random.integers(-(2**16), 2**16, (1, gates * self.width))
        return self.g.constant(levels.astype(np.int32), "start")

    def state(self) -> Value:
        """A state in float before the first step, one row for all samples or one each."""
        draw = self.g.draw
        array = draw.random.normal(0, draw.one([1.0, 1.0, 1e20]), (draw.one([1, self.batch]), self.width))
        return self.g.constant(array.astype(np.float32), "state")

    def levels(self) -> Value:
        """A hidden state before the first step, as levels."""
        return self.emit("quantize", self.whole_state(), **self.g.draw.qparams())

    def whole_state(self) -> Value:
        x = self.g.draw.random.normal(0, 1, (self.batch, self.width)).astype(np.float32)
        return self.g.constant(x, "hidden")

    def finish(self, hidden: list[Value], state: Value) -> None:
        """The last state leaves the graph, hidden states are joined where they are several."""
        self.g.builder.outputs[f"state_{state.name}"] = state
        parts = [self.emit("reshape", h, shape=(1, *h.type.shape)) for h in hidden]
        whole = self.emit("concat", *parts, axis=0) if len(parts) > 1 else parts[0]
        self.g.keep(self.emit("reshape", whole, shape=(-1, self.width)))


def lstm(generator: Generator) -> None:
    cell = Cell(generator, 4)
    qparams = generator.draw.qparams()
    hidden: list[Value] = []
    c = cell.state()
    for number in range(cell.steps):
        p = cell.step(number)
        acc = cell.product(hidden[-1], 4)[0] if hidden else cell.start(4)
        c = cell.emit("qlstm_cell", p, acc, c, *cell.shared)
        hidden.append(cell.emit("qlstm_hidden", p, acc, c, *cell.shared, **qparams))
    cell.finish(hidden, c)


def gru(generator: Generator) -> None:
    cell = Cell(generator, 3)
    before = generator.draw.chance(0.5)
    qparams = generator.draw.qparams()
    hidden: list[Value] = []
    state, h = cell.state(), cell.levels()
    for number in range(cell.steps):
        p = cell.step(number)
        first = number == 0 and generator.draw.chance(0.5)
        gates = 3 if before else 2
        acc = cell.start(gates) if first else cell.product(h, gates)[0]
        candidate = acc
        if not before:
            candidate = cell.product(cell.emit("qgru_reset", p, acc, h, *cell.shared), 1)[0]
        state = cell.emit("qgru_state", p, acc, candidate, state, *cell.shared, linear_before_reset=before)
        h = cell.emit("quantize", state, **qparams)
        hidden.append(h)
    cell.finish(hidden, state)


MAKERS: tuple[Callable[[Generator], None], ...] = (lstm, gru)
