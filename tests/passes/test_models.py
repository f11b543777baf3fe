"""The float pipeline on real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.ir import rebatch, verify
from sqc.passes import FLOAT, run
from tests.float_graphs import random_inputs
from tests.real_models import MODELS


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
