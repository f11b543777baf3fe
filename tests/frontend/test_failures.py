"""What cannot be imported, and how the messages say so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sqc.errors import ImportFailure
from sqc.frontend import import_onnx
from tests.frontend.nodes import NEWEST, ints, model, seeded

node = helper.make_node


def message(source: Any, **arguments: Any) -> str:
    with pytest.raises(ImportFailure) as caught:
        import_onnx(source, **arguments)
    return str(caught.value)


def test_every_unsupported_node_is_listed() -> None:
    nodes = [
        node("Pad", ["x", "pads"], ["a"], name="border"),
        node("Conv", ["a", "w"], ["b"], name="fine"),
        node("Det", ["b"], ["c"]),
        node("Gemm", ["b", "b"], ["d"], name="images"),
        node("FusedThing", ["d"], ["e"], name="fused", domain="com.example"),
        node("NonZero", ["e"], ["f"], name="places"),
        node("Softmax", ["d"], ["g"], name="also fine"),
    ]
    constants = {"pads": ints(0, 0, -1, 1, 0, 0, 1, 1), "w": seeded(3, 3, 3, 3)}
    text = message(model(nodes, {"x": ["N", 3, 8, 8]}, ["c", "f", "g"], constants))
    assert "the model: 5 nodes are not supported" in text
    assert "Pad 'border': negative pads [0, 0, -1, 1, 0, 0, 1, 1]; supported: a Slice" in text
    assert "Det 'Det:c': the operator is not supported" in text
    assert "Gemm 'images': its operand A has rank 4; supported: rank 2" in text
    assert "FusedThing 'fused': it is of the domain 'com.example'" in text
    assert "NonZero 'places': the operator is not supported" in text
    assert "fine" not in text
    assert "Supported operators: Abs, Add" in text


SQUARE = {"x": [1, 2, 4, 4]}
POOL = {"kernel_shape": [2, 2]}
SCALE = np.array(0.1, np.float32)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "reason"),
    [
        ("Conv", ["x", "x"], {}, "its input W ('x') is computed at run time; supported: a constant W"),
        ("Conv", ["x", seeded(2, 2, 1, 1)], {"pads": [0, -1, 0, 0]}, "negative pads [0, -1, 0, 0]"),
        ("Conv", ["x", seeded(2, 2, 1, 1)], {"auto_pad": "HALF"}, "auto_pad is 'HALF'"),
        ("Conv", ["x", seeded(2, 3, 1, 1)], {}, "2 input channels and weights [2, 3, 1, 1] do not fit 1 groups"),
        ("Conv", ["x", seeded(2, 2, 9, 9)], {}, "a window of 9 (dilation 1) does not fit into 4 + 0 + 0"),
        ("Conv", ["x", seeded(2, 2, 1, 1)], {"kernel_shape": [3, 3]}, "do not fit the operand or kernel_shape"),
        ("Conv", ["x", seeded(2, 2, 1, 1)], {"nonsense": 1}, "Unrecognized attribute: nonsense"),
        ("MaxPool", ["x"], {}, "Required attribute 'kernel_shape' is missing"),
        ("BatchNormalization", ["x", *[seeded(2)] * 4], {"training_mode": 1}, "it is in training mode"),
        ("Reshape", ["x", "x"], {}, "its input shape ('x') is computed at run time"),
        ("Reshape", ["x", ints(5, 7)], {}, "32 elements do not fit shape [5, 7]"),
        ("Slice", ["x", ints(3), ints(0), ints(2), ints(0)], {}, "a step of 0"),
        ("Slice", ["x", ints(3), ints(3), ints(2)], {}, "its result is empty; supported: results with elements"),
        ("Pad", ["x", ints(0, 0, -1, 0, 0, 0, 0, 0)], {}, "negative pads"),
        ("Cast", ["x"], {"to": TensorProto.INT64}, "it casts a computed tensor to int64"),
        ("Pow", ["x", np.array(1.25, np.float32)], {}, "the exponent is 1.25"),
        ("Gather", ["x", ints(2, 4)], {"axis": 2}, "indices that are not inside an axis of 4"),
        ("Softmax", ["x"], {"axis": 4}, "axes (4,) do not fit rank 4"),
        ("Add", ["x", seeded(3)], {}, "shape mismatch"),
        ("MatMul", ["x", np.zeros((4, 3), np.float64)], {}, "'x' is float32, 'c1' is float64"),
        ("RandomNormalLike", ["x"], {}, "the operator is not supported"),
        ("QuantizeLinear", ["x", np.array([1, 2], np.float32), np.array([0, 1], np.uint8)], {}, "it has 2 scales and"),
        ("QuantizeLinear", ["x", np.array([1, 2, 3], np.float32)], {}, "3 scales do not fit axis 1"),
        ("QuantizeLinear", ["x", "x"], {}, "its input y_scale ('x') is computed at run time"),
        ("NoSuchOperator", ["x"], {}, "operator set 17 has no such operator"),
    ],
)
def test_reason(op_type: str, inputs: Sequence[str | np.ndarray], attributes: Mapping[str, Any], reason: str) -> None:
    names = [item if isinstance(item, str) else f"c{i}" for i, item in enumerate(inputs)]
    constants = {f"c{i}": item for i, item in enumerate(inputs) if isinstance(item, np.ndarray)}
    proto = model([node(op_type, names, ["y"], name="culprit", **attributes)], SQUARE, ["y"], constants)
    text = message(proto)
    assert f"{op_type} 'culprit'" in text
    assert reason in text


def test_four_spatial_axes() -> None:
    proto = model(
        [node("Conv", ["x", "w"], ["y"], name="c")], {"x": [1, 2, 3, 3, 3, 3]}, ["y"], {"w": seeded(2, 2, 1, 1, 1, 1)}
    )
    assert "its operand has rank 6; supported: rank 3 to 5 (one to three spatial axes)" in message(proto)


def test_control_flow() -> None:
    branch = helper.make_graph([node("Relu", ["x"], ["a"])], "b", [], [helper.make_tensor_value_info("a", 1, None)])
    proto = model(
        [
            node("Cast", ["x"], ["c"], to=TensorProto.BOOL),
            node("If", ["c"], ["y"], "choice", None, None, then_branch=branch, else_branch=branch),
        ],
        {"x": [1]},
        ["y"],
    )
    assert "If 'choice': control flow is not supported" in message(proto)


def test_output_that_is_used_in_vain() -> None:
    nodes = [node("MaxPool", ["x"], ["y", "places"], name="pool", **POOL)]
    assert "MaxPool 'pool': its output Indices is used" in message(model(nodes, SQUARE, ["y", "places"]))
    import_onnx(model(nodes, SQUARE, ["y"]))


def test_broken_graphs() -> None:
    assert "reads 'z', which nothing before it computes" in message(model([node("Relu", ["z"], ["y"])], SQUARE, ["y"]))
    twice = [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]
    assert "computes 'y', which exists already" in message(model(twice, SQUARE, ["y"]))
    assert "no node computes the output 'missing'" in message(model(twice[:1], SQUARE, ["missing"]))


@pytest.mark.parametrize("opset", [8, NEWEST + 1])
def test_operator_set_out_of_range(opset: int) -> None:
    text = message(model([node("Relu", ["x"], ["y"])], SQUARE, ["y"], opset=opset))
    assert f"uses operator set {opset}; sqc imports 9 to {NEWEST}" in text


def test_open_extents() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": ["N", 3, "height", "width"]}, ["y"])
    text = message(proto)
    assert "'x' has shape [N, 3, height, width]; only the leading extent may be open" in text
    assert "update_model_dims" in text


def test_element_types_of_inputs() -> None:
    proto = model([node("Relu", ["x"], ["y"])], SQUARE, ["y"], elem_type=TensorProto.INT16)
    assert "'x' has element type int16; supported: float32" in message(proto)


def test_batch_that_the_model_does_not_have() -> None:
    proto = model([node("Relu", ["x"], ["y"])], SQUARE, ["y"])
    assert "batch=3: its input 'x' has the fixed shape [1, 2, 4, 4]" in message(proto, batch=3)
    assert "at least 1" in message(proto, batch=0)


def test_truncated_files_are_errors_that_name_the_file(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"], name="m")], {"x": [1, 8]}, ["y"], {"w": seeded(8, 16)})
    data = proto.SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert "cut.onnx" in message(path)


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_errors_or_harmless() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Flatten", ["c"], ["f"]),
        node("Relu", ["f"], ["y"]),
    ]
    data = model(nodes, {"x": ["N", 2, 4, 4]}, ["y"], {"w": seeded(2, 2, 3, 3)}).SerializeToString()
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] = random.integers(256)
        try:
            import_onnx(bytes(damaged))
        except ImportFailure as error:
            assert str(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "no ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"import torch\n", "no ONNX model"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    text = message(path)
    assert "file.onnx" in text
    assert reason in text


def test_missing_files(tmp_path: Path) -> None:
    assert re.search("cannot read '.*nowhere.onnx': No such file", message(tmp_path / "nowhere.onnx"))
    assert "Is a directory" in message(tmp_path)


def test_missing_external_data(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 8]}, ["y"], {"w": seeded(8, 16)})
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    data = path.read_bytes()
    assert "give the path of the model" in message(data)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "'w'" in message(path)
    weights.unlink()
    text = message(path)
    assert "external.onnx" in text
    assert "weights.bin" in text


def test_damaged_initializer() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 8]}, ["y"], {"w": seeded(8, 16)})
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    assert "the data of initializer 'w' are damaged" in message(proto)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "reason"),
    [
        ("QuantizeLinear", ["x", SCALE, np.array(0, np.int16)], {}, "it rounds to int16; supported: uint8 and int8"),
        ("QuantizeLinear", ["x", SCALE], {"output_dtype": TensorProto.INT4}, "it rounds to int4"),
        ("QuantizeLinear", ["x", seeded(1, 2, 4, 2)], {"block_size": 2, "axis": 3}, "a scale for each block"),
        ("DequantizeLinear", ["x", SCALE], {}, "it reads computed float32"),
    ],
)
def test_quantization(
    op_type: str, inputs: Sequence[str | np.ndarray], attributes: Mapping[str, Any], reason: str
) -> None:
    names = [item if isinstance(item, str) else f"c{i}" for i, item in enumerate(inputs)]
    constants = {f"c{i}": item for i, item in enumerate(inputs) if isinstance(item, np.ndarray)}
    proto = model([node(op_type, names, ["y"], name="culprit", **attributes)], SQUARE, ["y"], constants, opset=21)
    assert reason in message(proto)
