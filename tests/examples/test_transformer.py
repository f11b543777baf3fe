"""A small encoder of the architecture of BERT: every mode stays near float, and attention needs no transposes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from bert import Shape, Tokenizer, encoder, random_weights
from onnx.reference import ReferenceEvaluator

import sqc
from sqc.ir import Graph
from sqc.modes import Mode
from sqc.passes import pipeline

SHAPE = Shape(layers=2, hidden=64, heads=4, intermediate=128, vocabulary=60, positions=32)
LENGTH = 20


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return encoder(random_weights(SHAPE), SHAPE, LENGTH)


@pytest.fixture(scope="module")
def graph(model: onnx.ModelProto) -> Graph:
    return sqc.import_onnx(model)


def tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SHAPE.vocabulary, (1, LENGTH))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_import(model: onnx.ModelProto, graph: Graph) -> None:
    (expected,) = ReferenceEvaluator(model).run(None, {"tokens": tokens(0)})
    np.testing.assert_allclose(graph.run({"tokens": tokens(0)})["embedding"], expected, rtol=1e-4, atol=1e-5)


def test_heads_are_read_where_they_lie(graph: Graph) -> None:
    kinds = [op.kind for op in pipeline.run(pipeline.FLOAT, graph).ops]
    assert kinds.count("matmul") == 2 * SHAPE.layers
    assert "transpose" not in kinds and "mul" not in kinds and "div" not in kinds


@pytest.mark.parametrize(("mode", "least"), [("dynamic", 0.998), ("weights-int8", 0.999), ("weights-int4", 0.9)])
def test_without_calibration(graph: Graph, mode: Mode, least: float) -> None:
    compiled = sqc.compile(graph, mode=mode)
    for seed in range(4):
        assert cosine(compiled(tokens(seed)), graph.run({"tokens": tokens(seed)})["embedding"]) > least


def test_static(graph: Graph) -> None:
    calibration = sqc.calibrate(graph, [tokens(seed) for seed in range(8)])
    quantized = sqc.quantize(graph, calibration)
    assert [op.kind for op in quantized.ops].count("qmatmul") == 2 * SHAPE.layers
    compiled = sqc.compile(quantized)
    for seed in range(100, 104):
        assert cosine(compiled(tokens(seed)), graph.run({"tokens": tokens(seed)})["embedding"]) > 0.98


def test_export(graph: Graph) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    quantized = sqc.quantize(graph, sqc.calibrate(graph, [tokens(seed) for seed in range(8)]))
    proto = sqc.export_qdq(quantized)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    again = sqc.quantize(sqc.import_onnx(proto))
    for seed in range(100, 104):
        (actual,) = session.run(None, {"tokens": tokens(seed)})
        expected = quantized.run({"tokens": tokens(seed)})["embedding"]
        assert cosine(actual, expected) > 0.999
        np.testing.assert_allclose(again.run({"tokens": tokens(seed)})["embedding"], expected, rtol=1e-5, atol=1e-6)


def test_tokenizer() -> None:
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##afford", "##able", "caf", "##e", "!"])
    assert tokenizer("Unaffordable café! why") == [4, 5, 6, 7, 8, 9, 1]
    assert tokenizer.sentence("unaffordable!", 5).tolist() == [[2, 4, 5, 6, 3]]
    with pytest.raises(ValueError, match="has 4 pieces, fewer than 5"):
        tokenizer.sentence("unaffordable!", 7)
