"""Models that take indices: embeddings gathered at run time, and masks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sqc
from sqc.ir import rebatch
from tests.frontend.nodes import seeded
from tests.promise.kernels import TARGETS


def embedding(elem_type: int) -> onnx.ModelProto:
    """Token and position embeddings, layer normalization, a mask, a projection."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["tokens"]),
        helper.make_node("LayerNormalization", ["tokens", "gamma", "beta"], ["normal"]),
        helper.make_node("Add", ["normal", "positions"], ["sum"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Cast", ["column"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["sum", "factor"], ["masked"]),
        helper.make_node("MatMul", ["masked", "weights"], ["y"]),
    ]
    constants = {
        "table": seeded(50, 16), "positions": seeded(5, 16, seed=2), "gamma": seeded(16, seed=5),
        "beta": seeded(16, seed=3), "weights": seeded(16, 16, seed=4) / 4, "last": np.array([2], np.int64),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "embedding",
        [helper.make_tensor_value_info(name, elem_type, ["N", 5]) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sentences(dtype: str, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = random.integers(-50, 50, (batch, 5))
    return {"ids": ids.astype(dtype), "mask": random.integers(0, 2, (batch, 5)).astype(dtype)}


@pytest.mark.parametrize(("elem_type", "dtype"), [(TensorProto.INT64, "int64"), (TensorProto.INT32, "int32")])
def test_embeddings(elem_type: int, dtype: str) -> None:
    graph = sqc.import_onnx(embedding(elem_type))
    calibration = sqc.calibrate(graph, [sentences(dtype, 1, seed) for seed in range(64)])
    quantized = sqc.quantize(graph, calibration)
    assert {op.kind for op in quantized.ops} >= {"gather", "qnormalize", "qfully_connected"}
    inputs = sentences(dtype, 2)
    expected = rebatch(quantized, 2).run(inputs)["y"]
    exact = rebatch(graph, 2).run(inputs)["y"]
    assert np.abs(expected - exact).max() < 0.05 * np.abs(exact).max()
    for target in TARGETS:
        model = sqc.compile(quantized, target=target, batch=2).load()
        np.testing.assert_array_equal(model.run(inputs)["y"], expected)
        assert [spec.dtype.name for spec in model.inputs] == [dtype, dtype]


def test_indices_outside_read_the_ends() -> None:
    graph = sqc.import_onnx(embedding(TensorProto.INT64))
    model = sqc.compile(graph).load()
    mask = np.ones((1, 5), np.int64)
    wild = np.array([[2**40, -(2**40), 50, -51, 49]])
    tame = np.array([[49, 0, 49, 0, 49]])
    np.testing.assert_array_equal(
        model.run({"ids": wild, "mask": mask})["y"], model.run({"ids": tame, "mask": mask})["y"]
    )
