"""What a graph is: rounded already or not, and which of the model's nodes it has."""

from __future__ import annotations

from collections.abc import Iterable

from sqc.errors import CompileError
from sqc.ir import Graph, TensorType

OWN_QUANTIZATION = (
    "the graph is quantized already, and keeps its scales and layers in float as they are: take it without a "
    "calibration and without excluded nodes"
)


def is_quantized(graph: Graph) -> bool:
    """Whether the graph rounds to integers: as its model does, or as :func:`quantize` made it."""
    types = [result.type for op in graph.ops for result in op.results]
    return any(type.dtype in ("uint8", "int8") or _is_accumulator(type) for type in types)


def is_folded(graph: Graph) -> bool:
    """Whether a quantized graph rounds sums of integers already, and not floats alone."""
    return any(op.kind == "requantize" for op in graph.ops)


def _is_accumulator(type: TensorType) -> bool:
    """Whether these are sums of products; other integers of 32 bits, as indices, say what they stand for."""
    return type.dtype == "int32" and type.quantization is None


def known_nodes(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """Names of nodes to exclude, as a set. Raises CompileError for one that the model does not have."""
    chosen = frozenset(names)
    if unknown := chosen - {op.source for op in graph.ops}:
        raise CompileError(f"cannot exclude {', '.join(sorted(unknown))}: the model has no such node")
    return chosen
