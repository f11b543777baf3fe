"""Train a small CNN on scikit-learn's 8x8 handwritten digits and write it as ONNX; half a minute of plain numpy.

    python examples/train_digits.py [examples/digits.onnx]

Two 3x3 convolutions, a max pooling, another convolution with a residual addition, one fully connected layer. Seeds are
fixed, so a run on the same machine writes the same file. ``digits.onnx`` beside this script is what it wrote.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from adam import Adam, Arrays
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
CHANNELS = 32
EPOCHS = 30
BATCH = 64
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Split:
    """Images float32[n,1,8,8] with values 0..16, and labels int64[n]."""

    images: np.ndarray
    labels: np.ndarray


def digits() -> tuple[Split, Split]:
    """Training and test digits: 1,297 and 500, drawn with a fixed seed."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = images[order].astype(np.float32).reshape(-1, 1, 8, 8)
    labels = labels[order].astype(np.int64)
    return Split(images[500:], labels[500:]), Split(images[:500], labels[:500])


def initial(rng: np.random.Generator) -> Arrays:
    """He initialization; weights are OIHW and [out, in]."""

    def normal(*shape: int) -> np.ndarray:
        fan_in = float(np.prod(shape[1:]))
        return np.asarray(rng.standard_normal(shape) * np.sqrt(2 / fan_in), np.float32)

    c = CHANNELS
    return {
        "conv1.weight": normal(c // 2, 1, 3, 3) / 16,  # pixels come as 0..16
        "conv1.bias": np.zeros(c // 2, np.float32),
        "conv2.weight": normal(c, c // 2, 3, 3),
        "conv2.bias": np.zeros(c, np.float32),
        "conv3.weight": normal(c, c, 3, 3) * np.float32(0.5),
        "conv3.bias": np.zeros(c, np.float32),
        "fc.weight": normal(10, c * 16) * np.float32(0.5),
        "fc.bias": np.zeros(10, np.float32),
    }


def columns(x: np.ndarray) -> np.ndarray:
    """The 3x3 neighbourhoods of x[n,c,h,w] with zero padding, as [n*h*w, c*9]."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.asarray(windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9))


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A 3x3 convolution of x[n,c,h,w], same size, and the columns that its gradient needs."""
    n, _, h, w = x.shape
    cols = columns(x)
    y = cols @ weight.reshape(len(weight), -1).T + bias
    return y.reshape(n, h, w, len(weight)).transpose(0, 3, 1, 2), cols


def convolve_gradient(dy: np.ndarray, weight: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gradients of a convolution: of its input, weight and bias."""
    rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(weight))
    flipped = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    dx, _ = convolve(dy, np.ascontiguousarray(flipped), np.zeros(weight.shape[1], np.float32))
    return dx, (rows.T @ cols).reshape(weight.shape), rows.sum(axis=0)


def loss_and_gradient(p: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays]:
    """Mean cross entropy of a batch, and the gradient of every parameter."""
    n = len(x)
    y1, cols1 = convolve(x, p["conv1.weight"], p["conv1.bias"])
    a1 = np.maximum(y1, 0)
    y2, cols2 = convolve(a1, p["conv2.weight"], p["conv2.bias"])
    a2 = np.maximum(y2, 0)
    quads = a2.reshape(n, CHANNELS, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, CHANNELS, 4, 4, 4)
    winners = quads.argmax(axis=-1)
    pooled = np.take_along_axis(quads, winners[..., None], axis=-1)[..., 0]
    y3, cols3 = convolve(pooled, p["conv3.weight"], p["conv3.bias"])
    a3 = np.maximum(y3 + pooled, 0)
    flat = a3.reshape(n, -1)
    logits = flat @ p["fc.weight"].T + p["fc.bias"]

    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(n)
    loss = -float(log_probability[rows, labels].mean())

    g: Arrays = {}
    d_logits = np.exp(log_probability)
    d_logits[rows, labels] -= 1
    d_logits /= n
    g["fc.weight"], g["fc.bias"] = d_logits.T @ flat, d_logits.sum(axis=0)
    d3 = (d_logits @ p["fc.weight"]).reshape(a3.shape) * (a3 > 0)
    d_pooled, g["conv3.weight"], g["conv3.bias"] = convolve_gradient(d3, p["conv3.weight"], cols3)
    d_pooled = d_pooled + d3
    d_quads = np.zeros_like(quads)
    np.put_along_axis(d_quads, winners[..., None], d_pooled[..., None], axis=-1)
    d2 = d_quads.reshape(n, CHANNELS, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(a2.shape) * (a2 > 0)
    d1, g["conv2.weight"], g["conv2.bias"] = convolve_gradient(d2, p["conv2.weight"], cols2)
    _, g["conv1.weight"], g["conv1.bias"] = convolve_gradient(d1 * (a1 > 0), p["conv1.weight"], cols1)
    return loss, g


def augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by at most one pixel in each direction."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moves = rng.integers(0, 3, size=(len(images), 2))
    return np.stack([image[:, dy : dy + 8, dx : dx + 8] for image, (dy, dx) in zip(padded, moves, strict=True)])


def train(data: Split) -> Arrays:
    """By Adam, on batches in a new order each time."""
    rng = np.random.default_rng(1)
    parameters = initial(rng)
    adam = Adam(parameters, LEARNING_RATE, EPOCHS * (len(data.labels) // BATCH))
    for epoch in range(EPOCHS):
        order = rng.permutation(len(data.labels))
        losses: list[float] = []
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            loss, gradient = loss_and_gradient(parameters, augmented(data.images[rows], rng), data.labels[rows])
            losses.append(loss)
            adam.step(gradient)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    return parameters


def export(parameters: Arrays) -> onnx.ModelProto:
    """The network as ONNX: image float32[N,1,8,8] in, logits float32[N,10] out."""

    def conv(x: str, layer: str, y: str) -> onnx.NodeProto:
        return helper.make_node(
            "Conv", [x, f"{layer}.weight", f"{layer}.bias"], [y], name=layer, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )

    nodes = [
        conv("image", "conv1", "y1"),
        helper.make_node("Relu", ["y1"], ["a1"], name="relu1"),
        conv("a1", "conv2", "y2"),
        helper.make_node("Relu", ["y2"], ["a2"], name="relu2"),
        helper.make_node("MaxPool", ["a2"], ["pooled"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        conv("pooled", "conv3", "y3"),
        helper.make_node("Add", ["y3", "pooled"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["a3"], name="relu3"),
        helper.make_node("Flatten", ["a3"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in parameters.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="sqc")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(parameters: Arrays, data: Split) -> float:
    """Top-1 accuracy of the parameters, through ONNX's own reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    (logits,) = ReferenceEvaluator(export(parameters)).run(None, {"image": data.images})
    assert isinstance(logits, np.ndarray)
    return float((logits.argmax(axis=1) == data.labels).mean())


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "digits.onnx"
    training, test = digits()
    parameters = train(training)
    print(f"test accuracy {accuracy(parameters, test):.1%}")
    onnx.save(export(parameters), path)
    print(f"wrote {path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
