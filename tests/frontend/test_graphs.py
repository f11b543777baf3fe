"""Whole graphs: shape arithmetic, the batch, element types, several inputs and outputs, files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sqc.errors import GraphError
from sqc.frontend import import_onnx
from sqc.ir import rebatch, verify
from tests.frontend.nodes import assert_close, check, evaluate, feeds_for, ints, model, seeded

node = helper.make_node


def flatten_by_shape(opset: int = 17) -> onnx.ModelProto:
    """What exporters write for ``x.reshape(x.shape[0], -1)``, with a fully connected layer behind it."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]) if opset >= 13 else node("Unsqueeze", ["n"], ["n1"], axes=[0]),
        node("Constant", [], ["rest"], value=numpy_helper.from_array(ints(-1))),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["flat"]),
        node("Gemm", ["flat", "w", "b"], ["y"], transB=1),
    ]
    constants = {"zero": np.array(0, np.int64), "w": seeded(5, 24), "b": seeded(5)}
    if opset >= 13:
        constants["axes"] = ints(0)
    return model(nodes, {"x": ["batch", 4, 3, 2]}, ["y"], constants, opset)


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
def test_shape_arithmetic(opset: int) -> None:
    graph = check(flatten_by_shape(opset), batch=3)
    assert graph.dynamic_batch
    assert [op.kind for op in graph.ops] == ["reshape", "fully_connected"]
    assert graph.ops[0].attributes["shape"] == (-1, 24)


def test_batch_argument() -> None:
    graph = import_onnx(flatten_by_shape(), batch=4)
    assert graph.inputs[0].type.shape == (4, 4, 3, 2)
    assert graph.dynamic_batch
    assert graph == rebatch(import_onnx(flatten_by_shape()), 4)


def test_fixed_batch_stays() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": [2, 3]}, ["y"])
    graph = import_onnx(proto, batch=2)
    assert not graph.dynamic_batch
    with pytest.raises(GraphError, match="fixes its batch at 2"):
        rebatch(graph, 1)


def test_batch_written_into_a_reshape_fixes_it() -> None:
    nodes = [node("Reshape", ["x", "shape"], ["flat"], name="view"), node("MatMul", ["flat", "w"], ["y"])]
    proto = model(nodes, {"x": ["N", 4, 3]}, ["y"], {"shape": ints(1, -1), "w": seeded(12, 5)})
    with pytest.warns(UserWarning, match=r"batch 1 only(.|\n)*MatMul:y"):
        graph = import_onnx(proto)
    assert not graph.dynamic_batch
    feeds = feeds_for(graph)
    assert_close(graph.run(feeds), evaluate(proto, feeds))


def test_batch_that_is_a_number_fixes_it() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Cast", ["n"], ["scale"], to=TensorProto.FLOAT),
        node("Mul", ["x", "scale"], ["y"], name="scaled"),
    ]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], {"zero": np.array(0, np.int64)})
    with pytest.warns(UserWarning, match=r"batch 2 only: the constant .* mul 'scaled'"):
        graph = import_onnx(proto, batch=2)
    assert not graph.dynamic_batch
    feeds = feeds_for(graph)
    assert_close(graph.run(feeds), evaluate(proto, feeds))


def test_constant_repeated_along_the_batch() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["half"], value=numpy_helper.from_array(np.array([0.5], np.float32))),
        node("Add", ["x", "half"], ["y"]),
    ]
    assert check(model(nodes, {"x": ["N", 4]}, ["y"]), batch=3).dynamic_batch


def test_initializers_among_the_inputs() -> None:
    proto = model([node("Gemm", ["x", "w", "b"], ["y"])], {"x": [2, 4], "w": [4, 3], "b": [3]}, ["y"])
    proto.ir_version = 3
    for name, array in {"w": seeded(4, 3), "b": seeded(3)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    graph = import_onnx(proto)
    assert [value.name for value in graph.inputs] == ["x"]


def test_several_inputs_and_outputs() -> None:
    nodes = [
        node("Add", ["a", "b"], ["sum"]),
        node("Relu", ["sum"], ["second"]),
        node("Identity", ["a"], ["third"]),
        node("Constant", [], ["fourth"], value_float=2.0),
    ]
    graph = check(model(nodes, {"b": ["N", 3], "a": ["N", 3]}, ["second", "sum", "third", "fourth"]), batch=2)
    assert [value.name for value in graph.inputs] == ["b", "a"]
    assert list(graph.outputs) == ["second", "sum", "third", "fourth"]


def test_inputs_that_do_not_share_the_batch_fix_it() -> None:
    proto = model([node("Add", ["a", "b"], ["y"])], {"a": ["N", 3], "b": [1, 3]}, ["y"])
    with pytest.warns(UserWarning, match="'b' has a fixed batch"):
        assert not import_onnx(proto).dynamic_batch


@pytest.mark.parametrize("elem_type", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_other_float_types_become_float32(elem_type: int) -> None:
    weights = numpy_helper.from_array(seeded(4, 3), "w")
    typed = helper.make_tensor("w", elem_type, [4, 3], seeded(4, 3).reshape(-1).tolist())
    proto = model(
        [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"])], {"x": [2, 4]}, ["y"], {}, 17, elem_type
    )
    proto.graph.initializer.append(typed)
    graph = import_onnx(proto)
    verify(graph)
    assert graph.inputs[0].type.dtype == "float32"
    feeds = feeds_for(graph)
    expected = np.maximum(feeds["x"] @ numpy_helper.to_array(weights), 0)
    np.testing.assert_allclose(graph.run(feeds)["y"], expected, rtol=2e-2, atol=2e-2)


def test_casts_between_float_types() -> None:
    """A half-precision model whose inputs and outputs were kept in float32."""
    nodes = [
        node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        node("CastLike", ["one", "half"], ["one_half"]),
        node("Add", ["half", "one_half"], ["sum"]),
        node("Mul", ["sum", "w"], ["scaled"]),
        node("Cast", ["scaled"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"one": np.array(1, np.float32), "w": seeded(3).astype(np.float16)}
    graph = import_onnx(model(nodes, {"x": ["N", 3]}, ["y"], constants))
    assert [op.kind for op in graph.ops] == ["add", "mul"]


def test_default_domain_by_its_long_name() -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("Reshape", ["x", "s"], ["r"]), node("Relu", ["r"], ["y"])]
    for item in nodes:
        item.domain = "ai.onnx"
    assert len(import_onnx(model(nodes, {"x": [2, 3]}, ["y"])).ops) == 2


def test_bytes_as_input() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "scale"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 2, 3]}, ["y"], {"scale": np.array(1 / 255, np.float32)})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph = import_onnx(proto)
    verify(graph)
    feeds = {"x": np.arange(6, dtype=np.uint8).reshape(1, 2, 3) * 50}
    assert_close(graph.run(feeds), evaluate(proto, feeds))


def test_branch_with_a_known_condition() -> None:
    then = helper.make_graph([node("Relu", ["x"], ["a"])], "then", [], [_info("a")])
    other = helper.make_graph([node("Loop", ["x"], ["b"])], "else", [], [_info("b")])
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "one"], ["columns"]),
        node("Equal", ["columns", "three"], ["condition"]),
        node("If", ["condition"], ["chosen"], then_branch=then, else_branch=other),
        node("Neg", ["chosen"], ["y"]),
    ]
    constants = {"one": np.array(1, np.int64), "three": np.array(3, np.int64)}
    graph = import_onnx(model(nodes, {"x": ["N", 3]}, ["y"], constants))
    assert [op.kind for op in graph.ops] == ["relu", "neg"]


def test_functions_are_inlined() -> None:
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    proto = model([node("Twice", ["x"], ["y"], domain="local")], {"x": [2, 3]}, ["y"])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.functions.append(function)
    assert [op.kind for op in import_onnx(proto).ops] == ["add"]


def test_nodes_that_no_output_needs_do_not_count() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Det", ["x"], ["unused"])]
    assert len(import_onnx(model(nodes, {"x": [2, 2]}, ["y"])).ops) == 1


def test_sources_of_a_model(tmp_path: Path) -> None:
    proto = flatten_by_shape()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    graph = import_onnx(path)
    assert graph == import_onnx(os.fspath(path)) == import_onnx(path.read_bytes()) == import_onnx(proto)
    external = tmp_path / "external.onnx"
    onnx.save(proto, external, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert import_onnx(external) == graph


def _info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
