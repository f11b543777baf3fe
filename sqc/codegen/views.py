"""Values that need no buffer of their own: parts of others, and wholes that are computed part by part in place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sqc.ir import Builder, Graph, Op, Value


@dataclass
class Views:
    """Where values lie. ``free`` are results that no kernel has to compute."""

    free: set[Value] = field(default_factory=set)
    _parents: dict[Value, tuple[Value, int]] = field(default_factory=dict)

    def place(self, value: Value) -> tuple[Value, int]:
        """The value in whose buffer ``value`` lies, itself or another, and at which byte."""
        offset = 0
        while value in self._parents:
            value, further = self._parents[value]
            offset += further
        return value, offset

    def origin(self, value: Value) -> Value:
        """The value in whose buffer ``value`` lies."""
        return self.place(value)[0]

    def has_parts(self, whole: Value) -> bool:
        """Whether some value starts within ``whole``, behind its start."""
        return any(origin == whole and offset for origin, offset in map(self.place, self._parents))

    def put(self, value: Value, whole: Value, offset: int = 0) -> None:
        self._parents[value] = whole, offset


def views_of(graph: Graph) -> Views:
    """Reshapes, slices of neighbouring elements, and concatenations of what is computed for them alone.

    Inputs, constants and outputs stay where they are: only a reshape can be a view of one, and no other value starts
    within one. What is reshaped into an output is computed there.
    """
    views = Views()
    fixed = {*graph.inputs, *graph.constants, *graph.outputs.values()}
    for op in graph.ops:
        if op.kind == "reshape":
            origin = views.origin(op.operands[0])
            whole = origin.type.bytes == op.result.type.bytes and not views.has_parts(origin)
            if op.result in fixed and origin not in fixed and whole:
                views.put(origin, op.result)
            else:
                views.put(op.result, op.operands[0])
            views.free.add(op.result)
        elif op.kind == "slice" and views.origin(op.operands[0]) not in fixed:
            offset = _first_byte(op)
            if offset is not None:
                views.put(op.result, op.operands[0], offset)
                views.free.add(op.result)
        elif op.kind == "concat" and op.result not in fixed and _joins_neighbours(op):
            _assemble(op, views, fixed)
    return views


def copy_bare_outputs(graph: Graph) -> Graph:
    """Give every output a buffer of its own: copy those that are inputs, constants, views or shown twice."""
    views = views_of(graph)
    seen: set[Value] = set()
    copied: dict[str, Value] = {}
    ops = list(graph.ops)
    builder = Builder(graph.name)
    for value in graph.values():
        builder.unique(value.name)
    for name, value in graph.outputs.items():
        produced = graph.producer(value) is not None and views.origin(value) == value and value not in seen
        seen.add(value)
        if not produced:
            value = builder.emit("copy", [value], name=f"{name}.out", source=f"output {name}")
            ops.append(builder.ops[-1])
        copied[name] = value
    return Graph(graph.name, graph.inputs, copied, graph.constants, tuple(ops), graph.dynamic_batch)


def _first_byte(op: Op) -> int | None:
    """Where the elements of a slice start, if they are neighbours: all of the axes behind one of which it is a part."""
    x, result = op.operands[0].type, op.result.type
    cut = [axis for axis, (a, b) in enumerate(zip(x.shape, result.shape, strict=True)) if a != b]
    if any(step != 1 for step in op.integers("steps")) or len(cut) > 1 or not x.size:
        return None
    if not cut:
        return 0
    (axis,) = cut
    if math.prod(x.shape[:axis]) != 1:
        return None
    start = op.integers("starts")[op.integers("axes").index(axis)]
    return start * x.bytes // x.shape[axis]


def _joins_neighbours(op: Op) -> bool:
    """Whether the operands of a concatenation lie one behind the other in its result."""
    return math.prod(op.result.type.shape[: op.integer("axis") % op.result.type.rank]) == 1


def _assemble(op: Op, views: Views, fixed: set[Value]) -> None:
    """Let the operands of a concatenation be computed within its result, if all of them can be."""
    places = [views.place(operand) for operand in op.operands]
    wholes = all(
        offset == 0 and origin.type.bytes == operand.type.bytes and origin not in fixed
        for operand, (origin, offset) in zip(op.operands, places, strict=True)
    )
    origins = [origin for origin, _ in places]
    if not wholes or len(set(origins)) < len(origins):
        return
    offset = 0
    for origin in origins:
        views.put(origin, op.result, offset)
        offset += origin.type.bytes
    views.free.add(op.result)
