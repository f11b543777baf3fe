"""Cutting a part out of a graph, and a whole graph in two."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from sqc.ir.graph import Graph, Value
from sqc.ir.rewrite import take_name


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


def split(graph: Graph, count: int) -> tuple[Graph, Graph]:
    """The first ``count`` ops and the others, each a graph of its own.

    The first keeps all inputs. Among its outputs are the values that the second takes as inputs. Every op has to serve
    some output of the graph.
    """
    late = {value for op in graph.ops[count:] for value in op.results}
    taken = dict.fromkeys(operand for op in graph.ops[count:] for operand in op.operands if operand not in late)
    passed = [value for value in taken if value not in graph.inputs and value not in graph.constants]
    outputs = {name: value for name, value in graph.outputs.items() if value not in late}
    names = set(outputs)
    outputs |= {take_name(value.name, names): value for value in passed if value not in outputs.values()}
    last = {name: value for name, value in graph.outputs.items() if value in late}
    head = replace(cut(graph, outputs, ()), inputs=graph.inputs, dynamic_batch=graph.dynamic_batch)
    return head, replace(cut(graph, last, passed), dynamic_batch=graph.dynamic_batch)
