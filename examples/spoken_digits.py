"""Train a small LSTM on spoken digits in plain numpy, write it as ONNX, quantize it and compare it with float.

    SQC_TEST_DATA=folder python examples/spoken_digits.py [spoken_digits.onnx]

The folder holds fsdd_spoken_digits/train.npz and eval.npz: recordings at 8 kHz of the Free Spoken Digit Dataset, one
behind the other in ``audio`` (int16), from ``offsets[i]`` to ``offsets[i + 1]``, and the spoken ``digit`` of each.
Energies of a recording in bands of the mel scale go through one LSTM layer; the mean of its hidden states goes through
one fully connected layer. Seeds are fixed, so a run on the same machine writes the same file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from adam import Adam, Arrays
from onnx import TensorProto, helper, numpy_helper

import sqc

RATE, WINDOW, HOP = 8000, 256, 128
STEPS, BANDS, UNITS = 48, 20, 64
EPOCHS, BATCH, LEARNING_RATE = 30, 64, 4e-3


@dataclass(frozen=True)
class Split:
    """Band energies float32[n, STEPS, BANDS], of mean 0 and variance 1, and labels int64[n]."""

    features: np.ndarray
    labels: np.ndarray


def spoken_digits(folder: Path) -> tuple[Split, Split]:
    """Training and evaluation recordings; the training ones say how both are scaled."""
    splits = []
    for name in ("train", "eval"):
        with np.load(folder / f"{name}.npz") as data:
            audio = np.split(data["audio"], data["offsets"][1:-1])
            splits.append((np.stack([energies(clip) for clip in audio]), data["digit"].astype(np.int64)))
    mean, deviation = splits[0][0].mean(axis=(0, 1)), splits[0][0].std(axis=(0, 1))
    train, test = (Split((features - mean) / deviation, labels) for features, labels in splits)
    return train, test


def energies(clip: np.ndarray) -> np.ndarray:
    """Logarithms of the energies in mel bands, float32[STEPS, BANDS]; silence behind a short recording."""
    samples = np.zeros(WINDOW + HOP * (STEPS - 1), np.float32)
    count = min(len(clip), len(samples))
    samples[:count] = clip[:count] / np.float32(32768)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.asarray(np.log(power @ mel_bands() + 1e-4), np.float32)


def mel_bands() -> np.ndarray:
    """Triangles that overlap by half, evenly spaced on the mel scale: [WINDOW / 2 + 1, BANDS]."""

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    edges = 700 * (10 ** (np.linspace(mel(60), mel(RATE / 2), BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def initial(rng: np.random.Generator) -> Arrays:
    """Gates in the order of ONNX: input, output, forget, cell. Forget gates start open."""

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))

    bias = np.zeros(4 * UNITS, np.float32)
    bias[2 * UNITS : 3 * UNITS] = 1
    return {
        "lstm.w": uniform(4 * UNITS, BANDS),
        "lstm.r": uniform(4 * UNITS, UNITS),
        "lstm.b": bias,
        "fc.weight": uniform(10, UNITS),
        "fc.bias": np.zeros(10, np.float32),
    }


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def loss_and_gradient(p: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays]:
    """Mean cross entropy of a batch x[n, steps, bands], and the gradient of every parameter through time."""
    n, steps, _ = x.shape
    h = c = np.zeros((n, p["lstm.r"].shape[1]), x.dtype)
    tape = []
    mean = np.zeros_like(h)
    for t in range(steps):
        i, o, f, g = np.split(x[:, t] @ p["lstm.w"].T + h @ p["lstm.r"].T + p["lstm.b"], 4, axis=1)
        i, o, f, g = sigmoid(i), sigmoid(o), sigmoid(f), np.tanh(g)
        before = h, c
        c = f * c + i * g
        bent = np.tanh(c)
        h = o * bent
        mean += h / steps
        tape.append((i, o, f, g, bent, *before))
    logits = mean @ p["fc.weight"].T + p["fc.bias"]

    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(n)
    loss = -float(log_probability[rows, labels].mean())

    d_logits = np.exp(log_probability)
    d_logits[rows, labels] -= 1
    d_logits /= n
    gradient = {name: np.zeros_like(array) for name, array in p.items()}
    gradient["fc.weight"], gradient["fc.bias"] = d_logits.T @ mean, d_logits.sum(axis=0)
    d_mean = d_logits @ p["fc.weight"] / steps
    d_h, d_c = np.zeros_like(h), np.zeros_like(h)
    for t in range(steps - 1, -1, -1):
        i, o, f, g, bent, h, c = tape[t]
        d_h = d_h + d_mean
        d_c = d_c + d_h * o * (1 - bent * bent)
        gates = [d_c * g * i * (1 - i), d_h * bent * o * (1 - o), d_c * c * f * (1 - f), d_c * i * (1 - g * g)]
        d_gates = np.concatenate(gates, axis=1)
        gradient["lstm.w"] += d_gates.T @ x[:, t]
        gradient["lstm.r"] += d_gates.T @ h
        gradient["lstm.b"] += d_gates.sum(axis=0)
        d_h, d_c = d_gates @ p["lstm.r"], d_c * f
    return loss, gradient


def varied(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each recording up to four steps later, a little louder or softer, with some noise."""
    moves = rng.integers(0, 5, size=len(features))
    moved = np.stack([np.roll(clip, move, axis=0) for clip, move in zip(features, moves, strict=True)])
    gains = 0.3 * rng.standard_normal((len(features), 1, 1))
    return np.asarray(moved + gains + 0.2 * rng.standard_normal(features.shape), np.float32)


def train(data: Split, epochs: int = EPOCHS) -> Arrays:
    """By Adam, with gradients of bounded length."""
    rng = np.random.default_rng(1)
    parameters = initial(rng)
    adam = Adam(parameters, LEARNING_RATE, epochs * (len(data.labels) // BATCH))
    for epoch in range(epochs):
        order = rng.permutation(len(data.labels))
        losses: list[float] = []
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            loss, gradient = loss_and_gradient(parameters, varied(data.features[rows], rng), data.labels[rows])
            losses.append(loss)
            length = np.sqrt(sum(float((g * g).sum()) for g in gradient.values()))
            adam.step({name: g / np.float32(max(1.0, length)) for name, g in gradient.items()})
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    return parameters


def export(parameters: Arrays) -> onnx.ModelProto:
    """The network as ONNX: features float32[N, STEPS, BANDS] in, logits float32[N, 10] out."""
    constants = {
        "lstm.W": parameters["lstm.w"][None],
        "lstm.R": parameters["lstm.r"][None],
        "lstm.B": np.concatenate([parameters["lstm.b"], np.zeros(4 * UNITS, np.float32)])[None],
        "fc.weight": parameters["fc.weight"],
        "fc.bias": parameters["fc.bias"],
        "direction": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["features"], ["by_time"], name="by_time", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["by_time", "lstm.W", "lstm.R", "lstm.B"], ["y"], name="lstm", hidden_size=UNITS),
        helper.make_node("Squeeze", ["y", "direction"], ["hidden"], name="squeeze"),
        helper.make_node("ReduceMean", ["hidden"], ["mean"], name="mean", axes=[0], keepdims=0),
        helper.make_node("Gemm", ["mean", "fc.weight", "fc.bias"], ["logits"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "spoken_digits",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", STEPS, BANDS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="sqc")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def right(model: sqc.CompiledModel, data: Split) -> int:
    """How many recordings a model compiled for one at a time tells right."""
    return sum(int(model(x[None]).argmax() == label) for x, label in zip(data.features, data.labels, strict=True))


def compare(model: onnx.ModelProto, training: Split, test: Split) -> tuple[int, int]:
    """How many test recordings the network tells right in float and in int8, calibrated on training recordings."""
    graph = sqc.import_onnx(model)
    calibration = sqc.calibrate(graph, [training.features[::5]])
    return right(sqc.compile(graph), test), right(sqc.compile(graph, calibration), test)


def main() -> None:
    if "SQC_TEST_DATA" not in os.environ:
        sys.exit("set SQC_TEST_DATA to a folder that holds fsdd_spoken_digits")
    training, test = spoken_digits(Path(os.environ["SQC_TEST_DATA"]) / "fsdd_spoken_digits")
    model = export(train(training))
    if len(sys.argv) > 1:
        onnx.save(model, sys.argv[1])
        print(f"wrote {sys.argv[1]}")
    in_float, in_int8 = compare(model, training, test)
    print(f"right of {len(test.labels)}: {in_float} in float, {in_int8} in int8")


if __name__ == "__main__":
    main()
