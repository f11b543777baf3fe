"""ConvInteger and MatMulInteger are sums of integers: ONNX Runtime has the same ones, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.conformance.peer import Model, run_onnxruntime, run_sqc

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 6, 9, 10), (8, 6, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((1, 8, 7, 7), (16, 4, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    ((1, 5, 9, 6), (5, 1, 3, 3), {"group": 5, "auto_pad": "SAME_UPPER"}),
    ((2, 16, 5, 5), (20, 16, 1, 1), {}),
    ((2, 3, 20), (4, 3, 4), {"pads": [2, 1], "dilations": [2]}),
    ((1, 4, 5, 6, 7), (6, 2, 2, 3, 3), {"group": 2, "pads": [1, 0, 1, 0, 1, 2]}),
]


def levels(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.asarray(random.integers(limits.min, limits.max + 1, shape), dtype)


def zero_point(random: np.random.Generator, dtype: str) -> int:
    return int(levels(random, (), dtype))


@pytest.mark.parametrize("weights", ["uint8", "int8"])
@pytest.mark.parametrize("zero", ["none", "known", "computed"])
@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_conv_integer(case: int, zero: str, weights: str) -> None:
    shape, kernel, attributes = CONVOLUTIONS[case]
    random, model = np.random.default_rng(case), Model()
    operands = [model.input(levels(random, shape, "uint8"))]
    operands.append(model.constant(levels(random, kernel, weights), weights))
    z = np.uint8(zero_point(random, "uint8"))
    known = {"none": lambda: "", "known": lambda: model.constant(z, "uint8"), "computed": lambda: model.input(z)}
    operands += [known[zero](), model.constant(zero_point(random, weights), weights)]
    check(model, model.node("ConvInteger", *operands, **attributes))


@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("zero", ["none", "known", "computed"])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 40)])
def test_matmul_integer(shape: tuple[int, ...], constant: bool, zero: str, dtypes: tuple[str, str]) -> None:
    random, model = np.random.default_rng(len(shape)), Model()
    if zero == "computed" and dtypes[0] == "int8":
        pytest.skip("DynamicQuantizeLinear, which computes zero points, gives u8")
    a, b = levels(random, shape, dtypes[0]), levels(random, (shape[-1], 12), dtypes[1])
    operands = [model.input(a), model.constant(b, dtypes[1]) if constant else model.input(b)]
    z = np.array(zero_point(random, dtypes[0]), dtypes[0])
    if zero == "known":
        operands += [model.constant(z, dtypes[0]), model.constant(zero_point(random, dtypes[1]), dtypes[1])]
    elif zero == "computed":
        operands += [model.input(z), model.constant(zero_point(random, dtypes[1]), dtypes[1])]
    check(model, model.node("MatMulInteger", *operands))


@pytest.mark.parametrize("reach", [100, 127])
def test_zero_points_by_column(reach: int) -> None:
    random, model = np.random.default_rng(0), Model()
    zeros = random.integers(-20, 20, 12)
    matrix = np.clip(levels(random, (24, 12), "int8"), -reach, reach)
    operands = [model.input(levels(random, (5, 24), "uint8")), model.constant(matrix, "int8")]
    operands += [model.input(np.uint8(77)), model.constant(zeros, "int8")]
    check(model, model.node("MatMulInteger", *operands))


def check(model: Model, outputs: list[str]) -> None:
    proto = model.proto(outputs)
    for result, wanted in zip(run_sqc(proto, model.inputs), run_onnxruntime(proto, model.inputs), strict=True):
        np.testing.assert_array_equal(result, wanted)
        assert result.dtype == wanted.dtype == np.int32


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
def test_a_network_quantized_dynamically_by_onnxruntime(weights: str, per_channel: bool, tmp_path: Path) -> None:
    """Convolutions, a depthwise one among them, and fully connected layers: the same bits."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    random, model = np.random.default_rng(0), Model(opset=17)

    def weight(*shape: int) -> str:
        return model.constant(random.normal(0, int(np.prod(shape[1:])) ** -0.5, shape))

    x = model.input(random.normal(size=(2, 3, 8, 8)).astype(np.float32))
    (y,) = model.node("Conv", x, weight(20, 3, 3, 3), weight(20), pads=[1, 1, 1, 1])
    (y,) = model.node("Relu", y)
    (y,) = model.node("Conv", y, weight(20, 1, 3, 3), group=20, pads=[1, 1, 1, 1], strides=[2, 2])
    (y,) = model.node("Flatten", y)
    (y,) = model.node("MatMul", y, weight(320, 33))
    (y,) = model.node("Add", y, weight(33))
    proto = model.proto(model.node("Gemm", y, weight(33, 10), weight(10)))
    source, result = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save(proto, source)
    quantization.quantize_dynamic(source, result, weight_type=quantization.QuantType[weights], per_channel=per_channel)
    quantized = onnx.load(result)
    kinds = [node.op_type for node in quantized.graph.node]
    assert kinds.count("ConvInteger") == kinds.count("MatMulInteger") == 2
    (y,), (expected,) = run_sqc(quantized, model.inputs), run_onnxruntime(quantized, model.inputs)
    np.testing.assert_array_equal(y, expected)
