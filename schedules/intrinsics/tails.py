"""Vectors that end before their loop does, by vectors of powers of two instead of tests of lanes: a step of lowering.

TVM makes a scalar loop of a vector loop with a test in it. LLVM then brings back vectors, with masks; and what it makes
of a store that narrows numbers to bytes, with a mask of a single lane, writes four bytes (LLVM issue 179489).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqc.schedules._tvm import collect, rewrite_nodes, simplified, substitute, tirx


def vectorize_tails(body: Any) -> Any:
    """A lowered body whose vectorized loops of ``if lane < n`` alone are vectorized loops of so many lanes.

    Unrolled loops around them, which ``n`` may depend on, are unrolled then.
    """

    def rewrite(node: Any) -> Any:
        if _is_tested(node):
            statements = _without_test(node)
        elif node.kind == tirx.ForKind.UNROLLED and _is_tested(node.body):
            statements = _unrolled(node)
        else:
            return node
        return _sequence(statements) if statements else node

    return rewrite_nodes(body, tirx.stmt.For, rewrite)


def _is_tested(node: Any) -> bool:
    """Whether ``node`` is a vectorized loop of a test without an alternative."""
    if not isinstance(node, tirx.stmt.For) or node.kind != tirx.ForKind.VECTORIZED:
        return False
    return isinstance(node.body, tirx.stmt.IfThenElse) and node.body.else_case is None


def _unrolled(loop: Any) -> list[Any] | None:
    statements = []
    for step in range(int(loop.extent)):
        one = _without_test(substitute(loop.body, {loop.loop_var: loop.min + step}))
        if one is None:
            return None
        statements += one
    return statements


def _without_test(loop: Any) -> list[Any] | None:
    """The statements of a tested vectorized loop; None if its test is not whether a lane is one of the first.

    What else has to hold, for all lanes, is tested around them.
    """
    lane, lanes = loop.loop_var, int(loop.extent)
    others = []
    for condition in _conjuncts(simplified(loop.body.condition)):
        if isinstance(condition, tirx.IntImm):
            lanes = lanes if int(condition) else 0
        elif not any(variable.same_as(lane) for variable in collect(condition, tirx.Var)):
            others.append(condition)
        elif isinstance(condition, tirx.LT) and condition.a.same_as(lane) and isinstance(condition.b, tirx.IntImm):
            lanes = min(max(0, int(condition.b)), lanes)
        else:
            return None
    statements = list(_pieces(loop, loop.body.then_case, lanes))
    if not others or not statements:
        return statements
    return [tirx.stmt.IfThenElse(tirx.all(*others), _sequence(statements), None)]


def _sequence(statements: list[Any]) -> Any:
    return tirx.stmt.SeqStmt(statements) if len(statements) > 1 else statements[0]


def _conjuncts(condition: Any) -> list[Any]:
    """The conditions that all have to hold."""
    return [*_conjuncts(condition.a), *_conjuncts(condition.b)] if isinstance(condition, tirx.And) else [condition]


def _pieces(loop: Any, body: Any, lanes: int) -> Iterator[Any]:
    start = 0
    while start < lanes:
        some = 1 << (lanes - start).bit_length() - 1
        lane = tirx.Var(loop.loop_var.name, "int32")
        piece = substitute(body, {loop.loop_var: lane + start if some > 1 else tirx.const(start, "int32")})
        if some > 1:
            piece = tirx.stmt.For(lane, tirx.const(0, "int32"), tirx.const(some, "int32"), loop.kind, piece)
        yield piece
        start += some
