"""The promise on single layers whose shape, padding and numbers hypothesis draws, and shrinks where they fail."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.ir import Builder, Graph, Quantization, TensorType, Value
from tests.promise.comparing import mismatches
from tests.promise.kernels import TARGETS

few = settings(max_examples=12, deadline=None, derandomize=True, database=None)

extents = st.integers(1, 12)
channels = st.integers(1, 130)
zero_points = st.sampled_from([0, 255, 128]) | st.integers(0, 255)
multipliers = st.floats(2.0**-20, 128.0, width=32)
seeds = st.integers(0, 2**16)
targets = st.sampled_from(TARGETS)


@st.composite
def windows(draw: st.DrawFn, height: int, width: int) -> dict[str, Any]:
    """A window that fits an image, with any strides, padding and dilation."""
    window: dict[str, Any] = {"kernel": (), "strides": (), "dilations": (), "pads": (), "layout": "NHWC"}
    before, after = [], []
    for extent in (height, width):
        kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        span = (kernel - 1) * dilation + 1
        before.append(draw(st.integers(0, span - 1)))
        after.append(draw(st.integers(max(0, span - extent - before[-1]), span)))
        window["kernel"] += (kernel,)
        window["dilations"] += (dilation,)
        window["strides"] += (draw(st.integers(1, 3)),)
    window["pads"] = (*before, *after)
    return window


class Layer:
    """A graph of one layer over u8 inputs, with random constants."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = Builder("layer")

    def activation(self, shape: tuple[int, ...], zero_point: int) -> Value:
        quantization = Quantization.per_tensor(0.5, zero_point)
        return self.builder.input(f"x{len(self.builder.inputs)}", TensorType(shape, "uint8", quantization))

    def constant(self, array: np.ndarray) -> Value:
        return self.builder.constant(array, "c")

    def emit(self, kind: str, *operands: Value, **attributes: Any) -> Value:
        return self.builder.emit(kind, operands, attributes, name="y")

    def linear(self, kind: str, x: Value, shape: tuple[int, ...], **attributes: Any) -> Value:
        w = self.constant(self.random.integers(-128, 128, shape).astype(np.int8))
        b = self.constant(self.random.integers(-(2**20), 2**20, shape[0]).astype(np.int32))
        return self.emit(kind, x, w, b, **attributes)

    def requantize(self, terms: list[Value], factors: list[float], zero_point: int, clamp: tuple[int, int]) -> Value:
        constants = [self.constant(np.array(m, np.float32)) for m in factors]
        lo, hi = sorted(clamp)
        return self.emit("requantize", *terms, *constants, scale=0.25, zero_point=zero_point, lo=lo, hi=hi)

    def differs(self, result: Value, target: str) -> list[str]:
        self.builder.outputs = {"y": result}
        graph: Graph = self.builder.finish()
        arrays = {x.name: self.random.integers(0, 256, x.type.shape).astype(np.uint8) for x in graph.inputs}
        return mismatches(graph, arrays, target)


clamps = st.just((0, 255)) | st.tuples(st.integers(0, 255), st.integers(0, 255))


@few
@given(st.data(), extents, extents, channels, channels, zero_points, zero_points, multipliers, clamps, seeds, targets)
def test_convolution(
    data: st.DataObject,
    height: int,
    width: int,
    depth: int,
    outputs: int,
    z_x: int,
    z_y: int,
    multiplier: float,
    clamp: tuple[int, int],
    seed: int,
    target: str,
) -> None:
    window = data.draw(windows(height, width))
    groups = data.draw(st.sampled_from([g for g in range(1, depth + 1) if depth % g == 0]))
    outputs = -(-outputs // groups) * groups
    layer = Layer(seed)
    x = layer.activation((1, height, width, depth), z_x)
    kernel = window.pop("kernel")
    acc = layer.linear("qconv2d", x, (outputs, depth // groups, *kernel), groups=groups, **window)
    terms, factors = [acc], [multiplier / 1000]
    if data.draw(st.booleans()):
        terms.append(layer.activation(acc.type.shape, data.draw(zero_points)))
        factors.append(data.draw(multipliers))
    assert layer.differs(layer.requantize(terms, factors, z_y, clamp), target) == []


@few
@given(st.integers(1, 9), st.integers(1, 300), channels, zero_points, multipliers, clamps, seeds, targets)
def test_fully_connected(
    rows: int, depth: int, outputs: int, z: int, multiplier: float, clamp: tuple[int, int], seed: int, target: str
) -> None:
    layer = Layer(seed)
    acc = layer.linear("qfully_connected", layer.activation((rows, depth), z), (outputs, depth))
    assert layer.differs(layer.requantize([acc], [multiplier / 1000], 255 - z, clamp), target) == []


@few
@given(st.data(), st.sampled_from(["max_pool", "qsum_pool"]), extents, extents, channels, zero_points, seeds, targets)
def test_pool(
    data: st.DataObject, kind: str, height: int, width: int, depth: int, z: int, seed: int, target: str
) -> None:
    layer = Layer(seed)
    y = layer.emit(kind, layer.activation((1, height, width, depth), z), **data.draw(windows(height, width)))
    if kind == "qsum_pool":
        y = layer.requantize([y], [0.1], z, (0, 255))
    assert layer.differs(y, target) == []


@few
@given(
    st.lists(st.tuples(zero_points, multipliers), min_size=1, max_size=4),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    zero_points,
    clamps,
    seeds,
    targets,
)
def test_sums(
    terms: list[tuple[int, float]], shape: list[int], z: int, clamp: tuple[int, int], seed: int, target: str
) -> None:
    layer = Layer(seed)
    values = [layer.activation(tuple(shape), zero_point) for zero_point, _ in terms]
    y = layer.requantize(values, [multiplier for _, multiplier in terms], z, clamp)
    assert layer.differs(y, target) == []


@few
@given(st.lists(channels, min_size=1, max_size=4), st.integers(0, 2), extents, zero_points, seeds, targets)
def test_concat(sizes: list[int], axis: int, extent: int, z: int, seed: int, target: str) -> None:
    layer = Layer(seed)
    shapes = [tuple(size if i == axis else extent for i in range(3)) for size in sizes]
    y = layer.emit("concat", *(layer.activation(shape, z) for shape in shapes), axis=axis)
    assert layer.differs(y, target) == []
