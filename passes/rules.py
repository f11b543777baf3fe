"""Rules: local rewrites that a pass repeats until none applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from sqc.errors import GraphError
from sqc.ir import Graph, Op, Rewriter, TensorType, Value, infer_type

_PROBE = 7919
"""Stands for an open batch: a prime that divides no product of real extents."""


class Sweep(Rewriter):
    """One walk over a graph. Rules read the old graph, ``sweep.graph``, and emit into the new one.

    What a rule finds in the old graph stays true whatever other rules did, for :meth:`map` always gives an equal value.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.open_shapes = open_shapes(graph)

    def array(self, value: Value) -> np.ndarray | None:
        """The elements of a constant; None for anything else."""
        return self.graph.constants.get(value)

    def number(self, value: Value) -> float | None:
        """The only element of a constant; None for anything else."""
        array = self.array(value)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def producer(self, value: Value, *kinds: str) -> Op | None:
        """The op that computes ``value`` if it is one of ``kinds``."""
        op = self.graph.producer(value)
        return op if op is not None and op.kind in kinds else None

    def feeds_only(self, value: Value, op: Op) -> bool:
        """Whether ``op`` alone reads ``value``, once."""
        return self.graph.only_user(value) is op

    def same_shape(self, a: Value, b: Value) -> bool:
        """Whether two values of the old graph have equal shapes, at any batch."""
        return a.type.shape == b.type.shape and self.open_shapes[a] == self.open_shapes[b]

    def again(self, op: Op, operands: Sequence[Value], **changes: object) -> Value:
        """Emit a copy of ``op`` on other new operands, as another value of the same name."""
        return self.emit(op.kind, operands, {**op.attributes, **changes}, name=op.result.name, source=op.source)


Rule: TypeAlias = Callable[[Sweep, Op], "Value | None"]


def rewrite(graph: Graph, rules: Mapping[str, Sequence[Rule]]) -> Graph:
    """Apply rules, listed by the kind of the op they look at, until none applies.

    A rule returns the new value that replaces the op's result, or None if it doesn't apply.
    """
    while True:
        sweep = Sweep(graph)
        changed = False
        for op in graph.ops:
            for rule in rules.get(op.kind, ()):
                value = rule(sweep, op)
                if value is not None:
                    sweep.replace(op, value)
                    changed = True
                    break
            else:
                sweep.keep(op)
        graph = sweep.finish()
        if not changed:
            return graph


def open_shapes(graph: Graph) -> dict[Value, tuple[int, ...]]:
    """The shapes of all values, with a batch that is open replaced by a large prime.

    So an extent of 1 here is 1 at any batch, and an extent that differs from the value's own follows the batch.
    """
    shapes = {value: value.type.shape for value in graph.values()}
    if not graph.dynamic_batch:
        return shapes
    types: dict[Value, TensorType] = {value: value.type for value in graph.constants}
    for value in graph.inputs:
        shape = value.type.shape
        types[value] = value.type.with_shape((shape[0] * _PROBE, *shape[1:]) if shape else ())
    try:
        for op in graph.ops:
            types[op.result] = infer_type(op.kind, [types[operand] for operand in op.operands], op.attributes)
    except GraphError:
        return shapes  # the batch cannot be changed after all
    return {value: type.shape for value, type in types.items()}


def open_shape_attribute(shape: Sequence[int], open_shape: Sequence[int]) -> tuple[int, ...]:
    """The ``shape`` attribute of a reshape to ``shape`` that holds at any batch."""
    return tuple(-1 if extent != probe else extent for extent, probe in zip(shape, open_shape, strict=True))
