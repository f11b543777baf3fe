"""Networks whose fully connected layers read a few large channels: evened out, they come much nearer to float."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sqc
from sqc.ir import Builder, Graph, TensorType, Value, rebatch
from sqc.passes import pipeline
from sqc.refine import smoothing

WIDTH = 64


def network(first: str, outliers: bool = True) -> Graph:
    """Two fully connected layers behind one, or behind a layer normalization, that yields channels with outliers."""
    random = np.random.default_rng(3)
    builder = Builder("outliers", dynamic_batch=True)
    gains = np.ones(WIDTH)
    if outliers:
        gains[[3, 17, 40]] = 60, 90, 40

    def constant(array: np.ndarray) -> Value:
        return builder.constant(array.astype(np.float32), "c")

    def emit(kind: str, *operands: Value, **attributes: Any) -> Value:
        return builder.emit(kind, operands, attributes, name=builder.unique(kind))

    x = builder.input("x", TensorType((1, WIDTH), "float32"))
    shift = constant(random.normal(0, 0.1, WIDTH) * gains)
    if first == "normalize":
        x = emit("normalize", x, constant(gains), shift, axes=(1,), epsilon=1e-5)
    else:
        x = emit("relu", emit(first, x, constant(random.normal(0, 1 / 8, (WIDTH, WIDTH)) * gains[:, None]), shift))
    weights = random.normal(0, 1 / 8, (32, WIDTH))
    weights[:, gains > 1] /= 20
    x = emit("relu", emit("fully_connected", x, constant(weights)))
    builder.outputs = {"y": emit("fully_connected", x, constant(random.normal(0, 0.2, (10, 32))))}
    return builder.finish()


def data(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, WIDTH)).astype(np.float32)


def error(graph: Graph, quantized: Graph) -> float:
    """Noise over signal on data that were not calibrated on."""
    x = data(512, 1)
    expected, found = (rebatch(each, len(x)).run({"x": x})["y"] for each in (graph, quantized))
    return float(np.square(found - expected).mean() / np.square(expected).mean())


@pytest.mark.parametrize("first", ["fully_connected", "normalize"])
def test_outliers_cost_little_once_evened_out(first: str) -> None:
    graph = network(first)
    calibration = sqc.calibrate(graph, [data(256, 0)])
    fast = error(graph, sqc.quantize(graph, calibration))
    for preset in (sqc.Recipe(smooth=True), "best"):
        assert error(graph, sqc.quantize(graph, calibration, preset=preset)) < 0.01 * fast


@pytest.mark.parametrize("first", ["fully_connected", "normalize"])
def test_without_outliers_no_harm_is_done(first: str) -> None:
    graph = network(first, outliers=False)
    calibration = sqc.calibrate(graph, [data(256, 0)])
    fast, smooth = (
        error(graph, sqc.quantize(graph, calibration, preset=preset)) for preset in ("fast", sqc.Recipe(smooth=True))
    )
    assert smooth < 1.1 * fast


def test_channels_stay_that_an_output_or_a_sum_reads() -> None:
    graph = network("normalize")
    plain = pipeline.run(pipeline.FLOAT, graph)
    (value,) = (op.result for op in plain.ops if op.kind == "normalize")
    assert value.name in smoothing(plain, {"x": data(64, 0)})
    shown = replace(plain, outputs={**plain.outputs, "n": value})
    assert value.name not in smoothing(shown, {"x": data(64, 0)})
