"""Refined layers are nearer to float, on other data too; the samples that a calibration keeps decide, nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sqc
from sqc.errors import CalibrationError, CompileError
from sqc.ir import Builder, Graph, TensorType, Value, rebatch
from sqc.passes import pipeline
from sqc.passes.channels import link_channels
from sqc.passes.equalize import Equalize
from sqc.refine import channel_extremes

SHAPE = (8, 8, 4)


def network(batch: int | None = None) -> Graph:
    """Dense, depthwise and grouped layers, the first with channels of very different ranges, and a classifier."""
    random = np.random.default_rng(3)
    builder = Builder("refined", dynamic_batch=batch is None)

    def emit(kind: str, *operands: Value, **attributes: Any) -> Value:
        name = builder.unique(kind)
        return builder.emit(kind, operands, attributes, name=f"{name}.y", source=name)

    def convolution(x: Value, *shape: int, spread: float = 0.0, groups: int = 1) -> Value:
        factors = np.exp(random.normal(0, spread, shape[0])).reshape(-1, 1, 1, 1)
        weights = random.normal(0, float(np.prod(shape[1:])) ** -0.5, shape) * factors
        w = builder.constant(weights.astype(np.float32), "w")
        b = builder.constant(random.normal(0, 0.1, shape[0]).astype(np.float32), "b")
        return emit("conv2d", x, w, b, layout="NHWC", groups=groups, pads=(shape[2] // 2,) * 4)

    image = builder.input("image", TensorType((batch or 1, *SHAPE), "float32"))
    x = emit("clip", convolution(image, 16, 4, 3, 3, spread=2.0), min=0.0, max=6.0)
    x = emit("relu", convolution(x, 16, 1, 3, 3, groups=16))
    x = emit("add", convolution(x, 16, 8, 1, 1, groups=2), x)
    pooled = emit("reduce_mean", x, axes=(1, 2), keepdims=False)
    w = builder.constant(random.normal(0, 0.25, (5, 16)).astype(np.float32), "w")
    builder.outputs = {"scores": emit("fully_connected", pooled, w)}
    return builder.finish()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 1, (count, *SHAPE)).astype(np.float32)


def scores(graph: Graph, x: np.ndarray) -> np.ndarray:
    whole = rebatch(graph, len(x)) if graph.dynamic_batch else graph
    return whole.run({"image": x})["scores"]


def error(graph: Graph, quantized: Graph, count: int = 64) -> float:
    """The mean square of what quantization changes, on data that were not calibrated on."""
    x = images(count, 1)
    return float(np.square(scores(quantized, x) - scores(graph, x), dtype=np.float64).mean())


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def calibration(graph: Graph) -> sqc.Calibration:
    return sqc.calibrate(graph, [images(64)])


@pytest.mark.parametrize(
    "preset",
    [
        sqc.Recipe(correct_bias=True),
        sqc.Recipe(fit_weights=True),
        sqc.Recipe(round_adaptively=True),
        "accurate",
        "best",
    ],
)
def test_refined_it_is_nearer_to_float(preset: str | sqc.Recipe, graph: Graph, calibration: sqc.Calibration) -> None:
    refined = sqc.quantize(graph, calibration, preset=preset)
    assert error(graph, refined) < error(graph, sqc.quantize(graph, calibration))


def test_equalized_the_weak_channels_are_nearer_to_float(graph: Graph) -> None:
    plain = pipeline.run(pipeline.FLOAT, graph)
    depthwise = plain.ops[2].result
    cut = replace(plain, outputs={"scores": depthwise})
    calibration = sqc.calibrate(cut, [images(64)])
    x = images(64, 1)
    expected = scores(cut, x)

    def share(preset: sqc.Recipe) -> float:
        """What rounding adds, as a share of each channel's own squares."""
        noise = np.square(scores(sqc.quantize(cut, calibration, preset=preset), x) - expected)
        return float((noise.mean(axis=(0, 1, 2)) / np.square(expected).mean(axis=(0, 1, 2))).mean())

    assert share(sqc.Recipe(equalize=True)) < 0.5 * share(sqc.Recipe())


def test_corrected_means_are_those_of_float(graph: Graph, calibration: sqc.Calibration) -> None:
    x = calibration.inputs["image"]
    corrected, plain = (
        np.abs((scores(sqc.quantize(graph, calibration, preset=name), x) - scores(graph, x)).mean(axis=0)).max()
        for name in ("accurate", "fast")
    )
    assert corrected < 0.01 * plain


def test_only_constants_change(graph: Graph, calibration: sqc.Calibration) -> None:
    fast, best = (sqc.quantize(graph, calibration, preset=name) for name in ("fast", "best"))
    shapes = [[(op.kind, op.result.type.shape) for op in quantized.ops] for quantized in (fast, best)]
    assert shapes[0] == shapes[1]


def test_same_samples_in_another_order_give_the_same_graph(graph: Graph, calibration: sqc.Calibration) -> None:
    again = sqc.calibrate(graph, [images(64)[40:], images(64)[:40]])
    assert sqc.quantize(graph, again, preset="best") == sqc.quantize(graph, calibration, preset="best")


def test_compiled_it_is_its_reference(graph: Graph, calibration: sqc.Calibration) -> None:
    x = images(1, 5)
    expected = scores(sqc.quantize(graph, calibration, preset="best"), x)
    np.testing.assert_array_equal(sqc.compile(graph, calibration, preset="best")(x), expected)


def test_a_model_of_fixed_batch() -> None:
    fixed = network(batch=4)
    calibration = sqc.calibrate(fixed, [images(64)])
    fast, best = (sqc.quantize(fixed, calibration, preset=name) for name in ("fast", "best"))
    assert error(fixed, best, 4) < error(fixed, fast, 4)


def test_progress_counts_layers(graph: Graph, calibration: sqc.Calibration) -> None:
    seen: list[tuple[int, int, str]] = []
    sqc.quantize(graph, calibration, preset="best", progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[2] != "calibrating"] == [(i, 4, "refining layers") for i in range(1, 5)]
    seen.clear()
    sqc.compile(graph, calibration, preset="best", progress=lambda *step: seen.append(step))
    assert [*dict.fromkeys(what for _, _, what in seen)] == ["calibrating", "refining layers", "compiling kernels"]


def test_excluded_layers_stay_in_float(graph: Graph, calibration: sqc.Calibration) -> None:
    quantized = sqc.quantize(graph, calibration, preset="best", exclude=["conv2d.1"])
    kinds = [op.kind for op in quantized.ops if op.source == "conv2d.1"]
    assert "conv2d" in kinds
    assert "qconv2d" not in kinds


def test_nothing_to_refine(graph: Graph) -> None:
    layers = [op.source for op in graph.ops if op.kind in ("conv2d", "fully_connected")]
    calibration = sqc.calibrate(graph, [images(64)], exclude=layers)
    fast, best = (sqc.quantize(graph, calibration, preset=name, exclude=layers) for name in ("fast", "best"))
    x = images(2, 1)
    np.testing.assert_allclose(scores(best, x), scores(fast, x), atol=0.1)


def test_what_cannot_be_done(graph: Graph, calibration: sqc.Calibration) -> None:
    with pytest.raises(CompileError, match="there is no preset 'better'; choose fast, accurate, best"):
        sqc.quantize(graph, calibration, preset="better")
    without = sqc.calibrate(graph, [images(8)], keep=0)
    sqc.quantize(graph, without)
    with pytest.raises(CalibrationError, match="keeps none; calibrate again"):
        sqc.quantize(graph, without, preset="accurate")


def test_equalizing_changes_nothing_within_the_ranges_seen(graph: Graph) -> None:
    x = images(64)
    plain = pipeline.run(pipeline.FLOAT, graph)
    equalized = pipeline.run((Equalize(channel_extremes(plain, {"image": x})),), plain)
    expected = scores(plain, x)
    assert equalized != plain
    np.testing.assert_allclose(scores(equalized, x), expected, atol=1e-5 * np.abs(expected).max())


def test_extremes_are_those_of_the_values(graph: Graph) -> None:
    plain = pipeline.run(pipeline.FLOAT, graph)
    (value,) = (op.result for op in plain.ops if op.kind == "clip")
    x = images(6)
    seen = rebatch(replace(plain, outputs={"clip": value}), 6).run({"image": x})["clip"]
    low, high = channel_extremes(plain, {"image": x})[value.name]
    assert link_channels(plain).axes[value] == 3
    np.testing.assert_allclose(low, seen.min(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(high, seen.max(axis=(0, 1, 2)), atol=1e-5)


def test_reestimated_norms_have_the_moments_of_float() -> None:
    random = np.random.default_rng(5)
    builder = Builder("normalized", dynamic_batch=True)

    def constant(array: np.ndarray) -> Value:
        return builder.constant(array.astype(np.float32), "c")

    x = builder.input("image", TensorType((1, *SHAPE), "float32"))
    x = builder.emit("conv2d", [x, constant(random.normal(0, 0.2, (6, 4, 3, 3)))], {"layout": "NHWC"}, name="conv")
    parameters = [constant(random.uniform(0.5, 2, 6)) for _ in range(4)]
    builder.outputs = {"scores": builder.emit("batch_norm", [x, *parameters], {"axis": 3}, name="norm")}
    graph = builder.finish()
    calibration = sqc.calibrate(graph, [images(64)])
    ranges = "l2,weight-bits:3"  # so that rounding weights changes variances
    kept = calibration.inputs["image"]
    expected = scores(graph, kept).std(axis=(0, 1, 2))

    def distance(recipe: sqc.Recipe) -> float:
        found = scores(sqc.quantize(graph, calibration, preset=recipe, ranges=ranges), kept)
        return float(np.abs(found.std(axis=(0, 1, 2)) / expected - 1).max())

    assert distance(sqc.Recipe(reestimate_norms=True)) < 0.005 < distance(sqc.Recipe(correct_bias=True))


def test_pictures_are_brought_to_levels() -> None:
    graph = network()
    bytes = np.random.default_rng(5).integers(0, 256, (64, *SHAPE))
    pictures = ((bytes / 255 - [0.5, 0.4, 0.3, 0.2]) / [0.2, 0.25, 0.3, 0.35]).astype(np.float32)
    calibration = sqc.calibrate(graph, [pictures])
    scaled = sqc.quantize(graph, calibration, preset=sqc.Recipe(scale_inputs=True))
    assert [op.kind for op in scaled.ops[:4]] == ["pad", "mul", "add", "quantize"]
    whole = rebatch(scaled, 64)
    levels = replace(whole, outputs={"levels": whole.ops[3].result}).run({"image": pictures})["levels"]
    np.testing.assert_array_equal(levels[:, 1:-1, 1:-1], bytes)
    compiled = sqc.compile(graph, calibration, preset=sqc.Recipe(scale_inputs=True), require_int8=True)
    np.testing.assert_array_equal(compiled(pictures[:1]), scores(scaled, pictures[:1]))
    exported = sqc.import_onnx(sqc.export_qdq(scaled))
    np.testing.assert_array_equal(scores(sqc.quantize(exported), pictures), scores(scaled, pictures))
    sqc.compile(exported, require_int8=True)
    # What users say of inputs holds.
    ruled = sqc.quantize(graph, calibration, preset=sqc.Recipe(scale_inputs=True), ranges="minmax")
    assert ruled.ops[0].kind == "quantize"
