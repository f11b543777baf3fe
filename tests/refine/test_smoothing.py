"""Networks whose dense layers read a few large channels: evened out, they come much nearer to float."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sqc
from sqc.ir import Builder, Graph, TensorType, Value, rebatch
from sqc.passes import pipeline
from sqc.passes.equalize import Equalize
from sqc.refine import smoothing

WIDTH = 64
CHANNELS = 24


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


def error(graph: Graph, quantized: Graph, x: np.ndarray | None = None) -> float:
    """Noise over signal on data that were not calibrated on."""
    x = data(512, 1) if x is None else x
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


def residual(clip: bool = False) -> Graph:
    """Convolutions around a stream of channels that differ in range."""
    random = np.random.default_rng(5)
    builder = Builder("residual", dynamic_batch=True)
    gains = np.geomspace(1, 200, CHANNELS)

    def conv(x: Value, name: str, weights: np.ndarray) -> Value:
        pads = (weights.shape[2] // 2,) * 4
        attributes = {"strides": (1, 1), "pads": pads, "dilations": (1, 1), "groups": 1, "layout": "NHWC"}
        w = builder.constant(weights.astype(np.float32), f"{name}.w")
        return builder.emit("conv2d", (x, w), attributes, name=name)

    def clamp(x: Value, name: str) -> Value:
        bounds = {"min": 0.0, "max": float(gains.max()) * 2}
        return builder.emit(*(("clip", (x,), bounds) if clip else ("relu", (x,), {})), name=name)

    x = builder.input("x", TensorType((1, 6, 6, CHANNELS), "float32"))
    shape = (CHANNELS, CHANNELS, 1, 1)
    x = clamp(conv(x, "first", random.normal(0, 0.3, shape) * gains[:, None, None, None]), "stream")
    for block in ("one", "two"):
        inner = conv(x, f"{block}.reduced", random.normal(0, 0.1, (CHANNELS, CHANNELS, 3, 3)) / gains[:, None, None])
        inner = builder.emit("relu", (inner,), {}, name=f"{block}.relu")
        inner = conv(inner, f"{block}.widened", random.normal(0, 0.1, shape) * gains[:, None, None, None])
        x = clamp(builder.emit("add", (inner, x), {}, name=f"{block}.sum"), f"{block}.stream")
    builder.outputs = {"y": conv(x, "last", random.normal(0, 0.3, shape) / gains[:, None, None])}
    return builder.finish()


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 6, 6, CHANNELS)).astype(np.float32)


@pytest.mark.parametrize("clip", [False, True], ids=["relu", "clip"])
def test_convolutions_on_a_residual_stream_gain(clip: bool) -> None:
    graph = residual(clip)
    calibration = sqc.calibrate(graph, [images(64, 0)])
    x = images(64, 1)
    fast = error(graph, sqc.quantize(graph, calibration), x)
    for preset in (sqc.Recipe(smooth=True), "best"):
        assert error(graph, sqc.quantize(graph, calibration, preset=preset), x) < 0.2 * fast


def test_values_of_a_stream_get_the_same_factors() -> None:
    factors = smoothing(pipeline.run(pipeline.FLOAT, residual()), {"x": images(32, 0)})
    stream = [factors[name] for name in ("stream", "one.stream", "two.stream")]
    np.testing.assert_array_equal(stream[0], stream[1])
    np.testing.assert_array_equal(stream[0], stream[2])
    assert stream[0].max() > 10 * stream[0].min()


def test_below_a_clip_the_float_network_stays_the_same() -> None:
    plain = pipeline.run(pipeline.FLOAT, residual(clip=True))
    x = images(32, 0)
    factors = smoothing(plain, {"x": x})
    assert all(found.min() >= 1.0 for name, found in factors.items() if "stream" in name)
    assert factors["stream"].max() > 10.0
    changed = pipeline.run((Equalize({}, factors),), plain)
    for batch, tolerance in ((x, 1e-5), (images(32, 1), 1e-2)):
        expected, found = (rebatch(each, len(batch)).run({"x": batch})["y"] for each in (plain, changed))
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_layers_in_float_do_not_count() -> None:
    plain = pipeline.run(pipeline.FLOAT, residual())
    assert smoothing(plain, {"x": images(8, 0)}, exclude={op.source for op in plain.ops}) == {}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_samples_do(count: int) -> None:
    graph = residual()
    calibration = sqc.calibrate(graph, [images(count, 0)])
    fast, best = (error(graph, sqc.quantize(graph, calibration, preset=p), images(64, 1)) for p in ("fast", "best"))
    assert best < 0.7 * fast
