"""The ranges over which DNNLOWP's own tests draw, and its bound: 0.53 steps of the result between int8 and float.

Operands are integers with a scale of 1, so that only kernels add to the rounding of the result: half a step, and what
float32 adds. Of group normalization it is two steps, as there. Some of the examples are compiled, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

import sqc
from sqc.calibration import choose_qparams
from sqc.ir import same_bits
from tests.conformance.peer import Model

STEPS = 0.53
EXAMPLES = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**31)


def whole(random: np.random.Generator, shape: tuple[int, ...], low: int) -> np.ndarray:
    """Integers of 256 values from ``low`` on, both ends among them."""
    x = random.integers(low, low + 256, shape).astype(np.float32)
    x.reshape(-1)[0], x.reshape(-1)[-1] = low, low + 255
    return x


def levels(model: Model, x: str, low: int) -> str:
    """Rounded to levels with a scale of 1 that start at ``low``."""
    return _through(model, x, 1.0, -low)


def _through(model: Model, x: str, scale: float, zero_point: int) -> str:
    parameters = [model.constant(scale), model.constant(zero_point, "uint8")]
    return model.node("DequantizeLinear", model.node("QuantizeLinear", x, *parameters)[0], *parameters)[0]


def integers(model: Model, w: np.ndarray, low: int) -> str:
    """Weights of 256 values from ``low`` on: u8 with a zero point, or s8 where it is -128."""
    dtype, zero_point = ("int8", 0) if low == -128 else ("uint8", -low)
    stored = model.constant(w + zero_point, dtype)
    return model.node("DequantizeLinear", stored, model.constant(1.0), model.constant(zero_point, dtype))[0]


def bias(model: Model, random: np.random.Generator, size: int) -> str:
    stored = model.constant(random.integers(-1000, 1000, size), "int32")
    return model.node("DequantizeLinear", stored, model.constant(1.0))[0]


def check(model: Model, y: str, steps: float = STEPS, symmetric: bool = False) -> None:
    """The result rounded over the range that it has in float is within so many of its steps of float."""
    (expected,) = ReferenceEvaluator(model.proto([y])).run(None, model.inputs)
    low, high = min(0.0, float(expected.min())), max(0.0, float(expected.max()))
    scale, zero_point = choose_qparams(low, high, symmetric=symmetric)
    quantized = sqc.quantize(sqc.import_onnx(model.proto([_through(model, y, scale, zero_point)])))
    (actual,) = quantized.run(model.inputs).values()
    if int(abs(low) + high) % 5 == 0:
        (compiled,) = sqc.compile(quantized).run(model.inputs).values()
        assert same_bits(compiled, actual)
    step = (2 * max(-low, high) if symmetric and low < 0 < high else high - low) / 255
    np.testing.assert_allclose(actual, expected, rtol=0, atol=steps * step + 1e-30)


@EXAMPLES
@given(
    stride=st.integers(1, 2), pad=st.integers(0, 2), kernel=st.integers(1, 5), dilation=st.integers(1, 2),
    size=st.integers(10, 16), groups=st.integers(1, 4), inputs=st.sampled_from([2, 3, 4, 8, 16, 32]),
    outputs=st.integers(2, 16), batch=st.integers(1, 3), symmetric=st.booleans(), relu=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_convolutions(
    stride: int, pad: int, kernel: int, dilation: int, size: int, groups: int, inputs: int, outputs: int, batch: int,
    symmetric: bool, relu: bool, seed: int,
) -> None:  # fmt: skip
    random, model = np.random.default_rng(seed), Model()
    low = 0 if symmetric else -77
    x = whole(random, (batch, groups * inputs, size, size), low)
    x[:, 0] = low  # as there: the first channel holds nothing else
    x.reshape(-1)[-1] = low + 255
    least = -128 if symmetric else -100
    w = whole(random, (groups * outputs, inputs, kernel, kernel), least)
    attributes: dict[str, Any] = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2}
    operands = levels(model, model.input(x), low), integers(model, w, least), bias(model, random, groups * outputs)
    y = model.node("Conv", *operands, group=groups, **attributes)[0]
    check(model, model.node("Relu", y)[0] if relu else y, symmetric=symmetric)


@EXAMPLES
@given(
    rows=st.integers(1, 8), depth=st.integers(4, 64), columns=st.integers(1, 32), symmetric=st.booleans(),
    relu=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_fully_connected(rows: int, depth: int, columns: int, symmetric: bool, relu: bool, seed: int) -> None:
    random, model = np.random.default_rng(seed), Model()
    low, least = (0, -128) if symmetric else (-77, -100)
    operands = (
        levels(model, model.input(whole(random, (rows, depth), low)), low),
        integers(model, whole(random, (depth, columns), least), least),
    )
    y = model.node("Gemm", *operands, bias(model, random, columns))[0]
    check(model, model.node("Relu", y)[0] if relu else y, symmetric=symmetric)


@EXAMPLES
@given(batch=st.integers(1, 3), m=st.integers(2, 16), k=st.integers(2, 32), n=st.integers(2, 16), seed=SEEDS)
def test_batch_matmul(batch: int, m: int, k: int, n: int, seed: int) -> None:
    random, model = np.random.default_rng(seed), Model()
    a, b = whole(random, (batch, m, k), -77), whole(random, (batch, k, n), -100)
    check(model, model.node("MatMul", levels(model, model.input(a), -77), levels(model, model.input(b), -100))[0])


@EXAMPLES
@given(
    terms=st.integers(2, 5),
    size=st.integers(4, 256),
    relu=st.booleans(),
    kind=st.sampled_from(["Sum", "Mul"]),
    seed=SEEDS,
)
def test_elementwise(terms: int, size: int, relu: bool, kind: str, seed: int) -> None:
    random, model = np.random.default_rng(seed), Model()
    lows = [-77, -100, 0, -255, -128][: terms if kind == "Sum" else 2]
    operands = [levels(model, model.input(whole(random, (2, size), low)), low) for low in lows]
    y = model.node(kind, *operands)[0]
    check(model, model.node("Relu", y)[0] if relu else y)


@EXAMPLES
@given(
    stride=st.integers(1, 3), pad=st.integers(0, 3), kernel=st.integers(1, 5), size=st.integers(10, 16),
    channels=st.integers(1, 32), batch=st.integers(1, 3), kind=st.sampled_from(["AveragePool", "MaxPool"]), seed=SEEDS,
)  # fmt: skip
def test_pools(stride: int, pad: int, kernel: int, size: int, channels: int, batch: int, kind: str, seed: int) -> None:
    random, model = np.random.default_rng(seed), Model()
    pad = min(pad, kernel - 1)
    x = levels(model, model.input(whole(random, (batch, channels, size, size), -77)), -77)
    check(model, model.node(kind, x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)[0])


@EXAMPLES
@given(groups=st.integers(1, 4), width=st.integers(2, 8), size=st.integers(4, 12), batch=st.integers(1, 3), seed=SEEDS)
def test_group_normalization(groups: int, width: int, size: int, batch: int, seed: int) -> None:
    random, model = np.random.default_rng(seed), Model()
    x = levels(model, model.input(whole(random, (batch, groups * width, size, size), -77)), -77)
    parameters = [model.constant(random.uniform(-2, 2, groups * width)) for _ in range(2)]
    check(model, model.node("GroupNormalization", x, *parameters, num_groups=groups)[0], steps=2.0)


@EXAMPLES
@given(kind=st.sampled_from(["Tanh", "Sigmoid"]), size=st.integers(10, 300), seed=SEEDS)
def test_functions(kind: str, size: int, seed: int) -> None:
    """Within 0.02, as there; here the whole error is that of the result's rounding."""
    random, model = np.random.default_rng(seed), Model()
    x = _through(model, model.input(random.uniform(-4, 4, (2, size)).astype(np.float32)), 8 / 255, 128)
    check(model, model.node(kind, x)[0])
