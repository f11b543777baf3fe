"""Padding as an attribute of the op that reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sqc.ir import Graph, Op, Value
from sqc.ops.pooling import tap_counts
from sqc.passes.arithmetic_rules import NEVER_NEGATIVE, clip_range
from sqc.passes.base import Notes
from sqc.passes.rules import Sweep, rewrite

_KEEPS_BOUND = ("reshape", "transpose", "slice", "concat")


@dataclass(frozen=True)
class AbsorbPad:
    """Turn a pad of the image's borders into the ``pads`` of the conv2d or pool that reads it.

    conv2d(pad(x, 0))        ->  conv2d(x, pads)
    average_pool(pad(x, 0))  ->  average_pool(x, pads, count_include_pad), unless its own padding is not counted
    max_pool(pad(x, v))      ->  max_pool(x, pads), if v is no more than any element of x and no window holds v alone
    """

    name: ClassVar[str] = "absorb-pad"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        def rule(sweep: Sweep, op: Op) -> Value | None:
            return self._absorb(sweep, op, notes)

        return rewrite(graph, {kind: [rule] for kind in ("conv2d", "average_pool", "max_pool")})

    def _absorb(self, sweep: Sweep, op: Op, notes: Notes) -> Value | None:
        pad = sweep.producer(op.operands[0], "pad")
        if pad is None:
            return None
        pads = _border(pad, op)
        if pads is None:
            return None
        changes: dict[str, Any] = {"pads": pads}
        if op.kind == "average_pool":
            changes["count_include_pad"] = True
        reason = _obstacle(sweep.graph, pad, op, {**op.attributes, **changes})
        if reason is not None:
            notes.add(self, pad, f"not absorbed into {op.label()}: {reason}")
            return None
        operands = [sweep.map(pad.operands[0]), *(sweep.map(operand) for operand in op.operands[1:])]
        return sweep.again(op, operands, **changes)


def _border(pad: Op, op: Op) -> tuple[int, ...] | None:
    """The pads of ``op`` together with those of ``pad``; None if that one pads more than height and width."""
    before, after = pad.integers("pads")[:4], pad.integers("pads")[4:]
    height, width = (2, 3) if op.string("layout") == "NCHW" else (1, 2)
    if any(before[axis] or after[axis] for axis in range(4) if axis not in (height, width)):
        return None
    extra = (before[height], before[width], after[height], after[width])
    return tuple(a + b for a, b in zip(op.integers("pads"), extra, strict=True))


def _obstacle(graph: Graph, pad: Op, op: Op, changed: Mapping[str, Any]) -> str | None:
    """Why ``op`` with the attributes ``changed`` would compute something else; None if it computes the same."""
    value = pad.number("value")
    if op.kind == "max_pool":
        if value > lower_bound(graph, pad.operands[0]):
            return f"the padding value {value} may exceed what it pads"
        shape = pad.operands[0].type.shape
        height, width = shape[2:] if op.string("layout") == "NCHW" else shape[1:3]
        return None if bool((tap_counts(height, width, changed) > 0).all()) else "some windows hold padding alone"
    if value != 0.0:
        return f"the padding value is {value}"
    if op.kind == "average_pool" and not op.attributes["count_include_pad"] and any(op.integers("pads")):
        return "the pool does not count its own padding"
    return None


def lower_bound(graph: Graph, value: Value) -> float:
    """A number that no element of ``value`` is less than; -inf if nothing is known."""
    op = graph.producer(value)
    if op is None:
        return float(graph.constants[value].min(initial=math.inf)) if value in graph.constants else -math.inf
    if op.kind in ("relu", "clip"):
        return min(clip_range(op))
    if op.kind in NEVER_NEGATIVE:
        return 0.0
    if op.kind == "tanh":
        return -1.0
    if op.kind in _KEEPS_BOUND:
        return min(lower_bound(graph, operand) for operand in op.operands)
    return -math.inf
