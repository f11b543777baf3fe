"""Small models with QuantizeLinear and DequantizeLinear, as training tools write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.frontend.nodes import model

SHAPE = ("N", 4, 8, 8)
LEVEL = 30 / 255


@dataclass(frozen=True)
class Network:
    """conv, relu, max pool, residual sum and a fully connected layer, rounded between.

    ``activations`` and ``weights`` are element types; unsigned weights have a zero point. ``stored`` weights are
    integers, others floats behind QuantizeLinear. With ``outside`` input and output are integers themselves.
    """

    activations: str = "uint8"
    weights: str = "int8"
    per_channel: bool = True
    groups: int = 1
    stored: bool = True
    outside: bool = False
    opset: int = 13
    seed: int = 0

    def model(self) -> onnx.ModelProto:
        return _Writer(self).write()


class _Writer:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.random = np.random.default_rng(network.seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: object, dtype: str = "float32") -> str:
        self.constants[name] = np.asarray(array, dtype)
        return name

    def rounded(self, x: str, scale: float, zero_point: int) -> str:
        """x behind QuantizeLinear and DequantizeLinear; ``zero_point`` is that of unsigned levels."""
        signed = self.network.activations == "int8"
        parameters = [
            self.constant(f"{x}.scale", scale),
            self.constant(f"{x}.zero", zero_point - 128 * signed, self.network.activations),
        ]
        levels = self.node("QuantizeLinear", [x, *parameters], f"{x}.levels")
        return self.node("DequantizeLinear", [levels, *parameters], f"{x}.real")

    def weights(self, name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
        """Weights with output channels first, and their scales."""
        rows = array.reshape(len(array), -1) if self.network.per_channel else array.reshape(1, -1)
        if self.network.weights == "int8":
            scales = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
            zero_points = np.zeros(len(rows))
        else:
            low, high = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
            scales = ((high - low) / 255).astype(np.float32)
            zero_points = np.rint(-low / scales)
        if not self.network.per_channel:
            scales, zero_points = scales[0], zero_points[0]
        parameters = [
            self.constant(f"{name}.scale", scales),
            self.constant(f"{name}.zero", zero_points, self.network.weights),
        ]
        axis = {"axis": 0} if self.network.per_channel else {}
        by_row = (-1, *[1] * (array.ndim - 1))
        if self.network.stored:
            limits = np.iinfo(self.network.weights)
            levels = np.rint(array / scales.reshape(by_row)) + zero_points.reshape(by_row)
            stored = self.constant(f"{name}.levels", np.clip(levels, limits.min, limits.max), self.network.weights)
        else:
            stored = self.node("QuantizeLinear", [self.constant(name, array), *parameters], f"{name}.levels", **axis)
        return self.node("DequantizeLinear", [stored, *parameters], f"{name}.real", **axis), scales

    def bias(self, name: str, size: int, unit: np.ndarray) -> str:
        levels = np.rint(self.random.normal(size=size) / unit)
        stored = self.constant(f"{name}.levels", levels, "int32")
        axis = {"axis": 0} if self.network.per_channel else {}
        return self.node("DequantizeLinear", [stored, self.constant(f"{name}.scale", unit)], f"{name}.real", **axis)

    def write(self) -> onnx.ModelProto:
        groups = self.network.groups
        x = self.rounded("x", 4 / 255, 128)
        w, scales = self.weights("w", self.random.normal(size=(4, 4 // groups, 3, 3)))
        bias = self.bias("b", 4, np.float32(4 / 255) * scales)
        y = self.node("Conv", [x, w, bias], "conv", pads=[1, 1, 1, 1], group=groups)
        y = self.rounded(self.node("Relu", [y], "relu"), 12 / 255, 0)
        y = self.rounded(self.node("Add", [y, x], "sum"), 16 / 255, 40)
        y = self.rounded(self.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2]), 16 / 255, 40)
        y = self.node("Flatten", [y], "flat")
        w, scales = self.weights("v", self.random.normal(size=(5, 64)) / 4)
        bias = self.bias("c", 5, np.float32(16 / 255) * scales)
        y = self.rounded(self.node("Gemm", [y, w, bias], "fc", transB=1), LEVEL, 100)
        proto = model(self.nodes, {"x": SHAPE}, [y], self.constants, self.network.opset)
        return integers_outside(proto, self.network.activations) if self.network.outside else proto


def integers_outside(proto: onnx.ModelProto, dtype: str) -> onnx.ModelProto:
    """The model without its first QuantizeLinear and last DequantizeLinear."""
    graph = proto.graph
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    first = next(node for node in graph.node if node.input[0] == "x")
    last = next(node for node in graph.node if node.output[0] == graph.output[0].name)
    graph.input[0].name, graph.output[0].name = first.output[0], last.input[0]
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = elem_type
    graph.node.remove(first)
    graph.node.remove(last)
    return proto
