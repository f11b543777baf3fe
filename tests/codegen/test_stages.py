"""Batches that are computed in stages, the first ops for some samples at a time."""

from __future__ import annotations

import numpy as np
import pytest

import sqc
from sqc.codegen import stages
from sqc.codegen.stages import Variant
from sqc.ir import Builder, Graph, TensorType, format_graph, parse_graph, rebatch

WIDE, NARROW = 1024, 8


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "CACHE", 1 << 14)
    monkeypatch.setattr(stages, "CALL", 1 << 6)


def narrowing() -> Graph:
    """Two ops on much data, then one with many weights, then one on little data."""
    rng = np.random.default_rng(0)
    builder = Builder("narrowing", dynamic_batch=True)
    x = builder.input("x", TensorType((1, WIDE), "float32"))
    a = builder.emit("relu", [x], name="a")
    b = builder.emit("mul", [a, builder.constant(rng.normal(size=WIDE).astype(np.float32), "factors")], name="b")
    w = builder.constant(rng.normal(size=(NARROW, WIDE)).astype(np.float32), "w")
    bias = builder.constant(np.zeros(NARROW, np.float32), "bias")
    c = builder.emit("fully_connected", [b, w, bias], name="c")
    builder.outputs = {"c": c, "d": builder.emit("relu", [c], name="d")}
    return builder.finish()


def cut(graph: Graph, batch: int, samples: int) -> list[tuple[int, str]]:
    """Rounds and the names of the results of each stage."""
    parts = Variant.of(rebatch(graph, batch), samples).stages
    return [(part.rounds, " ".join(op.result.name for op in part.graph.ops)) for part in parts]


def test_ops_on_much_data_are_computed_in_rounds() -> None:
    assert cut(narrowing(), 16, 16) == [(8, "a b"), (1, "c d")]
    assert cut(narrowing(), 2, 2) == [(1, "a b c d")]  # fits in the cache
    assert cut(narrowing(), 7, 7) == [(7, "a b"), (1, "c d")]
    assert cut(narrowing(), 16, 0) == [(1, "a b c d")]  # samples that depend on each other


def test_a_stage_is_the_graph_for_its_samples() -> None:
    first, second = Variant.of(rebatch(narrowing(), 16), 16).stages
    assert [line for line in format_graph(first.graph).splitlines() if "const" not in line] == [
        'graph "narrowing" dynamic_batch (%x: float32[2,1024]) {',
        "  %a: float32[2,1024] = relu(%x)",
        "  %b: float32[2,1024] = mul(%a, %factors)",
        '  return "b"=%b',
        "}",
    ]
    assert [line for line in format_graph(second.graph).splitlines() if "const" not in line] == [
        'graph "narrowing" dynamic_batch (%b: float32[16,1024]) {',
        "  %c: float32[16,8] = fully_connected(%b, %w, %bias)",
        "  %d: float32[16,8] = relu(%c)",
        '  return "c"=%c, "d"=%d',
        "}",
    ]


def test_parts_of_other_values_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse_graph(f"""
        graph "g" dynamic_batch (%x: float32[1,{WIDE}]) {{
          %a: float32[1,{WIDE}] = relu(%x)
          %b: float32[1,{NARROW}] = slice(%a) {{axes=[1], starts=[0], ends=[{NARROW}], steps=[1]}}
          %c: float32[1,{NARROW}] = exp(%b)
          return "c"=%c
        }}""")
    assert cut(graph, 8, 8) == [(4, "a b"), (1, "c")]
    # The slice of one sample lies within what it is cut from, which the next round writes again.
    monkeypatch.setattr(stages, "CACHE", 6000)
    assert cut(graph, 4, 4) == [(4, "a"), (1, "b c")]


def test_outputs_are_computed_in_their_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse_graph(f"""
        graph "g" dynamic_batch (%x: float32[1,{WIDE}]) {{
          %a: float32[1,{WIDE}] = relu(%x)
          %b: float32[1,{WIDE}] = exp(%a)
          %c: float32[1,{WIDE},1] = reshape(%b) {{shape=[-1,{WIDE},1]}}
          %d: float32[1,1] = reduce_mean(%b) {{axes=[1], keepdims=true}}
          %e: float32[1,1] = exp(%d)
          return "c"=%c, "e"=%e
        }}""")
    # What is reshaped into an output is computed there, so the cut cannot lie between.
    assert cut(graph, 16, 16) == [(8, "a b c d"), (1, "e")]
    x = np.random.default_rng(2).normal(size=(16, WIDE)).astype(np.float32)
    staged = sqc.compile(graph, batch=16).run({"x": x})
    monkeypatch.setattr(stages, "savings", lambda _: iter([(2, 16, 2), (1, 16, 1)]))
    assert cut(graph, 16, 16) == [(16, "a"), (1, "b c d e")]
    for name, array in sqc.compile(graph, batch=16).run({"x": x}).items():
        np.testing.assert_array_equal(staged[name], array)


def test_results_and_work_are_those_of_one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = narrowing()
    x = np.random.default_rng(1).normal(size=(16, WIDE)).astype(np.float32)
    staged = sqc.compile(graph, batch=16)
    (program,) = staged.plan.programs
    assert [rounds for _, rounds in program.stages] == [8, 1]
    monkeypatch.setattr(stages, "CACHE", 1 << 30)
    whole = sqc.compile(graph, batch=16)
    assert [rounds for _, rounds in whole.plan.programs[0].stages] == [1]
    for name, array in whole.run({"x": x}).items():
        np.testing.assert_array_equal(staged.run({"x": x})[name], array)
    first, one = program.steps[0].work, whole.plan.programs[0].steps[0].work
    assert first is not None and one is not None
    assert first.rounds == 8 and one.rounds == 1
    assert first.read_bytes == one.read_bytes and first.constant_bytes == one.constant_bytes
