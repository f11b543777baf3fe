"""Building, rewriting and rebatching graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqc.errors import GraphError
from sqc.ir import Builder, Graph, Rewriter, TensorType, format_graph, parse_graph, rebatch, split, verify
from tests.float_graphs import float_graphs, random_inputs

F2 = TensorType((2,), "float32")
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

CHAIN = parse_graph("""
    graph "chain" (%x: float32[2]) {
      const %c: float32[2] = [1,2]
      %a: float32[2] = add(%x, %c) @"Add_0"
      %b: float32[2] = relu(%a) @"Relu_1"
      %d: float32[2] = exp(%a) @"Exp_2"
      return "b"=%b
    }""")


def test_emit_infers_types_and_completes_attributes() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((1, 1, 4, 4), "float32"))
    attributes = {"kernel": [2, 2], "layout": "NCHW", "strides": np.array([2, 2])}
    y = builder.emit("max_pool", [x], attributes, name="y", source="MaxPool_0")
    assert y.type.shape == (1, 1, 2, 2)
    (op,) = builder.ops
    assert list(op.attributes) == ["kernel", "strides", "pads", "dilations", "layout"]
    assert op.attributes["strides"] == (2, 2)


def test_emit_names_the_node_of_an_ill_formed_op() -> None:
    builder = Builder()
    x = builder.input("x", F2)
    with pytest.raises(GraphError, match=r"transpose\(float32\[2\]\): perm \[1, 0\] .* \(at 'Transpose_7'\)"):
        builder.emit("transpose", [x], {"perm": (1, 0)}, name="y", source="Transpose_7")


def test_names_stay_unique() -> None:
    builder = Builder()
    x = builder.input("x", F2)
    assert [builder.emit("relu", [x], name="x").name for _ in range(3)] == ["x.1", "x.2", "x.3"]
    with pytest.raises(GraphError, match="the name %x is taken"):
        builder.input("x", F2)


def test_constants_are_copied_read_only_and_shared_if_equal() -> None:
    builder = Builder()
    array = np.ones(2, np.float32)
    first = builder.constant(array, "c")
    array[:] = 7
    assert builder.constants[first].tolist() == [1, 1]
    assert not builder.constants[first].flags.writeable
    assert builder.constant(np.ones(2, np.float32), "c") == first
    assert builder.constant(array, "c").name == "c.1"
    # Negative zero equals zero, but is another number.
    assert builder.constant(np.zeros(2, np.float32), "z") != builder.constant(-np.zeros(2, np.float32), "z")


def test_finish_drops_what_no_output_needs() -> None:
    rewriter = Rewriter(CHAIN)
    for op in CHAIN.ops:
        rewriter.keep(op)
    graph = rewriter.finish()
    assert [op.kind for op in graph.ops] == ["add", "relu"]
    assert graph.inputs == CHAIN.inputs


def test_replace_redirects_all_readers() -> None:
    rewriter = Rewriter(CHAIN)
    for op in CHAIN.ops:
        if op.kind == "add":
            rewriter.replace(op, rewriter.map(op.operands[0]))
        else:
            rewriter.keep(op)
    graph = rewriter.finish()
    verify(graph)
    assert [op.operands for op in graph.ops] == [(CHAIN.inputs[0],)]
    assert graph.constants == {}


def test_keep_infers_anew_and_changes_attributes() -> None:
    graph = parse_graph('graph "g" (%x: float32[1,4]) { %y: float32[2,2] = reshape(%x) {shape=[2,2]} return "y"=%y }')
    rewriter = Rewriter(graph)
    assert rewriter.keep(graph.ops[0], shape=(4, -1)).type.shape == (4, 1)


def test_graph_queries() -> None:
    add, relu, exp = CHAIN.ops
    assert CHAIN.producer(add.result) is add
    assert CHAIN.producer(CHAIN.inputs[0]) is None
    assert CHAIN.users(add.result) == (relu, exp)
    assert CHAIN.only_user(add.result) is None
    assert CHAIN.only_user(CHAIN.inputs[0]) is add
    assert CHAIN.only_user(relu.result) is None
    square = parse_graph('graph "g" (%x: float32[2]) { %y: float32[2] = mul(%x, %x) return "y"=%y }')
    assert square.only_user(square.inputs[0]) is None
    assert len(square.users(square.inputs[0])) == 1


@given(graph=float_graphs())
@QUICK
def test_rebatch_is_the_same_function_for_each_sample(graph: Graph) -> None:
    graph = replace(graph, dynamic_batch=True)
    resized = rebatch(graph, 3)
    verify(resized)
    assert [value.name for value in resized.inputs] == [value.name for value in graph.inputs]
    inputs = random_inputs(resized)
    results = resized.run(inputs)
    for i in range(3):
        for name, array in graph.run({key: value[i : i + 1] for key, value in inputs.items()}).items():
            np.testing.assert_allclose(results[name][i : i + 1], array, rtol=1e-4, atol=1e-5)


def test_rebatch_reaches_into_bodies() -> None:
    graph = parse_graph("""
        graph "g" dynamic_batch (%x: float32[1,2]) {
          %y: uint8[1,2]<0.5:3> = fused(%x) {body=graph "body" (%a: float32[1,2]) {
            %q: uint8[1,2]<0.5:3> = quantize(%a) {scale=0.5, zero_point=3, dtype="uint8"}
            return "q"=%q
          }}
          return "y"=%y
        }""")
    resized = rebatch(graph, 4)
    verify(resized)
    assert resized.ops[0].body.inputs[0].type.shape == (4, 2)
    assert resized.outputs["y"].type.shape == (4, 2)
    assert rebatch(resized, 1) == graph


@given(graph=float_graphs(), data=st.data())
@QUICK
def test_the_parts_of_a_split_graph_are_the_whole(graph: Graph, data: st.DataObject) -> None:
    head, tail = split(graph, data.draw(st.integers(0, len(graph.ops))))
    verify(head)
    verify(tail)
    assert (*head.ops, *tail.ops) == graph.ops
    inputs = random_inputs(graph)
    first = head.run(inputs)
    between = {value.name: first[name] for name, value in head.outputs.items()}
    second = tail.run({value.name: {**inputs, **between}[value.name] for value in tail.inputs})
    assert {**first, **second}.keys() >= graph.outputs.keys()
    for name, array in graph.run(inputs).items():
        np.testing.assert_array_equal({**first, **second}[name], array)


def test_split_passes_on_what_is_read_later() -> None:
    head, tail = split(
        parse_graph("""
        graph "g" (%x: float32[2], %z: float32[2]) {
          const %c: float32[2] = [1,2]
          %a: float32[2] = add(%x, %c)
          %b: float32[2] = relu(%a)
          %d: float32[2] = mul(%a, %z)
          %e: float32[2] = add(%d, %b)
          return "a"=%b, "e"=%e
        }"""),
        2,
    )
    assert format_graph(head).splitlines()[1:] == [
        "  const %c: float32[2] = [1.0,2.0]",
        "  %a: float32[2] = add(%x, %c)",
        "  %b: float32[2] = relu(%a)",
        '  return "a"=%b, "a.1"=%a',
        "}",
    ]
    assert format_graph(tail).splitlines() == [
        'graph "g" (%z: float32[2], %a: float32[2], %b: float32[2]) {',
        "  %d: float32[2] = mul(%a, %z)",
        "  %e: float32[2] = add(%d, %b)",
        '  return "e"=%e',
        "}",
    ]


def test_a_fixed_batch_stays() -> None:
    assert rebatch(CHAIN, 2) is CHAIN
    with pytest.raises(GraphError, match="the model fixes its batch at 2, so batch=3 cannot be had"):
        rebatch(CHAIN, 3)
