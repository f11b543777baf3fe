"""Small networks whose layers do different things, and their data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import sqc
from sqc.calibration import Calibration
from sqc.ir import Builder, Graph, TensorType, Value
from sqc.passes import pipeline


@dataclass(frozen=True)
class Case:
    """A float network after its passes, quantized, with data."""

    graph: Graph
    calibration: Calibration
    quantized: Graph
    inputs: np.ndarray


def network(seed: int) -> Graph:
    """Convolutions, one of them depthwise, a residual sum, a concatenation, hard-swish, a pool, classes, softmax."""
    random = np.random.default_rng(seed)
    builder = Builder("small", dynamic_batch=True)
    x = builder.input("x", TensorType((1, 3, 8, 8), "float32"))

    def conv(value: Value, outputs: int, kernel: int, name: str, depthwise: bool = False) -> Value:
        channels = value.type.shape[1]
        groups = channels if depthwise else 1
        shape = (outputs, channels // groups, kernel, kernel)
        weights = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        bias = random.normal(0, 0.2, outputs).astype(np.float32)
        operands = [value, builder.constant(weights, f"{name}_w"), builder.constant(bias, f"{name}_b")]
        attributes = {"pads": (kernel // 2,) * 4, "groups": groups, "layout": "NCHW"}
        return builder.emit("conv2d", operands, attributes, name=f"{name}_y", source=name)

    def then(kind: str, *operands: Value, name: str, **attributes: object) -> Value:
        return builder.emit(kind, operands, attributes, name=f"{name}_y", source=name)

    stem = then("relu", conv(x, 8, 3, "stem"), name="stem_relu")
    deep = then("hard_swish", conv(stem, 8, 3, "depthwise", True), name="swish")
    both = then("add", conv(deep, 8, 1, "project"), stem, name="sum")
    left = then("relu", conv(both, 6, 1, "left"), name="left_relu")
    right = then("relu", conv(both, 6, 3, "right"), name="right_relu")
    joined = then("concat", left, right, name="join", axis=1)
    last = then("relu", conv(joined, 16, 1, "last"), name="last_relu")
    pooled = then("reduce_mean", last, name="pool", axes=(2, 3), keepdims=False)
    weights = builder.constant(random.normal(0, 0.5, (5, 16)).astype(np.float32), "classes_w")
    scores = then("fully_connected", pooled, weights, name="classes")
    builder.outputs = {"y": then("softmax", scores, name="softmax", axis=1)}
    return builder.finish()


def case(seed: int) -> Case:
    graph = pipeline.run(pipeline.FLOAT, network(seed))
    inputs = np.random.default_rng(seed + 100).normal(size=(48, 3, 8, 8)).astype(np.float32)
    calibration = sqc.calibrate(graph, [inputs[:24]])
    return Case(graph, calibration, sqc.quantize(graph, calibration), inputs[24:])


@pytest.fixture(scope="session", params=range(3))
def small(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


@pytest.fixture(scope="session")
def first() -> Case:
    return case(0)
