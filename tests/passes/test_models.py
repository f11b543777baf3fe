"""The float pipeline on real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.ir import rebatch, verify
from sqc.passes import FLOAT, run
from tests.float_graphs import random_inputs

MODELS = (
    "anomaly_fc_ae",
    "cifar10_resnet20",
    "cifar10_resnet32",
    "imagenet_mobilenet_v1_0.5_160",
    "imagenet_mobilenet_v2",
    "imagenet_mobilenet_v3_small",
    "imagenet_squeezenet1_1",
    "kws_dscnn",
    "mlperf_tiny_resnet8_cifar10",
    "ultraface_slim_320",
    "vww_mobilenet_v1_0.25_96",
)


@pytest.mark.parametrize("model", MODELS)
def test_model(model: str, test_data: Path) -> None:
    frontend = pytest.importorskip("sqc.frontend")
    path = test_data / model / "model.onnx"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    graph = frontend.import_onnx(path)
    result = run(FLOAT, graph)
    kinds = [op.kind for op in result.ops]
    assert "batch_norm" not in kinds
    assert "pad" not in kinds
    assert all(op.attributes.get("layout", "NHWC") == "NHWC" for op in result.ops)
    assert [op.operands[0] for op in result.ops if op.kind == "transpose"] in ([], list(result.inputs))
    inputs = random_inputs(graph)
    expected, actual = graph.run(inputs), result.run(inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, atol=1e-4 * float(np.abs(array).max()))
    if graph.dynamic_batch:
        verify(rebatch(result, 2))
