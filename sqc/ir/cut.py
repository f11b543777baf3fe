"""Cutting a part out of a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqc.ir.graph import Graph, Value


def cut(graph: Graph, outputs: Mapping[str, Value], known: Collection[Value]) -> Graph:
    """The part of a graph that computes ``outputs`` from its inputs and from ``known`` values, which become inputs."""
    needed = set(outputs.values())
    ops = []
    for op in reversed(graph.ops):
        if op.result in needed and op.result not in known:
            ops.append(op)
            needed.update(op.operands)
    inputs = tuple(value for value in graph.values() if value in needed and (value in graph.inputs or value in known))
    constants = {value: array for value, array in graph.constants.items() if value in needed}
    return Graph(graph.name, inputs, dict(outputs), constants, tuple(reversed(ops)))
