"""Every float pass keeps what a graph computes, at any batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from sqc.ir import Graph, rebatch, verify
from sqc.passes import FLOAT, Notes, Pass, run
from sqc.passes.canonicalize import Canonicalize
from sqc.passes.dead_code import DeadCode
from tests.float_graphs import Grower, float_graphs, random_inputs

FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def assert_same(before: Graph, after: Graph) -> None:
    inputs = random_inputs(before)
    expected, actual = before.run(inputs), after.run(inputs)
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        assert array.shape == actual[name].shape
        scale = max(float(np.abs(array).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-4 * scale)


def check(passes: tuple[Pass, ...], graph: Graph) -> Graph:
    result = run(passes, graph)
    assert [value.name for value in result.inputs] == [value.name for value in graph.inputs]
    assert_same(graph, result)
    if graph.dynamic_batch:
        resized = rebatch(result, 2)
        verify(resized)
        assert_same(rebatch(graph, 2), resized)
    return result


@pytest.mark.parametrize("step", {step.name: step for step in FLOAT}.values(), ids=lambda step: step.name)
@given(graph=float_graphs())
@FEW
def test_each_pass_keeps_the_meaning(step: Pass, graph: Graph) -> None:
    check((step,), graph)


@given(graph=float_graphs())
@settings(FEW, max_examples=100)
def test_pipeline(graph: Graph) -> None:
    result = check(FLOAT, graph)
    assert all(op.kind != "batch_norm" for op in result.ops)
    assert all(op.attributes.get("layout", "NHWC") == "NHWC" for op in result.ops)
    assert run([Canonicalize(), DeadCode()], result) == result


@given(
    graph=float_graphs(steps=("conv2d", "depthwise", "pool", "gate", "activation", "arithmetic", "residual", "flatten"))
)
@FEW
def test_transposes_only_at_entry_and_exit(graph: Graph) -> None:
    result = run(FLOAT, graph)
    inside = [
        op
        for op in result.ops
        if op.kind == "transpose" and op.operands[0] not in result.inputs and not result.is_output(op.result)
    ]
    assert inside == []


def test_notes_name_the_nodes() -> None:
    grower = Grower(1, True)
    for name in ("conv2d", "batch_norm", "activation", "batch_norm"):
        grower.step(name)
    notes = Notes()
    run(FLOAT, grower.finish(), notes)
    first, second = notes.of("fold-batch-norm")
    assert "folded into conv2d" in first.message
    assert "product and a sum" in second.message
