"""Adaptive rounding of whole graphs: smaller errors than nearest levels, the same levels each time, exact kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sqc
from sqc.errors import CalibrationError, CompileError
from sqc.ir import Builder, Graph, TensorType, Value, rebatch, same_bits
from sqc.passes import pipeline
from sqc.passes.quantize_weights import RoundedLayer
from sqc.weight_rounding import round_weights

QPARAMS = {"x": (6 / 255, 128), "dense": (12 / 255, 0), "depthwise": (24 / 255, 128), "grouped": (24 / 255, 128)}


def network() -> Graph:
    """A dense, a depthwise and a grouped convolution, and a fully connected layer without a bias."""
    random = np.random.default_rng(5)
    builder = Builder("network", dynamic_batch=True)

    def weights(*shape: int) -> Value:
        array = random.normal(0, float(np.prod(shape[1:])) ** -0.5, shape).astype(np.float32)
        return builder.constant(array, f"w{len(builder.constants)}")

    def conv(x: Value, name: str, *shape: int, groups: int = 1) -> Value:
        bias = builder.constant(np.linspace(-1, 1, shape[0], dtype=np.float32), f"{name}.b")
        attributes = {"layout": "NHWC", "groups": groups, "pads": (1, 1, 1, 1)}
        return builder.emit("conv2d", [x, weights(*shape), bias], attributes, name=name, source=name)

    x = builder.input("x", TensorType((1, 6, 6, 4), "float32"))
    dense = builder.emit("relu", [conv(x, "first", 8, 4, 3, 3)], name="dense", source="dense")
    depthwise = conv(dense, "depthwise", 8, 1, 3, 3, groups=8)
    grouped = conv(depthwise, "grouped", 8, 4, 3, 3, groups=2)
    flat = builder.emit("reshape", [grouped], {"shape": (-1, 8 * 36)}, name="flat")
    builder.outputs = {"y": builder.emit("fully_connected", [flat, weights(5, 8 * 36)], name="fc", source="fc")}
    return builder.finish()


def images(count: int, seed: int) -> np.ndarray:
    """Neighbouring pixels resemble each other."""
    noise = np.random.default_rng(seed).standard_normal((count, 8, 8, 4)).astype(np.float32)
    return np.ascontiguousarray(sum(noise[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)) / 3)


def quantized(graph: Graph, ranges: str, rounded: dict[str, RoundedLayer]) -> Graph:
    return pipeline.run(pipeline.quantization(QPARAMS, ranges=ranges, rounded=rounded), graph)


@pytest.mark.parametrize("bits", [5, 4, 3])  # with more, the activations' rounding hides that of the weights here
def test_outputs_change_less(bits: int) -> None:
    graph, ranges = network(), f"minmax,weight-bits:{bits}"
    rounded = round_weights(graph, QPARAMS, {"x": images(64, 0)}, ranges=ranges)
    assert list(rounded) == ["first", "depthwise", "grouped", "fc"]
    limit = 2 ** (bits - 1) - 1
    assert all(np.abs(np.asarray(layer.levels)).max() <= limit for layer in rounded.values())
    sample = {"x": images(64, 1)}
    expected = rebatch(graph, 64).run(sample)["y"]
    nearest, adaptive = (
        float(np.square(rebatch(quantized(graph, ranges, layers), 64).run(sample)["y"] - expected).mean())
        for layers in ({}, rounded)
    )
    assert adaptive < 0.8 * nearest


def test_equal_samples_give_equal_levels() -> None:
    first, again = (round_weights(network(), QPARAMS, {"x": images(16, 0)}) for _ in range(2))
    for name, layer in first.items():
        assert all(same_bits(np.asarray(a), np.asarray(b)) for a, b in zip(layer, again[name], strict=True))


def test_the_compiled_model_equals_the_reference() -> None:
    rounded = round_weights(network(), QPARAMS, {"x": images(16, 0)}, ranges="minmax,weight-bits:4")
    integer = quantized(network(), "minmax,weight-bits:4", rounded)
    sample = {"x": images(1, 1)}
    assert same_bits(sqc.compile(integer).run(sample)["y"], integer.run(sample)["y"])


@pytest.mark.parametrize("sharing", ["weight-sharing:tensor", "weight-power-of-two"])
def test_scales_that_are_shared_or_powers_of_two_stay(sharing: str) -> None:
    ranges = f"minmax,{sharing}"
    rounded = round_weights(network(), QPARAMS, {"x": images(16, 0)}, ranges=ranges)
    plain = quantized(network(), ranges, {})
    for op in plain.ops:
        if op.kind in ("qconv2d", "qfully_connected"):
            quantization = op.operands[1].type.quantization
            assert quantization is not None
            assert tuple(np.asarray(rounded[op.source].scales).tolist()) == quantization.scale


def test_excluded_layers_are_left_alone() -> None:
    rounded = round_weights(network(), QPARAMS, {"x": images(4, 0)}, exclude={"grouped"})
    assert "grouped" not in rounded


def test_biases_that_fill_the_accumulator_stay_within_it() -> None:
    graph = network()
    biases = {value: np.full(value.type.shape, 1e6, np.float32) for value in graph.constants if ".b" in value.name}
    weights = {v: (a * 1e-6).astype(np.float32) for v, a in graph.constants.items() if v not in biases}
    graph = replace(graph, constants={**graph.constants, **weights, **biases})
    quantized(graph, "minmax", round_weights(graph, QPARAMS, {"x": images(8, 0)}))


def test_no_samples() -> None:
    with pytest.raises(CalibrationError, match="needs samples of the inputs"):
        round_weights(network(), QPARAMS, {"x": images(0, 0)})


def test_layers_of_another_graph_are_refused() -> None:
    rounded = round_weights(network(), QPARAMS, {"x": images(4, 0)})
    with pytest.raises(
        CompileError, match=r"conv2d 'first': a layer rounded beforehand needs levels .* \[8, 4, 3, 3\]"
    ):
        quantized(network(), "minmax", {"first": rounded["grouped"]._replace(levels=np.zeros((8, 4, 1, 1)))})
