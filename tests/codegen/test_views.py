"""Values that need no buffer of their own."""

from __future__ import annotations

import numpy as np

import sqc
from sqc.codegen.views import views_of
from sqc.ir import parse_graph

GRAPH = """
graph "g" (%x: float32[4,3]) {
  %a: float32[4,3] = exp(%x)
  %first: float32[1,3] = slice(%a) {axes=[0], starts=[1], ends=[2], steps=[1]}
  %column: float32[4,1] = slice(%a) {axes=[1], starts=[1], ends=[2], steps=[1]}
  %input: float32[1,3] = slice(%x) {axes=[0], starts=[1], ends=[2], steps=[1]}
  %b: float32[1,3] = abs(%first)
  %c: float32[1,3] = neg(%input)
  %row: float32[1,3] = reshape(%c) {shape=[1,3]}
  %whole: float32[2,3] = concat(%b, %row) {axis=0}
  %twice: float32[4,3] = concat(%whole, %whole) {axis=0}
  %sum: float32[4,3] = add(%twice, %column)
  %last: float32[1,3] = slice(%whole) {axes=[0], starts=[1], ends=[2], steps=[1]}
  return "sum"=%sum, "last"=%last
}
"""


def test_what_is_a_view() -> None:
    graph = parse_graph(GRAPH)
    views = views_of(graph)
    values = {value.name: value for value in graph.values()}
    assert {value.name for value in views.free} == {"first", "row", "whole", "last"}
    assert views.place(values["first"]) == (values["a"], 12)
    assert views.place(values["c"]) == views.place(values["last"]) == (values["whole"], 12)


def test_results_are_those_of_copies() -> None:
    graph = parse_graph(GRAPH)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected, actual = graph.run({"x": x}), sqc.compile(graph).run({"x": x})
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-6)
