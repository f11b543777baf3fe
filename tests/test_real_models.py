"""The promise on real models: import, calibrate, quantize, compile, run; integers equal the reference bit for bit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import sqc
from sqc.ir import same_bits
from tests.promise.regions import exact_region

SMALL = ("anomaly_fc_ae", "kws_dscnn", "mlperf_tiny_resnet8_cifar10", "cifar10_resnet20", "vww_mobilenet_v1_0.25_96")
LARGE = (
    "cifar10_resnet32",
    "imagenet_mobilenet_v1_0.5_160",
    "imagenet_mobilenet_v2",
    "imagenet_mobilenet_v3_small",
    "imagenet_squeezenet1_1",
    "ultraface_slim_320",
)
CALIBRATION_SAMPLES = 4


def check(zoo: ModuleType, name: str) -> None:
    model = zoo.ZOO[name]
    graph = sqc.import_onnx(model.path)
    calibration = sqc.calibrate(graph, [model.inputs("calib", CALIBRATION_SAMPLES)])
    assert calibration.samples == CALIBRATION_SAMPLES
    quantized = sqc.quantize(graph, calibration)
    exact = exact_region(quantized)
    assert exact.outputs
    compiled = sqc.compile(exact)
    arrays = {exact.inputs[0].name: model.inputs("eval", 1)}
    expected = exact.run(arrays)
    for threads in (1, 2):
        actual = compiled.load(threads).run(arrays)
        assert [name for name, array in expected.items() if not same_bits(actual[name], array)] == []

    whole = sqc.compile(graph, calibration)
    assert whole.report.int8_share >= 0.99
    assert whole.plan.programs[0].arena_bytes <= 1.05 * whole.plan.programs[0].live_bytes
    rows = [row for row in whole.report.rows if row.precision == "float32"]
    assert not {part for row in rows for part in row.parts} & {"conv2d", "fully_connected", "add", "mul", "concat"}
    for name, array in whole.run(arrays).items():
        reference = quantized.run(arrays)[name] if name not in expected else expected[name]
        np.testing.assert_allclose(array, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("name", SMALL)
def test_small_models_equal_the_reference(test_data: Path, zoo: ModuleType, name: str) -> None:
    check(zoo, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_models_equal_the_reference(test_data: Path, zoo: ModuleType, name: str) -> None:
    check(zoo, name)
