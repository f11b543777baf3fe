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
  %joined: float32[2,3] = concat(%b, %last) {axis=0}
  %line: float32[12] = reshape(%a) {shape=[12]}
  return "sum"=%sum, "last"=%last, "joined"=%joined, "line"=%line
}
"""


def test_what_is_a_view() -> None:
    graph = parse_graph(GRAPH)
    views = views_of(graph)
    values = {value.name: value for value in graph.values()}
    assert {value.name for value in views.free} == {"first", "row", "whole", "last", "line"}
    assert views.place(values["a"]) == (values["a"], 0)  # not in an output, for another view starts within it
    assert views.place(values["first"]) == (values["a"], 12)
    assert views.place(values["c"]) == views.place(values["last"]) == (values["whole"], 12)


def test_what_is_reshaped_into_an_output_is_computed_there() -> None:
    graph = parse_graph("""
graph "g" (%x: float32[4,3]) {
  %a: float32[4,3] = exp(%x)
  %y: float32[12] = reshape(%a) {shape=[12]}
  %z: float32[2,6] = reshape(%a) {shape=[2,6]}
  return "y"=%y, "z"=%z
}
""")
    values = {value.name: value for value in graph.values()}
    assert views_of(graph).place(values["a"]) == (values["y"], 0)
    compiled = sqc.compile(graph)
    assert [step.name for step in compiled.plan.programs[0].steps] == ["exp", "copy output z"]
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    results = compiled.run({"x": x})
    np.testing.assert_allclose(results["y"].reshape(4, 3), np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(results["z"].ravel(), results["y"])


def test_results_are_those_of_copies() -> None:
    graph = parse_graph(GRAPH)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected, actual = graph.run({"x": x}), sqc.compile(graph).run({"x": x})
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-6)
