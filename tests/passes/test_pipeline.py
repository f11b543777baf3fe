"""The runner: order, verification, selection by name, notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from sqc.errors import CompileError, GraphError
from sqc.ir import Graph, TensorType, Value, parse_graph
from sqc.passes import FLOAT, PASSES, Notes, Pass, run, select

GRAPH = parse_graph('graph "g" (%x: float32[2]) { %y: float32[2] = relu(%x) @"Relu_7" return "y"=%y }')


@dataclass(frozen=True)
class Breaking:
    """Declares a wrong type."""

    name: ClassVar[str] = "breaking"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        (op,) = graph.ops
        wrong = replace(op, results=(Value("y", TensorType((3,), "float32")),))
        return replace(graph, ops=(wrong,), outputs={"y": wrong.result})


@dataclass(frozen=True)
class Talking:
    """Says the same thing twice."""

    name: ClassVar[str] = "talking"

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        for _ in range(2):
            notes.add(self, graph.ops[0], "is here")
        notes.add(self, "input", "is read")
        return graph


def test_a_broken_graph_names_pass_and_op() -> None:
    with pytest.raises(GraphError, match=r"pass breaking broke the graph: relu 'Relu_7' is declared as float32\[3\]"):
        run([*FLOAT, Breaking()], GRAPH)


def test_without_verification_nothing_is_checked() -> None:
    assert run([Breaking()], GRAPH, verify=False).outputs["y"].type.shape == (3,)


def test_after_sees_every_result_in_order() -> None:
    seen: list[str] = []

    def after(step: Pass, graph: Graph) -> None:
        seen.append(step.name)
        assert isinstance(graph, Graph)

    run(FLOAT, GRAPH, after=after)
    assert seen == [step.name for step in FLOAT]


def test_notes() -> None:
    notes = Notes()
    run([Talking()], GRAPH, notes)
    assert [str(note) for note in notes] == ["talking: relu 'Relu_7': is here", "talking: input: is read"]
    assert len(notes.of("talking")) == len(notes) == 2
    assert notes.of("dead-code") == []


def test_select() -> None:
    assert [step.name for step in select(["dead-code", "canonicalize", "dead-code"])] == [
        "dead-code",
        "canonicalize",
        "dead-code",
    ]


def test_select_lists_all_unknown_and_all_known_names() -> None:
    with pytest.raises(CompileError) as error:
        select(["dead-code", "fold-batchnorm", "nonsense"])
    assert "fold-batchnorm, nonsense" in str(error.value)
    assert all(name in str(error.value) for name in PASSES)


def test_names_are_those_of_the_modules() -> None:
    for name, step in PASSES.items():
        assert type(step).__module__ == f"sqc.passes.{name.replace('-', '_')}"
        assert type(step).__doc__
