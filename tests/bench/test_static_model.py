"""Models made ready for other engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sqc.bench.static_model import static_model
from sqc.errors import ImportFailure, InputError


def write(path: Path, batch: int | str, opset: int = 17, listed: bool = False) -> Path:
    """A fully connected layer, with its weights among the inputs if ``listed``."""
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])]
    if listed:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 4
    onnx.save(model, path)
    return path


def shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def test_open_batch_is_set(tmp_path: Path) -> None:
    model = onnx.load_from_string(static_model(write(tmp_path / "m.onnx", "N"), 8))
    assert shape(model.graph.input[0]) == [8, 4]
    assert shape(model.graph.output[0]) == [8, 2]
    assert [node.name for node in model.graph.node] == ["MatMul:y"]
    onnx.checker.check_model(model, full_check=True)


def test_weights_are_no_inputs_and_operators_are_new_enough(tmp_path: Path) -> None:
    model = onnx.load_from_string(static_model(write(tmp_path / "m.onnx", 1, opset=9, listed=True), 1))
    assert [value.name for value in model.graph.input] == ["x"]
    assert model.opset_import[0].version == 13


def test_another_fixed_batch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fixes the batch of input 'x' at 1; batch 2 cannot be had"):
        static_model(write(tmp_path / "m.onnx", 1), 2)


def test_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xffnonsense")
    with pytest.raises(ImportFailure, match=r"m\.onnx is not an ONNX model"):
        static_model(tmp_path / "m.onnx", 1)
