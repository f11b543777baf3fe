"""Every operator of ``sqc/OPERATORS.md`` by itself, at sizes of servers, beside ONNX Runtime and OpenVINO.

    python examples/operators.py [--operators 'MaxPool;Add'] [--threads 1] [--json results.json] [--only-sqc]

Each is a model of its own in ONNX's QDQ form, which all engines get: uint8 inputs and outputs, so that nothing but the
operator is timed. Engines whose kernels of it compute in float convert there and back; what an engine cannot load has
no figure. Prints a table in Markdown. Needs ``pip install 'sqc[bench]'``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from results import Results, Row, markdown
from speed import TITLES, geometric_mean, times_faster

import sqc
from sqc.bench.compare import OWN, SAMPLES, Rival, compare
from sqc.bench.peers import PEERS, load_peer

SECTION = "operators"
KEY = ("operator", "threads")
X_SCALE, X_ZERO_POINT = 0.02, 128
W_SCALE = 0.004
LEVELS = 73.9
"""Standard deviation of uniformly distributed bytes."""


@dataclass
class Qdq:
    """A model under construction, whose values are float between DequantizeLinear and QuantizeLinear."""

    nodes: list[NodeProto] = field(default_factory=list)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def constant(self, array: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def x(self, *shape: int) -> str:
        """A uint8 input, dequantized."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        return self.node("DequantizeLinear", name, self.constant(X_SCALE), self.constant(X_ZERO_POINT, "uint8"))

    def w(self, *shape: int, axis: int = 0) -> str:
        """Random int8 weights with a scale for each index along ``axis``, dequantized."""
        levels = self.constant(self.random.integers(-127, 128, shape), "int8")
        scales = self.constant(np.full(shape[axis], W_SCALE))
        return self.node("DequantizeLinear", levels, scales, self.constant(np.zeros(shape[axis]), "int8"), axis=axis)

    def floats(self, *shape: int) -> str:
        return self.constant(self.random.normal(1, 0.2, shape))

    def shape(self, *extents: int) -> str:
        return self.constant(extents, "int64")

    def rounded(self, y: str, deviation: float = X_SCALE * LEVELS) -> str:
        """``y``, whose values deviate so much from 0, through levels of eight bits."""
        parameters = self.constant(deviation / LEVELS), self.constant(X_ZERO_POINT, "uint8")
        return self.node("DequantizeLinear", self.node("QuantizeLinear", y, *parameters), *parameters)

    def product(self, op_type: str, *operands: str, terms: int, **attributes: Any) -> str:
        """An operator that sums so many products of ``x`` and ``w``."""
        y = self.node(op_type, *operands, **attributes)
        return self.rounded(y, X_SCALE * LEVELS * W_SCALE * LEVELS * terms**0.5)

    def proto(self, y: str) -> ModelProto:
        """The model whose output is the levels that ``y`` was dequantized from, or ``y`` itself in levels."""
        if self.nodes[-1].op_type == "DequantizeLinear":
            y = self.nodes.pop().input[0]
        else:
            y = self.node("QuantizeLinear", y, self.constant(X_SCALE), self.constant(X_ZERO_POINT, "uint8"))
        output = helper.make_empty_tensor_value_info(y)
        output.type.tensor_type.elem_type = TensorProto.UINT8
        graph = helper.make_graph(self.nodes, "operator", self.inputs, [output], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _conv(m: Qdq, shape: Sequence[int], w: Sequence[int], **attributes: Any) -> str:
    return m.product("Conv", m.x(*shape), m.w(*w), m.floats(w[0]), terms=math.prod(w[1:]), **attributes)


def _transposed(m: Qdq) -> str:
    return m.product("ConvTranspose", m.x(1, 64, 28, 28), m.w(64, 64, 2, 2, axis=1), strides=[2, 2], terms=64)


def _fc(m: Qdq, rows: int, inputs: int, outputs: int) -> str:
    return m.product("Gemm", m.x(rows, inputs), m.w(outputs, inputs), m.floats(outputs), transB=1, terms=inputs)


def _shuffle(m: Qdq) -> str:
    split = m.node("Reshape", m.x(1, 256, 28, 28), m.shape(1, 4, 64, 28, 28))
    return m.node("Reshape", m.node("Transpose", split, perm=[0, 2, 1, 3, 4]), m.shape(1, 256, 28, 28))


def _shuffled(m: Qdq) -> str:
    """A channel shuffle where it mostly is: between convolutions."""
    y = m.rounded(m.node("Relu", m.node("Conv", m.x(1, 116, 28, 28), m.w(116, 116, 1, 1), m.floats(116))), 4.0)
    split = m.node("Reshape", y, m.shape(1, 2, 58, 28, 28))
    y = m.node("Reshape", m.node("Transpose", split, perm=[0, 2, 1, 3, 4]), m.shape(1, 116, 28, 28))
    return m.product("Conv", y, m.w(116, 116, 1, 1), m.floats(116), terms=116)


def _lstm(m: Qdq, op_type: str, gates: int) -> str:
    steps, batch, inputs, hidden = 32, 8, 128, 128
    w, r = m.w(1, gates * hidden, inputs, axis=1), m.w(1, gates * hidden, hidden, axis=1)
    y = m.node(op_type, m.x(steps, batch, inputs), w, r, hidden_size=hidden)
    return m.rounded(y, 0.5)


def _linear(m: Qdq) -> str:
    return m.node("Add", m.node("Mul", m.x(256, 1024), m.floats(1024)), m.floats(1024))


def _batch_norm(m: Qdq) -> str:
    parameters = [m.floats(128) for _ in range(4)]
    return m.node("Relu", m.node("BatchNormalization", m.x(1, 128, 28, 28), *parameters))


def _pooled(m: Qdq, op_type: str, **attributes: Any) -> str:
    return m.node(op_type, m.x(1, 128, 56, 56), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, **attributes)


def _image(m: Qdq) -> str:
    return m.x(1, 128, 56, 56)


OPERATORS: dict[str, Callable[[Qdq], str]] = {
    "Conv 1-D": lambda m: _conv(m, (1, 64, 1024), (128, 64, 5), pads=[2, 2]),
    "Conv 2-D": lambda m: _conv(m, (1, 128, 28, 28), (128, 128, 3, 3), pads=[1] * 4),
    "Conv 2-D, groups of 8": lambda m: _conv(m, (1, 128, 28, 28), (128, 8, 3, 3), pads=[1] * 4, group=16),
    "Conv 2-D, depthwise": lambda m: _conv(m, (1, 128, 56, 56), (128, 1, 3, 3), pads=[1] * 4, group=128),
    "Conv 3-D": lambda m: _conv(m, (1, 32, 16, 28, 28), (64, 32, 3, 3, 3), pads=[1] * 6),
    "Conv 3-D, depthwise": lambda m: _conv(m, (1, 64, 8, 28, 28), (64, 1, 3, 3, 3), pads=[1] * 6, group=64),
    "Conv, transposed": _transposed,
    "FC, 1 row": lambda m: _fc(m, 1, 1024, 1024),
    "FC, 64 rows": lambda m: _fc(m, 64, 1024, 1024),
    "BatchMatMul": lambda m: m.product("MatMul", m.x(12, 128, 64), m.x(12, 64, 128), terms=64 * 25),
    "BatchMatMul, constant": lambda m: m.product("MatMul", m.x(12, 128, 64), m.w(12, 64, 128, axis=2), terms=64),
    "Sum of 3": lambda m: m.node("Relu", m.node("Sum", _image(m), _image(m), _image(m))),
    "Add": lambda m: m.node("Add", _image(m), _image(m)),
    "Add, broadcast": lambda m: m.node("Add", _image(m), m.x(1, 128, 1, 1)),
    "Mul": lambda m: m.node("Mul", _image(m), _image(m)),
    "Mul, broadcast": lambda m: m.node("Mul", _image(m), m.x(1, 128, 1, 1)),
    "ElementwiseLinear": _linear,
    "MaxPool": lambda m: _pooled(m, "MaxPool"),
    "AveragePool": lambda m: _pooled(m, "AveragePool"),
    "MaxPool 3-D": lambda m: m.node("MaxPool", m.x(1, 64, 8, 28, 28), kernel_shape=[2] * 3, strides=[2] * 3),
    "AveragePool 3-D": lambda m: m.node("AveragePool", m.x(1, 64, 8, 28, 28), kernel_shape=[2] * 3, strides=[2] * 3),
    "GlobalAveragePool": lambda m: m.node("GlobalAveragePool", m.x(1, 512, 14, 14)),
    "Relu": lambda m: m.node("Relu", _image(m)),
    "Sigmoid": lambda m: m.rounded(m.node("Sigmoid", _image(m)), 0.5),
    "Tanh": lambda m: m.rounded(m.node("Tanh", _image(m)), 0.6),
    "HardSwish": lambda m: m.node("HardSwish", _image(m)),
    "Gelu": lambda m: m.node("Gelu", _image(m)),
    "LeakyRelu": lambda m: m.node("LeakyRelu", _image(m)),
    "PRelu": lambda m: m.node("PRelu", _image(m), m.floats(128, 1, 1)),
    "Softmax": lambda m: m.rounded(m.node("Softmax", m.x(12, 128, 128), axis=-1), 0.2),
    "LSTM": lambda m: _lstm(m, "LSTM", 4),
    "GRU": lambda m: _lstm(m, "GRU", 3),
    "GroupNorm": lambda m: m.node("GroupNormalization", _image(m), m.floats(128), m.floats(128), num_groups=32),
    "InstanceNorm": lambda m: m.node("InstanceNormalization", _image(m), m.floats(128), m.floats(128)),
    "LayerNorm": lambda m: m.node("LayerNormalization", m.x(128, 768), m.floats(768), m.floats(768), axis=-1),
    "SpatialBNRelu": _batch_norm,
    "Concat": lambda m: m.node("Concat", _image(m), _image(m), axis=1),
    "Slice": lambda m: m.node("Slice", _image(m), m.shape(32), m.shape(96), m.shape(1)),
    "Pad": lambda m: m.node("Pad", _image(m), m.shape(0, 0, 1, 1, 0, 0, 1, 1)),
    "ChannelShuffle": _shuffle,
    "Transpose": lambda m: m.node("Transpose", m.x(1, 56, 56, 128), perm=[0, 3, 1, 2]),
    "BatchPermutation": lambda m: m.node("Gather", m.x(64, 128, 14, 14), m.shape(*range(63, -1, -1)), axis=0),
    "Gather": lambda m: m.node("Gather", m.x(64, 1024), m.shape(*range(0, 1024, 3)), axis=1),
    "ResizeNearest": lambda m: m.node("Resize", m.x(1, 128, 28, 28), "", m.constant([1, 1, 2, 2]), mode="nearest"),
    "ResizeNearest3D": lambda m: m.node(
        "Resize", m.x(1, 32, 8, 28, 28), "", m.constant([1, 1, 2, 2, 2]), mode="nearest"
    ),
    "ResizeBilinear": lambda m: m.node("Resize", m.x(1, 128, 28, 28), "", m.constant([1, 1, 2, 2]), mode="linear"),
    "ConvRelu, ChannelShuffle, Conv": _shuffled,
}


def measure(operator: str, peers: Sequence[str], threads: int, seconds: float) -> Row:
    """Time one of ``OPERATORS``."""
    builder = Qdq()
    proto = builder.proto(OPERATORS[operator](builder))
    model = sqc.compile(sqc.import_onnx(proto)).load()
    samples = [
        {spec.name: builder.random.integers(0, 256, spec.shape, np.uint8) for spec in model.inputs}
        for _ in range(SAMPLES)
    ]
    content = proto.SerializeToString()
    rivals = [rival for name in peers if (rival := _rival(name, content, threads))]
    found = compare(model, samples, rivals, name=operator, threads=threads, seconds=seconds).to_dict()
    return {
        "operator": operator,
        **{name: found[name] for name in ("threads", "versions", "timings", "sqc_time_over_peer")},
    }


def _rival(name: str, content: bytes, threads: int) -> Rival | None:
    """An engine with the model, or None if it cannot load it."""
    rival = Rival(load_peer(name), {"int8": content})
    try:
        rival.runners(threads)
    except Exception as error:  # engines raise types of their own
        print(f"{name} cannot load it: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return rival


def table(rows: Sequence[Row]) -> str:
    """A line for each operator and number of threads, in microseconds."""
    engines = [OWN, *dict.fromkeys(name for row in rows for name in row["sqc_time_over_peer"])]
    lines = []
    gains = []
    for row in rows:
        gain = times_faster(row)
        gains += [gain] if gain else []
        medians = (row["timings"].get(name, {}).get("median_ms") for name in engines)
        cells = ["-" if median is None else f"{median * 1e3:,.1f}" for median in medians]
        shown = "-" if gain is None else f"{gain:.2f}" if gain >= 1 else f"**{gain:.2f}**"
        lines.append([row["operator"], str(row["threads"]), *cells, shown])
    if gains:
        lines.append(["**geometric mean**", "", *[""] * len(engines), f"**{geometric_mean(gains):.2f}**"])
    return markdown(["operator", "threads", *(TITLES[name] for name in engines), "times faster"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time every operator beside other engines.")
    parser.add_argument("--operators", default="", help="only these, separated by semicolons")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each engine and operator")
    parser.add_argument("--only-sqc", action="store_true", help="without other engines")
    parser.add_argument("--json", type=Path, help="a file to merge the figures into")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.operators.split(";") if name] or list(OPERATORS)
    if unknown := [name for name in chosen if name not in OPERATORS]:
        parser.error(f"unknown operators: {', '.join(unknown)}; known: {'; '.join(OPERATORS)}")
    results = Results(arguments.json)
    for number, operator in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {operator}", file=sys.stderr)
        row = measure(operator, () if arguments.only_sqc else PEERS, arguments.threads, arguments.seconds)
        results.merge(SECTION, [row], KEY, row["versions"])
    print(table(results.rows(SECTION)))


if __name__ == "__main__":
    main()
