"""What a graph is: rounded already or not, and which of the model's nodes it has."""

from __future__ import annotations

from collections.abc import Iterable

from sqc.errors import CompileError
from sqc.ir import Graph

OWN_QUANTIZATION = (
    "the graph is quantized already, and keeps its scales and layers in float as they are: take it without a "
    "calibration and without excluded nodes"
)


def is_quantized(graph: Graph) -> bool:
    """Whether the graph rounds to integers: as its model does, or as :func:`quantize` made it."""
    return any(result.type.dtype in ("uint8", "int8", "int32") for op in graph.ops for result in op.results)


def is_folded(graph: Graph) -> bool:
    """Whether a quantized graph computes on integers already, and not in float between roundings."""
    return any(op.kind == "requantize" or result.type.dtype == "int32" for op in graph.ops for result in op.results)


def known_nodes(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Names of nodes to exclude, as a set. Raises CompileError for one that the model does not have."""
    chosen = frozenset(names)
    if unknown := chosen - {op.source for op in graph.ops}:
        raise CompileError(f"cannot exclude {', '.join(sorted(unknown))}: the model has no such node")
    return chosen
