"""The part of a quantized graph that must equal the reference in every bit."""

from __future__ import annotations

from sqc.ir import Graph

_MOVEMENT = ("reshape", "transpose", "slice", "pad", "copy", "concat")


def exact_region(graph: Graph) -> Graph:
    """The graph up to where float arithmetic begins: integers, conversions to and from them, and movement.

    Its outputs are the outputs that lie in it, and each value at which it ends.
    """
    exact = {*graph.inputs, *graph.constants}
    for op in graph.ops:
        integers = any(value.type.dtype != "float32" for value in (*op.operands, op.result))
        if set(op.operands) <= exact and (integers or op.kind in _MOVEMENT):
            exact.add(op.result)
    outputs = {name: value for name, value in graph.outputs.items() if value in exact}
    for op in graph.ops:
        if op.result not in exact:
            ends = (value for value in op.operands if value in exact and graph.producer(value) is not None)
            outputs.update({f"end {value.name}": value for value in ends})
    return Graph(graph.name, graph.inputs, outputs, graph.constants, graph.ops, graph.dynamic_batch)
