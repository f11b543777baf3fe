"""Quantize a model by one engine and nothing else: the process whose time and memory ``accuracy.py`` measures.

    python examples/quantize_engine.py ENGINE MODEL.onnx CALIBRATION.npz FOLDER

Writes the quantized model for batch 1 into the folder, and ``made.json`` about it. The .npz holds one array an input.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sqc
from sqc.bench.compare import SqcRunner
from sqc.bench.peers import Runner, load_peer
from sqc.bench.static_model import static_model
from sqc.cli.files import write_json
from sqc.pieces import whole_pieces

PRESETS = ("sqc fast", "sqc accurate", "sqc best")
"""What users choose from, quickest first."""

RECIPES: dict[str, dict[str, Any]] = {
    **{name: {"preset": name.removeprefix("sqc ")} for name in PRESETS},
    "sqc min-max": {"ranges": "minmax"},
    "sqc adaptive rounding": {"preset": sqc.Recipe(correct_bias=True, round_adaptively=True)},
    "sqc fitted weights": {"preset": sqc.Recipe(correct_bias=True, fit_weights=True, round_adaptively=True)},
    "sqc smoothed inputs": {
        "preset": sqc.Recipe(smooth=True, correct_bias=True, fit_weights=True, round_adaptively=True)
    },
    "sqc equalized channels": {
        "preset": sqc.Recipe(equalize=True, smooth=True, correct_bias=True, fit_weights=True, round_adaptively=True)
    },
}
"""What is told to ``sqc.quantize``."""

TECHNIQUES = (
    "sqc min-max",
    "sqc fast",
    "sqc accurate",
    "sqc adaptive rounding",
    "sqc fitted weights",
    "sqc smoothed inputs",
    "sqc equalized channels",
    "sqc best",
)
"""The recipes that show what each technique adds: every one has something more than that before it."""

PEERS = (
    "onnxruntime min-max",
    "onnxruntime entropy",
    "onnxruntime percentile",
    "openvino default",
    "openvino accurate-bias-correction",
)
"""An engine, and the method of its tool."""

ENGINES = (*RECIPES, *PEERS)


@dataclass(frozen=True)
class Made:
    """What a process did: the file's name, and the seconds of its parts without reading the calibration inputs.

    ``compile_seconds`` are those of sqc's compiler; other engines compile when they load. ``int8_share`` is that of
    multiply-accumulates, which only sqc tells.
    """

    file: str
    quantize_seconds: float
    compile_seconds: float | None = None
    int8_share: float | None = None


def quantize(engine: str, model: Path, data: Mapping[str, np.ndarray], folder: Path) -> Made:
    """Quantize ``model`` on ``data``, n samples for each input, and write it into ``folder``."""
    start = time.perf_counter()
    name, _, method = engine.partition(" ")
    if name != "sqc":
        peer = load_peer(name)
        quantized = peer.quantize(static_model(model, 1), whole_pieces(data, 1), method)
        seconds = time.perf_counter() - start
        return Made(peer.save(quantized, folder).name, seconds)
    graph = sqc.import_onnx(model)
    integer = sqc.quantize(graph, sqc.calibrate(graph, [data]), **RECIPES[engine])
    seconds = time.perf_counter() - start
    compiled = sqc.compile(integer)
    compiled.save(folder / "model.so")
    return Made("model.so", seconds, time.perf_counter() - start - seconds, compiled.report.int8_share)


def read_made(folder: Path) -> Made:
    return Made(**json.loads((folder / "made.json").read_text(encoding="utf-8")))


def load(engine: str, file: Path) -> Runner:
    """What ``quantize`` wrote, on one thread; what is not int8 runs in float32."""
    name = engine.partition(" ")[0]
    if name == "sqc":
        return SqcRunner(sqc.load(file, threads=1))
    peer = load_peer(name)
    return peer.load(peer.read(file), 1, float32=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Quantize a model by one engine.")
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path, help="an .npz with one array an input")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with np.load(arguments.calibration) as stored:
        data = {name: stored[name] for name in stored.files}
    made = quantize(arguments.engine, arguments.model, data, arguments.folder)
    write_json(arguments.folder / "made.json", asdict(made))


if __name__ == "__main__":
    main()
