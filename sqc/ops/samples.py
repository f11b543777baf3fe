"""Whether the samples of a batch are computed each for itself, so that a batch may be cut anywhere."""

from __future__ import annotations

from sqc.errors import GraphError
from sqc.ir import Graph, Op, Value, rebatch

_SIZES = (2, 3)

_STEP_BY_STEP = ("lstm", "lstm_cells", "gru")
"""Ops whose leading axis holds one step of all samples after the other."""


def samples_are_independent(graph: Graph) -> bool:
    """Whether every value that depends on the inputs holds one sample after the other, and no op mixes them.

    The answer rests on shapes at two batch sizes: a sum over the batch, for one, has a shape that doesn't grow with it.
    Ops that keep the shape mix samples by their axis only. In doubt the answer is no.
    """
    if not graph.dynamic_batch or not graph.inputs:
        return False
    try:
        small, large = (rebatch(graph, size) for size in _SIZES)
    except GraphError:
        return False
    dependent = set(small.inputs)
    for op, larger in zip(small.ops, large.ops, strict=True):
        if dependent.isdisjoint(op.operands):
            continue
        if op.kind in ("fused", *_STEP_BY_STEP) or _along_samples(op, dependent):
            return False
        if not all(map(_grows, op.results, larger.results)):
            return False
        dependent |= set(op.results)
    pairs = zip(small.outputs.values(), large.outputs.values(), strict=True)
    return all(value in dependent and _grows(value, larger) for value, larger in pairs)


def _grows(small: Value, large: Value) -> bool:
    """Whether only the leading dimension differs, in proportion to the batch."""
    a, b = small.type.shape, large.type.shape
    return bool(a) and a[1:] == b[1:] and a[0] * _SIZES[1] == b[0] * _SIZES[0]


def _along_samples(op: Op, dependent: set[Value]) -> bool:
    """Whether the op works along the leading axis of what depends on the inputs."""
    first = op.operands[0]
    if first not in dependent:
        return False
    axes = op.integers("axes") if "axes" in op.attributes else ()
    if "axis" in op.attributes:
        axes = (*axes, op.integer("axis"))
    return any(axis % len(first.type.shape) == 0 for axis in axes)
