"""Comparisons, logic and choices, as models use them: masks of attention, thresholds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sqc
from sqc.errors import ImportFailure
from tests.frontend.nodes import assert_close, evaluate, seeded

LENGTH, WIDTH = 6, 8


def node(op_type: str, *inputs: str, name: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), [name], name=name, **attributes)


def masked_attention(choice: bool) -> onnx.ModelProto:
    """From x [1, L, W] and mask int64 [1, L]: a head, masked by Where or, as older exporters do, by a sum."""
    weights = {name: seeded(WIDTH, WIDTH, seed=seed) for seed, name in enumerate(("wq", "wk", "wv", "wo"))}
    constants = {
        **weights, "axes": np.array([1], np.int64), "square": np.array([1, LENGTH, LENGTH], np.int64),
        "one": np.float32(1), "least": np.float32(-1e4 if not choice else -np.inf), "none": np.int64(0),
    }  # fmt: skip
    products = [node("MatMul", "x", f"w{part}", name=part) for part in "qkv"]
    products += [node("Transpose", "k", name="kt", perm=[0, 2, 1]), node("MatMul", "q", "kt", name="scores")]
    rows = [node("Unsqueeze", "mask", "axes", name="row"), node("Expand", "row", "square", name="full")]
    if choice:
        masks = [node("Equal", "full", "none", name="hidden"), node("Not", "hidden", name="shown"),
                 node("Where", "shown", "scores", "least", name="masked")]  # fmt: skip
    else:
        masks = [node("Cast", "full", name="numbers", to=TensorProto.FLOAT), node("Sub", "one", "numbers", name="off"),
                 node("Mul", "off", "least", name="far"), node("Add", "scores", "far", name="masked")]  # fmt: skip
    head = [node("Softmax", "masked", name="shares", axis=-1), node("MatMul", "shares", "v", name="context"),
            node("MatMul", "context", "wo", name="y")]  # fmt: skip
    graph = helper.make_graph(
        [*products, *rows, *masks, *head],
        "masked",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, LENGTH, WIDTH]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, [1, LENGTH]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, LENGTH, WIDTH])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(seed: int) -> dict[str, np.ndarray]:
    mask = np.ones((1, LENGTH), np.int64)
    mask[:, 2 + seed % 4 :] = 0
    return {"x": seeded(1, LENGTH, WIDTH, seed=seed, low=-1.0, high=1.0), "mask": mask}


@pytest.mark.parametrize("choice", [True, False])
def test_masked_attention(choice: bool) -> None:
    proto = masked_attention(choice)
    graph = sqc.import_onnx(proto)
    compiled = sqc.compile(graph, mode="weights-int8")
    quantized = sqc.quantize(graph, sqc.calibrate(graph, [feeds(seed) for seed in range(8)]))
    assert [op.kind for op in quantized.ops].count("softmax") == 1  # levels over the range of the mask would be few
    library = sqc.compile(quantized)
    again = sqc.quantize(sqc.import_onnx(sqc.export_qdq(quantized)))
    for seed in range(20, 24):
        expected = evaluate(proto, feeds(seed))
        assert_close(graph.run(feeds(seed)), expected)
        largest = np.abs(expected["y"]).max()
        np.testing.assert_allclose(compiled.run(feeds(seed))["y"], expected["y"], atol=0.02 * largest)
        y = library.run(feeds(seed))["y"]
        np.testing.assert_allclose(y, expected["y"], atol=0.1 * largest)
        np.testing.assert_allclose(again.run(feeds(seed))["y"], quantized.run(feeds(seed))["y"], rtol=1e-5, atol=1e-5)
        other = feeds(seed)
        other["x"][0, -1] = 5.0
        assert np.array_equal(library.run(other)["y"][0, :-1], y[0, :-1])  # what the mask hides is not seen


def test_integers_are_compared_exactly() -> None:
    proto = helper.make_model(
        helper.make_graph(
            [node("Greater", "a", "b", name="more"), node("Cast", "more", name="y", to=TensorProto.FLOAT)],
            "exact",
            [helper.make_tensor_value_info(name, TensorProto.INT64, [2, 3]) for name in "ab"],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    a = np.array([[2**40 + 1, -(2**24) - 1, 3], [0, 2**31, -1]], np.int64)
    b = np.array([[2**40, -(2**24), 3], [1, 2**31 - 1, -(2**62)]], np.int64)
    graph = sqc.import_onnx(proto)
    for run in (graph.run, sqc.compile(graph).run):
        assert run({"a": a, "b": b})["y"].tolist() == (a > b).astype(float).tolist()


def test_outputs_of_truth_values() -> None:
    proto = helper.make_model(
        helper.make_graph(
            [node("Greater", "x", "x", name="y")],
            "truth",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
            [helper.make_tensor_value_info("y", TensorProto.BOOL, [2])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    with pytest.raises(ImportFailure, match="the output 'y' is of truth values; Cast it to a number"):
        sqc.import_onnx(proto)
