"""Rebuilding a graph: the one way in which passes change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sqc.errors import GraphError
from sqc.ir.graph import Attribute, Graph, Op, Value, same_bits
from sqc.ir.registry import complete_attributes, infer_type
from sqc.ir.types import Quantization, TensorType, type_of


def take_name(name: str, taken: set[str]) -> str:
    """``name`` if it is free, else ``name.1``, ``name.2`` ...; it is taken from then on."""
    candidate, i = name, 0
    while candidate in taken:
        i += 1
        candidate = f"{name}.{i}"
    taken.add(candidate)
    return candidate


class Builder:
    """Builds a graph op by op; infers types, keeps names unique, shares equal constants of equal name."""

    def __init__(self, name: str = "graph", dynamic_batch: bool = False) -> None:
        self.name = name
        self.dynamic_batch = dynamic_batch
        self.inputs: list[Value] = []
        self.outputs: dict[str, Value] = {}
        self.constants: dict[Value, np.ndarray] = {}
        self.ops: list[Op] = []
        self._names: set[str] = set()

    def unique(self, name: str) -> str:
        """``name`` if it is free, else ``name.1``, ``name.2`` ..."""
        return take_name(name, self._names)

    def input(self, name: str, type: TensorType) -> Value:
        if name in self._names:
            raise GraphError(f"the name %{name} is taken; inputs keep theirs")
        value = Value(self.unique(name), type)
        self.inputs.append(value)
        return value

    def constant(self, array: np.ndarray, name: str, quantization: Quantization | None = None) -> Value:
        """Add a constant. An equal constant of the same name is reused."""
        if array.flags.writeable or not array.flags.c_contiguous:
            array = np.array(array, order="C", copy=True)
            array.flags.writeable = False
        same = Value(name, type_of(array, quantization))
        if same in self.constants and same_bits(self.constants[same], array):
            return same
        value = replace(same, name=self.unique(name))
        self.constants[value] = array
        return value

    def emit(
        self,
        kind: str,
        operands: Iterable[Value],
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str,
        source: str = "",
    ) -> Value:
        """Append an op and return its result. Raises GraphError, naming ``source``, if it is ill-formed."""
        operands = tuple(operands)
        try:
            complete: dict[str, Attribute] = complete_attributes(kind, attributes or {})
            type = infer_type(kind, [operand.type for operand in operands], complete)
        except GraphError as error:
            raise GraphError(f"{error} (at '{source or name}')") from error
        value = Value(self.unique(name), type)
        self.ops.append(Op(kind, operands, (value,), complete, source))
        return value

    def finish(self) -> Graph:
        """The graph, without ops and constants that no output needs."""
        live: set[Value] = set(self.outputs.values())
        kept: list[Op] = []
        for op in reversed(self.ops):
            if live.intersection(op.results):
                kept.append(op)
                live.update(op.operands)
        constants = {value: array for value, array in self.constants.items() if value in live}
        return Graph(
            self.name,
            tuple(self.inputs),
            dict(self.outputs),
            constants,
            tuple(reversed(kept)),
            self.dynamic_batch,
        )


class Rewriter(Builder):
    """Walks a graph in order and builds another: ``map`` tells what became of each old value.

    A pass loops over ``graph.ops``; for each op it either calls :meth:`keep`, or emits something else and calls
    :meth:`replace`. Ops that are no longer needed vanish in :meth:`finish`, so a pass that fuses several ops only
    emits the fused one in place of the last.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name, graph.dynamic_batch)
        self.graph = graph
        self._map: dict[Value, Value] = {}
        for value in graph.inputs:
            self._map[value] = self.input(value.name, value.type)

    def map(self, value: Value) -> Value:
        """The new value that stands for an old one. Constants are copied when first asked for."""
        if value not in self._map and value in self.graph.constants:
            array = self.graph.constants[value]
            self._map[value] = self.constant(array, value.name, value.type.quantization)
        return self._map[value]

    def operands(self, op: Op) -> tuple[Value, ...]:
        return tuple(self.map(operand) for operand in op.operands)

    def keep(self, op: Op, operands: Iterable[Value] | None = None, **changes: Any) -> Value:
        """Emit ``op`` on the new operands, with changed attributes where given; types are inferred anew."""
        operands = self.operands(op) if operands is None else operands
        value = self.emit(op.kind, operands, {**op.attributes, **changes}, name=op.result.name, source=op.source)
        return self.replace(op, value)

    def replace(self, op: Op, value: Value) -> Value:
        """From here on ``value`` stands for the result of ``op``."""
        self._map[op.result] = value
        return value

    def finish(self) -> Graph:
        self.outputs = {name: self.map(value) for name, value in self.graph.outputs.items()}
        return super().finish()


def rebatch(graph: Graph, batch: int) -> Graph:
    """The same graph for another leading dimension of all inputs. Raises GraphError if the model fixes it."""
    if not graph.inputs or all(value.type.shape[:1] == (batch,) for value in graph.inputs):
        return graph
    if not graph.dynamic_batch:
        raise GraphError(
            f"the model fixes its batch at {graph.inputs[0].type.shape[0]}, so batch={batch} cannot be had; "
            "export it with a dynamic leading dimension"
        )
    resized = [replace(value, type=value.type.with_shape((batch, *value.type.shape[1:]))) for value in graph.inputs]
    rewriter = Rewriter(replace(graph, inputs=()))
    for old, new in zip(graph.inputs, resized, strict=True):
        rewriter._map[old] = rewriter.input(new.name, new.type)
    for op in graph.ops:
        operands = rewriter.operands(op)
        changes: dict[str, Any] = {}
        if op.kind == "fused":
            body = replace(op.body, dynamic_batch=True)
            changes["body"] = _retype_body(body, [operand.type for operand in operands])
        rewriter.keep(op, operands, **changes)
    return rewriter.finish()


def _retype_body(body: Graph, types: list[TensorType]) -> Graph:
    rewriter = Rewriter(replace(body, inputs=(), dynamic_batch=False))
    for old, type in zip(body.inputs, types, strict=True):
        rewriter._map[old] = rewriter.input(old.name, type)
    for op in body.ops:
        rewriter.keep(op)
    return rewriter.finish()
