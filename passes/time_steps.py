"""Sequences taken apart into steps and put together again; nothing of it moves data in a compiled model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqc.ir import Builder, Op, Value
from sqc.ops.recurrent import step_order


class TimeSteps:
    """Emits what a sequence op consists of, under its name and source."""

    def __init__(self, builder: Builder, op: Op) -> None:
        self.builder = builder
        self.op = op
        self.order = step_order(op)

    def emit(self, kind: str, *operands: Value, name: str = "", **attributes: Any) -> Value:
        """An op; without a ``name`` it is called after the sequence and its own kind."""
        name = f"{self.op.result.name}.{name or kind}"
        return self.builder.emit(kind, operands, attributes, name=name, source=self.op.source)

    def apart(self, rows: Value) -> list[Value]:
        """``[T * B, C]`` or ``[T, B, C]`` as ``[B, C]`` for each step."""
        columns = rows.type.shape[-1]
        every = self.emit("reshape", rows, shape=(len(self.order), -1, columns))
        steps = []
        for t in range(len(self.order)):
            step = self.emit("slice", every, axes=(0,), starts=(t,), ends=(t + 1,), steps=(1,))
            steps.append(self.emit("reshape", step, shape=(-1, columns)))
        return steps

    def together(self, states: Mapping[int, Value]) -> Value:
        """``[B, C]`` for each step as ``[T, B, C]``."""
        parts = [self.emit("reshape", states[t], shape=(1, -1, states[t].type.shape[1])) for t in range(len(states))]
        return self.emit("concat", *parts, axis=0, name="states") if len(parts) > 1 else parts[0]
