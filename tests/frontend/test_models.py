"""The real models of SQC_TEST_DATA against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqc.frontend import import_onnx
from sqc.ir import constant_data, format_graph, parse_graph, rebatch, verify
from tests.frontend.nodes import assert_close, feeds_for, onnxruntime_oracle
from tests.real_models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_real_model(name: str, test_data: Path) -> None:
    import onnx

    path = test_data / name / "model.onnx"
    graph = import_onnx(path)
    verify(graph)
    assert parse_graph(format_graph(graph), constant_data(graph)) == graph
    proto = onnx.load(path)
    assert list(graph.outputs) == [output.name for output in proto.graph.output]
    assert graph.dynamic_batch == (name != "ultraface_slim_320")
    feeds = feeds_for(graph)
    assert_close(graph.run(feeds), onnxruntime_oracle()(proto, feeds))


def test_batch_of_a_real_model(test_data: Path) -> None:
    import onnx

    path = test_data / "kws_dscnn" / "model.onnx"
    graph = import_onnx(path, batch=3)
    assert graph == rebatch(import_onnx(path), 3)
    feeds = feeds_for(graph)
    assert_close(graph.run(feeds), onnxruntime_oracle()(onnx.load(path), feeds))


def test_every_node_is_a_source(test_data: Path) -> None:
    graph = import_onnx(test_data / "cifar10_resnet20" / "model.onnx")
    assert all(op.source for op in graph.ops)
    assert graph.ops[0].source == "/conv1/Conv"
