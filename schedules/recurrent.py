"""Formulas of the steps of recurrent cells; those of ``sqc/ops/recurrent.py``, operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqc.ops.recurrent import GATE_ZERO, PRODUCT_UNIT, TANH_STEPS, UNIT
from sqc.schedules._tvm import fence, te
from sqc.schedules.chain import Numbers, Step
from sqc.schedules.epilogue import weighted_sum
from sqc.schedules.functions import constant
from sqc.schedules.views import Index, Shape, View

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr


def _rows(x: View, row: Expr, column: Expr) -> Expr:
    """An element of a matrix that has as many rows as the result, or one for all of them."""
    return x.read([row if x.shape[0] > 1 else 0, column])


def _entry(argument: Expr, table: View) -> Expr:
    """The table's entry for a float32 argument in levels, as s32."""
    t = te.min(te.max(te.round(argument), constant(-GATE_ZERO)), constant(255 - GATE_ZERO))
    level = (t.astype("int32") + GATE_ZERO).astype("uint8")
    return table.read([level.astype("int32")]).astype("int32")


class _Gates:
    """The gates of a step whose sources are ``(p, acc, ..., M_p, M_a, sigmoid, tanh)``, at one index."""

    def __init__(self, sources: Sequence[View], shape: Shape, index: Index) -> None:
        self.p, self.acc, *_, self.own, self.other, self.sigmoid, self.tanh = sources
        self.width = shape[1]
        self.row, self.column = index

    def entry(self, number: int, table: View) -> Expr:
        column = number * self.width + self.column
        terms = [_rows(self.p, self.row, column), _rows(self.acc, self.row, column)]
        return _entry(weighted_sum(terms, [None, None], [self.own.read([column]), self.other.read([column])]), table)

    def open(self, number: int) -> Expr:
        """A gate that is a sigmoid, in levels from 0 to 255."""
        return self.entry(number, self.sigmoid)


def _mixed(share: Expr, state: Expr, product: Expr) -> Expr:
    """``f32(share) * UNIT * state + f32(product) * UNITS``, every operation rounded by itself."""
    kept = fence(fence(share.astype("float32") * constant(float(UNIT))) * state)
    return fence(kept + fence(product.astype("float32") * constant(float(PRODUCT_UNIT))))


def _lstm_cell(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    def read(index: Index) -> Expr:
        gates = _Gates(sources, step.shape, index)
        g = gates.entry(3, gates.tanh) - GATE_ZERO
        return _mixed(gates.open(2), _rows(sources[2], *index), gates.open(0) * g)

    return View(step.shape, "float32", read)


def _lstm_hidden(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    def read(index: Index) -> Expr:
        gates = _Gates(sources, step.shape, index)
        bent = _entry(fence(sources[2].read(index) * constant(float(TANH_STEPS))), gates.tanh) - GATE_ZERO
        t = te.round(fence((gates.open(1) * bent).astype("float32") * numbers.scale(0)))
        low, high = (numbers.integer(i).astype("float32") for i in (1, 2))
        return (te.min(te.max(t, low), high).astype("int32") + numbers.integer(0)).astype("uint8")

    return View(step.shape, "uint8", read)


def _gru_reset(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    def read(index: Index) -> Expr:
        gates = _Gates(sources, step.shape, index)
        h = sources[2].read(index).astype("int32") - numbers.integer(0)
        t = te.round(fence((gates.open(1) * h).astype("float32") * constant(float(UNIT))))
        return (t.astype("int32") + numbers.integer(0)).astype("uint8")

    return View(step.shape, "uint8", read)


def _gru_state(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    candidate, h = sources[2:4]

    def read(index: Index) -> Expr:
        gates = _Gates(sources, step.shape, index)
        row, column = index
        last = 2 * gates.width + column
        recurrent = _rows(candidate, row, candidate.shape[1] - gates.width + column).astype("float32")
        recurrent = fence(recurrent * gates.other.read([last]))
        if step["linear_before_reset"]:
            recurrent = fence(recurrent * fence(gates.open(1).astype("float32") * constant(float(UNIT))))
        own = fence(gates.p.read([row, last]).astype("float32") * gates.own.read([last]))
        g = _entry(fence(own + recurrent), gates.tanh) - GATE_ZERO
        update = gates.open(0)
        return _mixed(update, _rows(h, row, column), (255 - update) * g)

    return View(step.shape, "float32", read)


FORMULAS = {
    "qlstm_cell": _lstm_cell,
    "qlstm_hidden": _lstm_hidden,
    "qgru_reset": _gru_reset,
    "qgru_state": _gru_state,
}
"""By kind, as :data:`sqc.schedules.injective.FORMULAS` takes them."""
