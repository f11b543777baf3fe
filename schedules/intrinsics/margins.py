"""Writes results between margins, a change of scheduled functions; see :mod:`sqc.schedules.margins`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqc.schedules._tvm import (
    Block,
    Function,
    changed_block,
    changed_loop,
    collect,
    mutate,
    region,
    rewrite_nodes,
    tirx,
)

if TYPE_CHECKING:
    from sqc.schedules.margins import Margins

LANES = 64


def write_between(func: Function, margins: Margins) -> Function:
    """The function ``func``, whose result are dense images of bytes, with a flat result that has ``margins`` in it.

    Tasks fill a share of them each.
    """
    out = func.params[-1]
    count, height, width, channels = margins.image
    (top, left), (bottom, right) = margins.before, margins.after
    row_bytes = (left + width + right) * channels
    padded = tirx.decl_buffer((count * (top + height + bottom) * row_bytes,), out.dtype, name=out.name)
    *lead, last = (int(extent) for extent in out.shape)

    def moved(store: Any) -> Any:
        if not store.buffer.same_as(out):
            return store
        at: Any = 0
        for extent, index in zip(lead, store.indices[:-1], strict=True):
            at = at * extent + index
        # Quotients alone: the pixels of a register tile mostly have one in common, where remainders differ.
        row, image = (tirx.floordiv(at, pixels * channels // last) for pixels in (width, height * width))
        before = row * (left + right) * channels + image * (top + bottom) * row_bytes
        start = top * row_bytes + left * channels
        return tirx.BufferStore(padded, store.value, [at * last + store.indices[-1] + before + start])

    def told(node: Any) -> Any:
        writes = [region(padded) if written.source.same_as(out) else written for written in node.writes]
        return changed_block(node, writes=writes)

    body = rewrite_nodes(rewrite_nodes(func.body, tirx.BufferStore, moved), Block, told)
    return tirx.PrimFunc([*func.params[:-1], padded], _filling(body, padded, margins), func.ret_type, func.attrs)


def _filling(body: Any, padded: Any, margins: Margins) -> Any:
    """The ``body`` whose parallel tasks, or which first, fill the margins of ``padded``."""
    parallel = [loop for loop in collect(body, tirx.stmt.For) if loop.kind == tirx.ForKind.PARALLEL]

    def tasks(loop: Any, mutator: Any) -> Any:
        if not loop.same_as(parallel[0]):
            return mutator.default_mutate(loop)
        first = _filled(padded, margins, loop.loop_var, int(loop.extent))
        return changed_loop(loop, tirx.stmt.SeqStmt([*first, loop.body]))

    def root(node: Any, mutator: Any) -> Any:
        if node.name_hint != "root":
            return mutator.default_mutate(node)
        first = _filled(padded, margins, tirx.const(0, "int32"), 1)
        return changed_block(node, body=tirx.stmt.SeqStmt([*first, node.body]))

    return mutate(body, (tirx.stmt.For, tasks)) if parallel else mutate(body, (Block, root))


def _filled(padded: Any, margins: Margins, task: Any, tasks: int) -> Iterator[Any]:
    """The statements of a task that fill its share of the margins: that behind a row and before the next are one."""
    count, height, width, channels = margins.image
    (top, left), (bottom, right) = margins.before, margins.after
    row = (left + width + right) * channels
    image = (top + height + bottom) * row
    first, beside, last = top * row + left * channels, (left + right) * channels, right * channels + bottom * row
    value = tirx.const(margins.value, padded.dtype)
    for runs, start, extent in ((1, 0, first), (height - 1, first + width * channels, beside), (1, image - last, last)):
        if not runs or not extent:
            continue
        share, lanes = -(-runs * count // tasks), math.gcd(extent, LANES)
        loops = [(tirx.Var(name, "int32"), steps) for name, steps in (("u", share), ("chunk", extent // lanes))]
        lane = tirx.Var("lane", "int32")
        run = task * share + loops[0][0]
        at = tirx.floordiv(run, runs) * image + tirx.floormod(run, runs) * row + start + loops[1][0] * lanes + lane
        body: Any = tirx.BufferStore(padded, value, [at])
        body = _loop(lane, lanes, body, tirx.ForKind.VECTORIZED)
        body = _loop(*loops[1], body)
        if share * tasks > runs * count:
            body = tirx.stmt.IfThenElse(run < runs * count, body, None)
        yield _loop(*loops[0], body)


def _loop(variable: Any, extent: int, body: Any, kind: Any = tirx.ForKind.SERIAL) -> Any:
    return tirx.stmt.For(variable, tirx.const(0, "int32"), tirx.const(extent, "int32"), kind, body)
