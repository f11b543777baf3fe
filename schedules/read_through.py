"""Copies that are not made: blocks read vectors where a copy would take them from, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqc.schedules._tvm import (
    Block,
    Expr,
    Function,
    Load,
    changed_block,
    collect,
    mutate,
    region,
    simplified,
    substitute,
    tirx,
)


def read_through(func: Function, copy: str, lanes: int) -> Function:
    """The same scheduled function without its block ``copy``, which moves values and which intrinsics read.

    Of each vector that they read, ``lanes`` neighbours at a time have to come from neighbours.
    """
    (definition,) = [node for node in collect(func.body, Block) if node.name_hint == copy]
    target, axes, moved = definition.body.buffer, definition.iter_vars, definition.body.value

    def read(position: Sequence[Expr], count: int) -> Expr:
        *outer, last = position
        return _joined([_at(moved, axes, [*outer, last + start]) for start in range(0, count, lanes)], lanes)

    def block(node: Any, mutator: Any) -> Any:
        matched = [match for match in node.match_buffers if match.source.source.same_as(target)]
        if not matched:
            return _without(node, definition, target, mutator)
        (match,) = matched
        starts = [part.min for part in match.source.region]

        def load(value: Any, inner: Any) -> Any:
            if not value.source.same_as(match.buffer):
                return inner.default_mutate(value)
            *outer, vector = value.indices
            within = [*[0] * (len(starts) - len(value.indices)), *outer, vector.base]
            return read([start + index for start, index in zip(starts, within, strict=True)], int(vector.lanes))

        others = [other for other in node.reads if not other.source.same_as(target)]
        return changed_block(
            node,
            reads=[*others, region(moved.source)],
            match_buffers=[other for other in node.match_buffers if not other.same_as(match)],
            body=mutate(node.body, (Load, load)),
        )

    return func.with_body(mutate(func.body, (Block, block)))


def _without(node: Any, definition: Any, target: Any, mutator: Any) -> Any:
    """A block that may hold ``definition``, and the buffer that it writes, without both."""
    node = mutator.default_mutate(node)
    body = node.body
    if isinstance(body, tirx.stmt.SeqStmt):
        rest = [part for part in body.seq if all(b.name_hint != definition.name_hint for b in collect(part, Block))]
        body = tirx.stmt.SeqStmt(rest) if len(rest) > 1 else rest[0]
    buffers = [buffer for buffer in node.alloc_buffers if not buffer.same_as(target)]
    return changed_block(node, body=body, alloc_buffers=buffers)


def _at(value: Expr, axes: Sequence[Any], position: Sequence[Expr]) -> Expr:
    return substitute(value, {axis.var: at for axis, at in zip(axes, position, strict=True)})


def _joined(firsts: Sequence[Any], lanes: int) -> Expr:
    """A vector of ``lanes`` neighbours from each of ``firsts``: two loads of its own length, if they hold all."""
    count = len(firsts) * lanes
    ends = [load.indices[-1] for load in firsts]
    distances = [simplified(end - ends[0]) for end in ends]
    # LLVM makes the best of two pieces, but inserts each of more by itself.
    if len(firsts) > 2 and all(isinstance(distance, tirx.IntImm) for distance in distances):
        offsets = [int(distance) for distance in distances]
        beyond = offsets[-1] + lanes - count
        if offsets == sorted(offsets) and 0 < beyond <= count:
            loads = [_vector(firsts[0], count), _vector(firsts[0], count, beyond)]
            places = [at + lane for at in offsets for lane in range(lanes)]
            return _shuffle(loads, [at if at < count else at - beyond + count for at in places])
    return _shuffle([_vector(load, lanes) for load in firsts], range(count))


def _shuffle(vectors: Sequence[Expr], lanes: Sequence[int]) -> Expr:
    return tirx.Shuffle(vectors, [tirx.const(lane, "int32") for lane in lanes])


def _vector(load: Any, lanes: int, distance: int = 0) -> Expr:
    """``lanes`` neighbours along the last axis, ``distance`` behind where one element is loaded."""
    *outer, last = load.indices
    return tirx.BufferLoad(load.source, [*outer, tirx.Ramp(last + distance, 1, lanes)])
