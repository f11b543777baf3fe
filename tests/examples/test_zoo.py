"""The collection of real models, where SQC_TEST_DATA names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest


@pytest.mark.parametrize(
    "name",
    [
        "imagenet_mobilenet_v2",
        "imagenet_squeezenet1_1",
        "imagenet_mobilenet_v1_0.5_160",
        "imagenet_mobilenet_v3_small",
        "cifar10_resnet20",
        "cifar10_resnet32",
        "mlperf_tiny_resnet8_cifar10",
        "kws_dscnn",
        "vww_mobilenet_v1_0.25_96",
        "anomaly_fc_ae",
        "ultraface_slim_320",
    ],
)
def test_inputs_fit_the_model(test_data: Path, name: str) -> None:
    from zoo import ZOO

    model = ZOO[name]
    (shape,) = [
        [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in onnx.load(str(model.path)).graph.input
        if value.name == "input"
    ]
    inputs = model.inputs("calib", 4)
    assert inputs.dtype == np.float32
    assert list(inputs.shape[1:]) == shape[1:]
    np.testing.assert_array_equal(np.concatenate(list(model.batches("calib", 3, 4))), inputs)
    labels = model.labels("eval")
    assert labels is None or len(labels) == model.count("eval")


def test_unknown_models_are_all_named(test_data: Path) -> None:
    from zoo import choose

    with pytest.raises(SystemExit, match="unknown models: turtle, hare; known: imagenet_mobilenet_v2"):
        choose("kws_dscnn,turtle,hare")
