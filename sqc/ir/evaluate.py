"""Runs any graph op by op through the numpy references."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sqc.errors import InputError
from sqc.ir.graph import Graph, Op, Value
from sqc.ir.registry import definition


def evaluate_op(op: Op, arrays: list[np.ndarray]) -> np.ndarray:
    """The result of one op on the arrays of its operands."""
    return definition(op.kind).reference(op, arrays)


def evaluate(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run ``graph`` on ``inputs`` by name; returns its outputs by name.

    Raises InputError for a missing, unknown or ill-typed input. Intermediate arrays are dropped after their last use.
    """
    environment: dict[Value, np.ndarray] = dict(graph.constants)
    if unknown := inputs.keys() - {value.name for value in graph.inputs}:
        known = ", ".join(value.name for value in graph.inputs)
        raise InputError(f"the graph has no input {', '.join(sorted(unknown))}; its inputs are {known}")
    for value in graph.inputs:
        if value.name not in inputs:
            raise InputError(f"input '{value.name}' ({value.type}) is missing")
        array = np.asarray(inputs[value.name])
        if array.shape != value.type.shape or array.dtype.name != value.type.dtype:
            raise InputError(f"input '{value.name}' must be {value.type}, not {array.dtype.name}{list(array.shape)}")
        environment[value] = array
    last_use = {operand: i for i, op in enumerate(graph.ops) for operand in op.operands}
    for i, op in enumerate(graph.ops):
        environment[op.result] = evaluate_op(op, [environment[operand] for operand in op.operands])
        for operand in set(op.operands):
            if last_use[operand] == i and not graph.is_output(operand):
                del environment[operand]
    return {name: environment[value] for name, value in graph.outputs.items()}
