"""Dynamic quantization of whole models."""

from __future__ import annotations

import numpy as np
import pytest

import sqc
from sqc.errors import CompileError
from sqc.ir import Builder, Graph, TensorType, Value, rebatch
from tests.targets import TARGETS


def layers(rows: int = 4) -> Graph:
    random = np.random.default_rng(0)
    builder = Builder("layers", dynamic_batch=True)
    x = builder.input("x", TensorType((rows, 24), "float32"))
    for i, (depth, columns) in enumerate([(24, 40), (40, 8)]):
        w = builder.constant(random.normal(0, depth**-0.5, (columns, depth)).astype(np.float32), f"w{i}")
        b = builder.constant(random.normal(0, 1, columns).astype(np.float32), f"b{i}")
        x = builder.emit("fully_connected", [x, w, b], name=f"y{i}", source=f"layer{i}")
        x = builder.emit("relu", [x], name=f"r{i}", source=f"relu{i}")
    builder.outputs = {"y": x}
    return builder.finish()


def convolutions() -> Graph:
    """Dense, depthwise, grouped, strided, padded and pointwise ones, some of which share their input."""
    random = np.random.default_rng(0)
    builder = Builder("convolutions", dynamic_batch=True)

    def conv(x: Value, outputs: int, depth: int, kernel: int, **attributes: object) -> Value:
        deviation = (depth * kernel**2) ** -0.5
        w = random.normal(0, deviation, (outputs, depth, kernel, kernel)).astype(np.float32)
        b = random.normal(0, 1, outputs).astype(np.float32)
        operands = [x, builder.constant(w, "w"), builder.constant(b, "b")]
        return builder.emit("conv2d", operands, {"layout": "NCHW", **attributes}, name="y")

    x = builder.input("x", TensorType((1, 3, 14, 15), "float32"))
    x = builder.emit("relu", [conv(x, 20, 3, 3, pads=(1, 1, 1, 1), strides=(2, 2))], name="r")
    wide = conv(x, 20, 1, 3, groups=20, pads=(1, 0, 1, 2))
    grouped = conv(x, 16, 10, 3, groups=2, pads=(1, 0, 1, 2))
    branches = [conv(wide, 32, 20, 1), conv(x, 32, 20, 1), conv(grouped, 32, 16, 5, pads=(2, 2, 2, 2))]
    total = builder.emit("add", branches[:2], name="sum")
    builder.outputs = {"y": builder.emit("add", [total, branches[2]], name="sum")}
    return builder.finish()


def images(count: int) -> np.ndarray:
    random = np.random.default_rng(1)
    sizes = random.uniform(0.1, 9, (count, 1, 1, 1))
    return (random.normal(size=(count, 3, 14, 15)) * sizes).astype(np.float32)


def rows(count: int) -> np.ndarray:
    random = np.random.default_rng(1)
    return (random.normal(size=(count, 24)) * random.uniform(0.1, 9, (count, 1))).astype(np.float32)


@pytest.mark.parametrize("mode", ["dynamic", "dynamic-tensor"])
def test_close_to_float(mode: str) -> None:
    graph, x = layers(), rows(4)
    quantized = sqc.quantize(graph, mode=mode)  # type: ignore[arg-type]
    expected = graph.run({"x": x})["y"]
    errors = np.abs(quantized.run({"x": x})["y"] - expected).mean() / np.abs(expected).mean()
    assert errors < (0.01 if mode == "dynamic" else 0.02)


@pytest.mark.parametrize("target", TARGETS)
def test_compiled(target: str) -> None:
    graph, x = layers(), rows(4)
    model = sqc.compile(graph, mode="dynamic", target=target, batch=4)
    np.testing.assert_array_equal(model(x), sqc.quantize(graph, mode="dynamic").run({"x": x})["y"])


def test_a_row_is_alone_in_its_batch() -> None:
    x = rows(5)
    model = sqc.compile(layers(), mode="dynamic", batch=(1, 5))
    together = model(x)
    x[1:] *= 100
    np.testing.assert_array_equal(model(x)[0], together[0])
    np.testing.assert_array_equal(model(x[:1])[0], together[0])


@pytest.mark.parametrize("mode", ["dynamic", "dynamic-tensor"])
def test_convolutions_are_close_to_float(mode: str) -> None:
    graph, x = rebatch(convolutions(), 3), images(3)
    quantized = sqc.quantize(graph, mode=mode)  # type: ignore[arg-type]
    assert sum(op.kind == "qconv2d" for op in quantized.ops) == 6
    expected = graph.run({"x": x})["y"]
    errors = np.abs(quantized.run({"x": x})["y"] - expected).mean() / np.abs(expected).mean()
    assert errors < (0.015 if mode == "dynamic" else 0.03)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", ["dynamic", "dynamic-tensor"])
def test_compiled_convolutions(target: str, mode: str) -> None:
    graph, x = rebatch(convolutions(), 3), images(3)
    model = sqc.compile(graph, mode=mode, target=target, batch=3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(model(x), sqc.quantize(graph, mode=mode).run({"x": x})["y"])  # type: ignore[arg-type]


def test_an_image_is_alone_in_its_batch() -> None:
    x = images(3)
    model = sqc.compile(convolutions(), mode="dynamic", batch=(1, 3))
    together = model(x)
    x[1:] *= 100
    np.testing.assert_array_equal(model(x)[0], together[0])
    np.testing.assert_array_equal(model(x[:1])[0], together[0])


def test_excluded_layers_stay_in_float() -> None:
    quantized = sqc.quantize(layers(), mode="dynamic", exclude=["layer1"])
    assert [op.kind for op in quantized.ops if "fully_connected" in op.kind] == ["qfully_connected", "fully_connected"]


def test_misuse() -> None:
    graph = layers()
    with pytest.raises(CompileError, match="unknown mode 'nothing'; known: static, dynamic"):
        sqc.quantize(graph, mode="nothing")  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="takes a float model and no calibration"):
        sqc.quantize(sqc.quantize(graph, mode="dynamic"), mode="dynamic")


@pytest.mark.parametrize(("mode", "error"), [("weights-int8", 0.01), ("weights-int4", 0.1), ("weights-float16", 1e-3)])
def test_small_weights(mode: str, error: float) -> None:
    graph, x = layers(), rows(4)
    stored = sqc.quantize(graph, mode=mode)  # type: ignore[arg-type]
    expected = stored.run({"x": x})["y"]
    assert 0 < np.abs(expected - graph.run({"x": x})["y"]).mean() < error * np.abs(expected).mean()
    model = sqc.compile(graph, mode=mode, batch=4)  # type: ignore[arg-type]
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-4)
    again = sqc.compile(stored, batch=4)
    np.testing.assert_array_equal(again(x), model(x))
    assert len(again.plan.constants) == len(model.plan.constants)
    assert len(model.plan.constants) < 0.6 * len(sqc.compile(graph, batch=4).plan.constants)
