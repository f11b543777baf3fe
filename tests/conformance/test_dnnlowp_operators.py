"""Every row of ``sqc/OPERATORS.md``: from ONNX to integer kernels that equal their references bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sqc
from sqc.frontend.table import HANDLERS
from sqc.ir import Graph
from sqc.ir.registry import kinds
from sqc.modes import Mode
from tests.conformance.peer import Model

PAGE = Path(sqc.__file__).with_name("OPERATORS.md")


class Example(Model):
    """A small model under construction, of random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.default_rng(len(ROWS))

    def numbers(self, *shape: int) -> np.ndarray:
        return self.random.normal(0, 1, shape).astype(np.float32)

    def x(self, *shape: int) -> str:
        return self.input(self.numbers(*shape))

    def w(self, *shape: int) -> str:
        return self.constant(self.numbers(*shape))

    def one(self, op_type: str, *inputs: str, **attributes: object) -> str:
        return self.node(op_type, *inputs, **attributes)[0]

    def read(self, x: str, channels: int) -> str:
        """A convolution that reads an image as levels."""
        return self.one("Conv", x, self.w(3, channels, 1, 1))

    def shape(self, *extents: int) -> str:
        return self.constant(extents, "int64")


def _batch_norm(m: Example) -> str:
    pooled = m.one("MaxPool", m.x(1, 4, 8, 8), kernel_shape=[2, 2])
    variance = m.constant(np.abs(m.numbers(4)) + 0.5)
    return m.read(m.one("Relu", m.one("BatchNormalization", pooled, m.w(4), m.w(4), m.w(4), variance)), 4)


def _elementwise_linear(m: Example) -> str:
    y = m.one("Add", m.one("Mul", m.x(5, 8), m.w(8)), m.w(8))
    return m.one("Gemm", m.one("Relu", y), m.w(8, 3))


def _shuffle(m: Example) -> str:
    split = m.one("Reshape", m.x(1, 4, 6, 6), m.shape(1, 2, 2, 6, 6))
    return m.read(m.one("Reshape", m.one("Transpose", split, perm=[0, 2, 1, 3, 4]), m.shape(1, 4, 6, 6)), 4)


def _equalized(m: Example) -> str:
    x = m.x(6, 8)
    total = m.one("Add", m.one("Gemm", x, m.w(8, 8)), x)
    return m.one("Gemm", m.one("LayerNormalization", total, m.w(8), m.w(8), axis=-1), m.w(8, 3))


def _rounded(m: Example) -> str:
    scale, zero_point = m.constant(0.03), m.constant(120, "uint8")
    return m.one("DequantizeLinear", m.one("QuantizeLinear", m.x(5, 8), scale, zero_point), scale, zero_point)


def _group_norm(m: Example) -> str:
    return m.read(m.one("GroupNormalization", m.x(1, 4, 6, 6), m.w(4), m.w(4), num_groups=2), 4)


def _dense(m: Example) -> str:
    return m.one("Gemm", m.x(5, 8), m.w(8, 6), m.w(6))


def _resized(m: Example) -> str:
    return m.read(m.one("Resize", m.x(1, 4, 4, 4), "", m.constant([1, 1, 2, 2]), mode="nearest"), 4)


def _resized_3d(m: Example) -> str:
    y = m.one("Resize", m.x(1, 4, 3, 4, 4), "", m.constant([1, 1, 2, 2, 2]), mode="nearest")
    return m.one("Conv", y, m.w(3, 4, 1, 1, 1))


MODES: dict[str, Mode] = {
    "FC with ranges at run time (dequantize_output)": "dynamic",
    "GenQuantParams, GenQuantParamsMinMax": "dynamic",
    "FbFCPacked": "weights-float16",
}

EXAMPLES: dict[str, Callable[[Example], str]] = {
    "Conv, ConvRelu, 1-D": lambda m: m.one("Relu", m.one("Conv", m.x(2, 4, 9), m.w(6, 4, 3), m.w(6))),
    "Conv, ConvRelu, 2-D": lambda m: m.read(
        m.one("Relu", m.one("Conv", m.x(2, 4, 7, 9), m.w(6, 2, 3, 3), m.w(6), group=2, pads=[1, 0, 1, 2])), 6
    ),
    "Conv, ConvRelu, 3-D": lambda m: m.one("Relu", m.one("Conv", m.x(1, 4, 5, 6, 7), m.w(6, 4, 3, 3, 3))),
    "FC, FCRelu, DNNLOWP_ROWWISE": lambda m: m.one("Gemm", m.one("Relu", _dense(m)), m.w(6, 3)),
    "FC with ranges at run time (dequantize_output)": _dense,
    "BatchMatMul": lambda m: m.one("MatMul", m.x(3, 5, 8), m.x(3, 8, 4)),
    "BatchMatMul, constant_B": lambda m: m.one("MatMul", m.x(3, 5, 8), m.w(3, 8, 4)),
    "Sum, SumRelu": lambda m: m.one("Relu", m.one("Sum", m.x(2, 8), m.x(2, 8), m.x(2, 8))),
    "Add": lambda m: m.one("Add", m.x(2, 3, 8), m.x(1, 3, 1)),
    "Mul": lambda m: m.one("Mul", m.x(2, 3, 8), m.x(1, 3, 1)),
    "ElementwiseLinear": _elementwise_linear,
    "AveragePool": lambda m: m.read(m.one("AveragePool", m.x(1, 4, 8, 8), kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 4),
    "MaxPool": lambda m: m.read(m.one("MaxPool", m.x(1, 4, 8, 8), kernel_shape=[3, 3], strides=[2, 2]), 4),
    "Relu": lambda m: m.read(m.one("Relu", m.x(1, 4, 8, 8)), 4),
    "Tanh": lambda m: m.read(m.one("Tanh", m.x(1, 4, 8, 8)), 4),
    "Sigmoid": lambda m: m.read(m.one("Sigmoid", m.x(1, 4, 8, 8)), 4),
    "LSTMUnit": lambda m: m.node("LSTM", m.x(3, 2, 5), m.w(1, 16, 5), m.w(1, 16, 4), hidden_size=4, outputs=2)[0],
    "GroupNorm": _group_norm,
    "SpatialBN, SpatialBNRelu": _batch_norm,
    "Concat": lambda m: m.read(m.one("Concat", m.x(1, 4, 6, 6), m.x(1, 3, 6, 6), axis=1), 7),
    "ChannelShuffle": _shuffle,
    "BatchPermutation, Gather": lambda m: m.read(m.one("Gather", m.x(3, 4, 6, 6), m.shape(2, 0, 1), axis=0), 4),
    "ResizeNearest": _resized,
    "ResizeNearest3D": _resized_3d,
    "Quantize, Dequantize": _rounded,
    "GenQuantParams, GenQuantParamsMinMax": _dense,
    "ComputeEqualizationScale, FusedEqualizeInt8Quantize": _equalized,
    "FbFCPacked": _dense,
}


def _rows() -> dict[str, tuple[list[str], set[str]]]:
    """The page's table: the operators and the kinds of each row."""
    lines = [line.strip("|\n").split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return {name.strip(): (re.findall(r"\w+", onnx), set(re.findall(r"`(\w+)`", own))) for name, onnx, own in lines[2:]}


ROWS = _rows()


def quantized(name: str, example: Example, result: str) -> Graph:
    graph = sqc.import_onnx(example.proto([result]))
    mode = MODES.get(name, "static")
    if name == "Quantize, Dequantize":
        return sqc.quantize(graph)
    return sqc.quantize(graph, sqc.calibrate(graph, [example.inputs]) if mode == "static" else None, mode=mode)


def test_every_row_has_an_example() -> None:
    assert list(ROWS) == list(EXAMPLES)


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str) -> None:
    operators, wanted = ROWS[name]
    assert set(operators) <= HANDLERS.keys()
    assert wanted <= set(kinds())
    example = Example()
    graph = quantized(name, example, EXAMPLES[name](example))
    assert wanted <= {op.kind for op in graph.ops}
    compiled = sqc.compile(graph).run(example.inputs)
    for output, expected in graph.run(example.inputs).items():
        if "normalize" in wanted or "fully_connected" in wanted:  # in float
            np.testing.assert_allclose(compiled[output], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(compiled[output], expected)
