"""The part of a quantized graph that must equal the reference in every bit."""

from __future__ import annotations

from sqc.ir import Graph, Op, Value

_EXACT_FLOATS = ("reshape", "transpose", "slice", "pad", "copy", "concat", "gather", "dynamic_parameters")


def is_exact(op: Op) -> bool:
    """Whether an op gives the reference's bits: all on integers, and what moves floats or finds their range."""
    integers = any(value.type.dtype != "float32" for value in (*op.operands, op.result))
    return integers or op.kind in _EXACT_FLOATS


def exact_values(graph: Graph) -> set[Value]:
    """The values that no float arithmetic contributes to."""
    exact = {*graph.inputs, *graph.constants}
    for op in graph.ops:
        if set(op.operands) <= exact and is_exact(op):
            exact.update(op.results)
    return exact


def exact_region(graph: Graph) -> Graph:
    """The graph up to where float arithmetic begins: integers, conversions to and from them, and movement.

    Its outputs are the outputs that lie in it, and each value at which it ends.
    """
    exact = exact_values(graph)
    outputs = {name: value for name, value in graph.outputs.items() if value in exact}
    for op in graph.ops:
        if op.result not in exact:
            ends = (value for value in op.operands if value in exact and graph.producer(value) is not None)
            outputs.update({f"end {value.name}": value for value in ends})
    return Graph(graph.name, graph.inputs, outputs, graph.constants, graph.ops, graph.dynamic_batch)
