"""Models with fixed random weights, for speed alone: ResNet-50, a small MLP, a wide-and-deep ranking MLP.

    python examples/random_models.py FOLDER

Writes ``<name>/model.onnx`` for each, with an open batch. Their weights make activations keep their size from layer to
layer, so that quantization sees what it sees in trained models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save_model

OPSET = 17


class Network:
    """An ONNX graph under construction. Values are named after the nodes that make them."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int) -> None:
        self.name = name
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])
        self.nodes: list[object] = []
        self.weights: list[object] = []
        self.generator = np.random.default_rng(seed)

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        result = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=result, **attributes))
        return result

    def weight(self, *shape: int, gain: float = 2.0) -> str:
        """Normal values whose variance is ``gain`` over the number of inputs (He's initialization)."""
        fan_in = int(np.prod(shape[1:]))
        values = self.generator.normal(0, np.sqrt(gain / fan_in), shape).astype(np.float32)
        return self._constant(values)

    def bias(self, size: int) -> str:
        return self._constant(self.generator.normal(0, 0.1, size).astype(np.float32))

    def _constant(self, values: np.ndarray) -> str:
        name = f"w_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = 2.0) -> str:
        weights = self.weight(outputs, inputs, kernel, kernel, gain=gain), self.bias(outputs)
        return self.node("Conv", x, *weights, strides=[stride] * 2, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2)

    def linear(self, x: str, inputs: int, outputs: int, gain: float = 2.0) -> str:
        return self.node("Gemm", x, self.weight(outputs, inputs, gain=gain), self.bias(outputs), transB=1)

    def model(self, result: str, *shape: int) -> ModelProto:
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch", *shape])
        graph = helper.make_graph(self.nodes, self.name, [self.input], [output], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def resnet50() -> ModelProto:
    """ResNet-50 (v1.5: the 3x3 convolution strides) at 224 x 224, batch norms folded away."""
    net = Network("resnet50", (3, 224, 224), seed=50)
    x = net.node("Relu", net.conv("input", 3, 64, 7, 2))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            shortcut = x
            if not block:
                shortcut = net.conv(x, channels, 4 * width, 1, stride, gain=1.0)
            y = net.node("Relu", net.conv(x, channels, width, 1))
            y = net.node("Relu", net.conv(y, width, width, 3, stride))
            y = net.conv(y, width, 4 * width, 1, gain=0.5)
            x = net.node("Relu", net.node("Add", y, shortcut))
            channels = 4 * width
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.linear(x, channels, 1000, gain=1.0), 1000)


def perceptron(name: str, *widths: int) -> ModelProto:
    """Fully connected layers with ReLU between them."""
    net = Network(name, (widths[0],), seed=widths[0])
    x = "input"
    for inputs, outputs in pairwise(widths[:-1]):
        x = net.node("Relu", net.linear(x, inputs, outputs))
    return net.model(net.linear(x, widths[-2], widths[-1], gain=1.0), widths[-1])


@dataclass(frozen=True)
class RandomModel:
    """A model, the inputs float32[n, *shape] that go with it, and the batch sizes that it is timed at."""

    name: str
    build: Callable[[], ModelProto]
    shape: tuple[int, ...]
    batches: tuple[int, ...]
    samples: int
    """How many inputs to calibrate on: enough for the statistics, and for a few of the largest batches."""

    def inputs(self) -> np.ndarray:
        """Standard normal values, always the same."""
        return np.random.default_rng(0).standard_normal((self.samples, *self.shape), np.float32)

    def write(self, folder: Path) -> Path:
        """Write ``<name>/model.onnx`` into ``folder``."""
        path = folder / self.name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(self.build(), path)
        return path


MODELS = {
    model.name: model
    for model in (
        RandomModel("resnet50", resnet50, (3, 224, 224), (1, 8), 16),
        RandomModel("mlp", lambda: perceptron("mlp", 1024, 1024, 1024, 512, 1), (1024,), (1, 64), 256),
        RandomModel(
            "ranking_mlp", lambda: perceptron("ranking_mlp", 512, 2048, 2048, 1024, 1), (512,), (1, 16, 256), 1024
        ),
    )
}
"""All models by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write models with fixed random weights.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for model in MODELS.values():
        model.write(folder)


if __name__ == "__main__":
    main()
