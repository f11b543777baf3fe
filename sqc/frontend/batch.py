"""Makes a graph that was built for one batch size hold for every one.

Shapes are concrete at import, so arithmetic on shapes can write the batch into the graph. Building the model for
batches 1 and 2 shows where: a reshape gets a -1 in that place, a constant that only repeats itself along the batch is
kept once and broadcasts. Whatever else differs ties the model to one batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sqc.errors import GraphError
from sqc.ir import Graph, Op, Rewriter, rebatch, same_bits


class DependsOnBatch(Exception):
    """Something in the model, named in the message, holds for one batch size only."""


def open_batch(one: Graph, two: Graph) -> Graph:
    """The graph of batch 1 with an open batch, given the same model built for batches 1 and 2.

    Raises DependsOnBatch, naming the node, if there is none.
    """
    for a, b in zip(one.ops, two.ops, strict=False):
        if (a.kind, a.source) != (b.kind, b.source):
            raise DependsOnBatch(f"{a.label()} becomes {b.label()}")
    if len(one.ops) != len(two.ops) or len(one.constants) != len(two.constants):
        raise DependsOnBatch("the number of operations changes")
    _compare_constants(one, two)
    rewriter = Rewriter(replace(one, dynamic_batch=True))
    for a, b in zip(one.ops, two.ops, strict=True):
        changes: dict[str, Any] = {"shape": _open_shape(a, b)} if a.kind == "reshape" else {}
        if not changes and a.attributes != b.attributes:
            names = [name for name in a.attributes if a.attributes[name] != b.attributes[name]]
            raise DependsOnBatch(f"{', '.join(names)} of {a.label()}")
        rewriter.keep(a, **changes)
    opened = rewriter.finish()
    _prove(opened, two)
    return opened


def _open_shape(a: Op, b: Op) -> tuple[int, ...]:
    first, second = a.integers("shape"), b.integers("shape")
    differing = [i for i, (m, n) in enumerate(zip(first, second, strict=False)) if m != n]
    if len(first) != len(second) or len(differing) > 1:
        raise DependsOnBatch(f"{a.label()} from {list(first)} to {list(second)}")
    return tuple(-1 if i in differing else extent for i, extent in enumerate(first))


def _compare_constants(one: Graph, two: Graph) -> None:
    for (value, first), second in zip(one.constants.items(), two.constants.values(), strict=True):
        repeats = first.shape[:1] == (1,) and second.shape == (2, *first.shape[1:])
        if not same_bits(first, second) and not (
            repeats and all(same_bits(np.ascontiguousarray(row), np.ascontiguousarray(first[0])) for row in second)
        ):
            readers = ", ".join(op.label() for op in one.users(value)) or "an output"
            raise DependsOnBatch(f"the constant %{value.name} that {readers} reads")


def _prove(opened: Graph, two: Graph) -> None:
    """Check that the opened graph, brought to batch 2, has the types of the one built for it."""
    try:
        again = rebatch(opened, 2)
    except GraphError as error:
        raise DependsOnBatch(str(error)) from error
    for a, b in zip(again.ops, two.ops, strict=True):
        if a.result.type != b.result.type:
            raise DependsOnBatch(f"{a.label()} gives {b.result.type}, and {a.result.type} after a change of the batch")
    for name, value in again.outputs.items():
        if value.type != two.outputs[name].type:
            raise DependsOnBatch(f"the output '{name}'")
