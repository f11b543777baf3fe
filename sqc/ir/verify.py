"""The verifier: what must hold of every graph, between any two passes."""

from __future__ import annotations

from sqc.errors import GraphError
from sqc.ir.graph import Graph, Value
from sqc.ir.registry import complete_attributes, infer_type
from sqc.ir.types import type_of


def verify(graph: Graph) -> None:
    """Check SSA form, order, constants, attributes and types, also of fused bodies.

    Raises GraphError that names the first op or value at fault.
    """
    known: dict[str, Value] = {}

    def define(value: Value) -> None:
        if value.name in known:
            raise GraphError(f"graph '{graph.name}': %{value.name} is defined twice")
        known[value.name] = value

    for value in graph.inputs:
        define(value)
    for value, array in graph.constants.items():
        define(value)
        if type_of(array, value.type.quantization) != value.type:
            raise GraphError(f"constant %{value.name} holds {type_of(array)} but is declared as {value.type}")
    for op in graph.ops:
        for operand in op.operands:
            if operand.name not in known:
                raise GraphError(f"{op.label()} reads %{operand.name} before it is defined")
            if known[operand.name] != operand:
                raise GraphError(
                    f"{op.label()} reads %{operand.name} as {operand.type}, but it is {known[operand.name].type}"
                )
        try:
            complete = complete_attributes(op.kind, op.attributes)
            inferred = infer_type(op.kind, [operand.type for operand in op.operands], complete)
        except GraphError as error:
            raise GraphError(f"{op.label()}: {error}") from error
        if complete != op.attributes:
            raise GraphError(f"{op.label()} lacks attributes: {sorted(complete.keys() - op.attributes.keys())}")
        if op.result.type != inferred:
            raise GraphError(f"{op.label()} is declared as {op.result.type}, but computes {inferred}")
        if op.kind == "fused":
            verify(op.body)
        for result in op.results:
            define(result)
    for name, value in graph.outputs.items():
        if known.get(value.name) != value:
            raise GraphError(f"output '{name}' returns %{value.name}, which the graph does not define")
