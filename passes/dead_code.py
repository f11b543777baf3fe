"""Remove what no output needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sqc.ir import Graph, Rewriter
from sqc.passes.base import Notes


@dataclass(frozen=True)
class DeadCode:
    """Remove ops and constants that no output needs; inputs stay, as they are the user's interface.

    y = relu(x); z = exp(x); return y  ->  y = relu(x); return y
    """

    name: ClassVar[str] = "dead-code"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        rewriter = Rewriter(graph)
        for op in graph.ops:
            rewriter.keep(op)
        return rewriter.finish()
