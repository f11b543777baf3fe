"""Models that bring their own quantization: integer throughout, equal to the reference, one step from ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import sqc
from sqc.errors import CalibrationError, CompileError
from sqc.ir import same_bits
from sqc.passes import Notes
from sqc.surviving import surviving_pairs
from tests.frontend.nodes import model, seeded
from tests.qdq.models import LEVEL, Network

BASE = Network()
NETWORKS = [
    BASE,
    replace(BASE, activations="int8"),
    replace(BASE, per_channel=False),
    replace(BASE, stored=False),
    replace(BASE, weights="uint8"),
    replace(BASE, weights="uint8", per_channel=False, groups=2),
    replace(BASE, activations="int8", weights="uint8", groups=4),
    replace(BASE, outside=True),
    replace(BASE, activations="int8", outside=True),
    replace(BASE, opset=10, per_channel=False),
    replace(BASE, opset=19),
    replace(BASE, opset=21),
]


def inputs(graph: sqc.ir.Graph) -> dict[str, np.ndarray]:
    (value,) = graph.inputs
    random = np.random.default_rng(1)
    if value.type.dtype == "float32":
        return {value.name: random.uniform(-2, 2, value.type.shape).astype(np.float32)}
    low, high = np.iinfo(value.type.dtype).min, np.iinfo(value.type.dtype).max
    return {value.name: random.integers(low, high + 1, value.type.shape).astype(value.type.dtype)}


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_is_integer_and_close_to_onnxruntime(network: Network) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    proto = network.model()
    graph = sqc.import_onnx(proto)
    notes = Notes()
    quantized = sqc.quantize(graph, notes=notes)
    assert surviving_pairs(quantized, notes) == ()
    arrays = inputs(graph)
    compiled = sqc.compile(graph, require_int8=True)
    assert compiled.report.int8_share == 1.0
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, arrays)
    (expected,), (actual,) = quantized.run(arrays).values(), compiled.run(arrays).values()
    assert same_bits(actual, expected)
    assert actual.dtype == wanted.dtype
    step = LEVEL if wanted.dtype == np.float32 else 1
    assert np.abs(actual.astype(np.float64) - wanted).max() <= 1.01 * step


def test_needs_no_calibration_and_takes_none() -> None:
    graph = sqc.import_onnx(BASE.model())
    with pytest.raises(CalibrationError, match="quantized already"):
        sqc.calibrate(graph, [np.zeros((1, 4, 8, 8), np.float32)])
    with pytest.raises(CompileError, match="quantized already"):
        sqc.quantize(graph, exclude=["conv"])
    with pytest.raises(CalibrationError, match="needs a calibration"):
        sqc.quantize(sqc.import_onnx(model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 4)}, ["y"])))


def partly_quantized() -> onnx.ModelProto:
    """A quantized layer, and behind it softmax and a layer whose weights are not."""
    proto = replace(BASE, per_channel=False).model()
    (output,) = (value.name for value in proto.graph.output)
    nodes = [
        helper.make_node("MatMul", [output, "float.w"], ["scores"], name="float"),
        helper.make_node("Softmax", ["scores"], ["y"], name="softmax"),
    ]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(seeded(5, 3), "float.w"))
    proto.graph.output[0].name = "y"
    return proto


def test_what_is_not_quantized_stays_in_float_with_reasons() -> None:
    graph = sqc.import_onnx(partly_quantized())
    compiled = sqc.compile(graph)
    (pair,) = compiled.report.pairs
    assert pair.kind == "dequantize"
    assert "fully_connected 'float' behind it stays in float: its weights are not quantized" in str(pair)
    arrays = inputs(graph)
    np.testing.assert_allclose(compiled.run(arrays)["y"], sqc.quantize(graph).run(arrays)["y"], atol=1e-5)
    with pytest.raises(CompileError, match="int8 is required, but 2 places are in float") as caught:
        sqc.compile(graph, require_int8=True)
    assert "  - fully_connected 'float' stays in float: its weights are not quantized" in str(caught.value)


@pytest.mark.parametrize("bent", [False, True])
def test_inputs_may_be_scaled_by_constants_and_no_more(bent: bool) -> None:
    nodes = [
        helper.make_node("Mul", ["bent" if bent else "x", "factor"], ["scaled"], name="scale"),
        helper.make_node("QuantizeLinear", ["scaled", "s", "z"], ["q"], name="round"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    if bent:
        nodes.insert(0, helper.make_node("Tanh", ["x"], ["bent"], name="bend"))
    constants = {"factor": np.float32(2), "s": np.float32(1 / 64), "z": np.uint8(128)}
    graph = sqc.import_onnx(model(nodes, {"x": (1, 8)}, ["y"], constants))
    if not bent:
        sqc.compile(graph, require_int8=True)
        return
    with pytest.raises(CompileError, match="mul 'scale' in front of it"):
        sqc.compile(graph, require_int8=True)


def test_stored_weights_of_a_float_layer_are_numbers() -> None:
    """The second layer reads what is not rounded."""
    random = np.random.default_rng(0)
    constants = {
        "s": np.float32(4 / 255),
        "z": np.uint8(128),
        "w": random.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8),
        "w.s": random.uniform(0.005, 0.01, 4).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "w.s"], ["wr"], axis=0),
        helper.make_node("Conv", ["xr", "wr"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "wr"], ["y"], name="float"),
    ]
    graph = sqc.import_onnx(model(nodes, {"x": ("N", 4, 6, 6)}, ["y"], constants))
    arrays = inputs(graph)
    compiled = sqc.compile(graph)
    np.testing.assert_allclose(compiled.run(arrays)["y"], graph.run(arrays)["y"], rtol=1e-5)
    with pytest.raises(CompileError, match="conv2d 'float' stays in float: not all that it reads is eight-bit"):
        sqc.compile(graph, require_int8=True)


def test_weights_alone_are_numbers() -> None:
    """A model that stores weights as integers and rounds no activation is a float model."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    constants = {"w": np.array([[1, -2], [3, 4]], np.int8), "s": np.array(0.5, np.float32)}
    graph = sqc.import_onnx(model(nodes, {"x": (1, 2)}, ["y"], constants))
    x = seeded(1, 2)
    calibration = sqc.calibrate(graph, [x])
    assert sqc.compile(graph, calibration).report.int8_share == 1.0
    np.testing.assert_allclose(sqc.compile(graph).run({"x": x})["y"], x @ (constants["w"] * 0.5), rtol=1e-6)


def test_scales_of_channels_of_an_activation_fold_into_a_depthwise_layer() -> None:
    """As NNCF writes the input of a depthwise convolution, behind a clip."""
    random = np.random.default_rng(0)
    constants = {
        "w": random.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8),
        "w.s": random.uniform(0.005, 0.01, 4).astype(np.float32),
        "d": random.integers(-127, 128, (4, 1, 3, 3)).astype(np.int8),
        "d.s": random.uniform(0.005, 0.01, 4).astype(np.float32),
        "s": np.float32(4 / 255),
        "z": np.uint8(128),
        "channels": random.uniform(0.01, 0.02, 4).astype(np.float32),
        "zeros": np.zeros(4, np.uint8),
        "t": np.float32(0.05),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "w.s"], ["wr"], axis=0),
        helper.make_node("Conv", ["xr", "wr"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "channels", "zeros"], ["bq"], axis=1),
        helper.make_node("DequantizeLinear", ["bq", "channels", "zeros"], ["br"], axis=1),
        helper.make_node("DequantizeLinear", ["d", "d.s"], ["dr"], axis=0),
        helper.make_node("Conv", ["br", "dr"], ["c"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "t", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "t", "z"], ["y"]),
    ]
    graph = sqc.import_onnx(model(nodes, {"x": ("N", 4, 6, 6)}, ["y"], constants))
    arrays = inputs(graph)
    compiled = sqc.compile(graph, require_int8=True)
    np.testing.assert_allclose(compiled.run(arrays)["y"], graph.run(arrays)["y"], atol=1.01 * 0.05)


def test_digits_quantized_by_onnxruntime() -> None:
    pytest.importorskip("onnxruntime")
    from sqc.bench.peers.onnxruntime import quantize
    from tests.cli.conftest import DIGITS

    images = np.random.default_rng(0).integers(0, 17, (16, 1, 1, 8, 8)).astype(np.float32)
    proto = quantize(DIGITS.read_bytes(), [{"image": image} for image in images])
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    graph = sqc.import_onnx(proto)
    compiled = sqc.compile(graph, require_int8=True)
    (last,) = (op for op in graph.ops if op.result in graph.outputs.values())
    step = last.operands[0].type.scale
    for image in images:
        (wanted,) = session.run(None, {"image": image})
        np.testing.assert_allclose(compiled(image), wanted, atol=2.01 * step)


ONE_LAYER = {
    "lines": (("Conv", {"pads": [2, 2]}), (1, 4, 20), (6, 4, 5), 0),
    "volumes": (("Conv", {"pads": [1] * 6}), (1, 4, 5, 6, 7), (6, 4, 3, 3, 3), 0),
    "transposed": (("ConvTranspose", {"strides": [2, 2], "dilations": [2, 1]}), (1, 4, 6, 7), (4, 6, 3, 2), 1),
    "transposed lines": (("ConvTranspose", {"strides": [3], "group": 2}), (1, 4, 9), (4, 3, 4), None),
    "matrices": (("MatMul", {}), (3, 5, 8), (3, 8, 6), 2),
}


@pytest.mark.parametrize(("name", "zero_point"), [*((name, 0) for name in ONE_LAYER), ("lines", 3), ("volumes", 3)])
def test_layers_that_become_others_keep_their_levels(name: str, zero_point: int) -> None:
    """Rounded behind a relu. Where zeros have to be among the levels, these have no zero points."""
    onnxruntime = pytest.importorskip("onnxruntime")
    (op_type, attributes), shape, weights, axis = ONE_LAYER[name]
    random = np.random.default_rng(0)
    count = () if axis is None else (weights[axis],)
    constants = {
        "s": np.float32(4 / 255),
        "z": np.uint8(128),
        "w": random.integers(-120, 121, weights).astype(np.int8),
        "w.s": random.uniform(0.005, 0.01, count).astype(np.float32),
        "w.z": np.full(count, zero_point, np.int8),
        "t": np.float32(0.05),
        "o": np.uint8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "w.s", "w.z"], ["wr"], **({} if axis is None else {"axis": axis})),
        helper.make_node(op_type, ["xr", "wr"], ["a"], **attributes),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "t", "o"], ["bq"]),
        helper.make_node("DequantizeLinear", ["bq", "t", "o"], ["y"]),
    ]
    proto = model(nodes, {"x": shape}, ["y"], constants)
    graph = sqc.import_onnx(proto)
    arrays = inputs(graph)
    compiled = sqc.compile(graph, require_int8=True)
    assert compiled.report.int8_share == 1.0
    (expected,), (actual,) = sqc.quantize(graph).run(arrays).values(), compiled.run(arrays).values()
    assert same_bits(actual, expected)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(actual, session.run(None, arrays)[0], atol=0.05 * 1.01)
