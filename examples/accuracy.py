"""Accuracy of every model of the zoo in int8 beside float, on its whole evaluation split.

    SQC_TEST_DATA=folder python examples/accuracy.py [--models a,b] [--against onnxruntime] [--json results.json]

The float column comes from ONNX Runtime where it is installed, else from sqc's own float build. ``--against`` also
shows engines that quantize the model themselves, on the same calibration inputs. Rows measured again take the place of
old ones in the file of ``--json``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from results import Results, Row, markdown
from rich.console import Console
from rich.progress import track
from zoo import ZOO, ZooModel, choose

import sqc
from sqc.bench.accuracy import agreement, relative_error, top1
from sqc.bench.compare import Rival, chunks
from sqc.bench.peers import Peer, load_peer
from sqc.bench.static_model import static_model

SECTION = "accuracy"
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Closeness:
    """How close an int8 model comes to the float one; None where a figure makes no sense."""

    top1: float | None
    agreement: float | None
    relative_error: float


@dataclass(frozen=True)
class Accuracy:
    """What is known of one model: its float accuracy, and each int8 engine's closeness by name, sqc's first."""

    model: str
    samples: int
    float_top1: float | None
    int8: dict[str, Closeness]
    int8_share: float
    compile_seconds: float
    library_bytes: int


def float_reference(model: ZooModel, graph: object) -> Predict:
    """The model in float: a function from one input to its first output."""
    if find_spec("onnxruntime") is None:
        compiled = sqc.compile(sqc.import_onnx(model.path)).load(threads=0)
        return lambda x: np.asarray(_first(compiled(x)))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def _first(result: object) -> object:
    return result[0] if isinstance(result, tuple) else result


def peer_predictor(model: ZooModel, peer: Peer, calibration: dict[str, np.ndarray]) -> Predict:
    """The model as an engine quantizes it on ``calibration``: a function from one input to its first output."""
    rival = Rival.prepare(peer, static_model(model.path, 1), chunks(calibration, 1))
    runner = peer.load(rival.models["int8"], 1)
    (name,) = calibration

    def predict(x: np.ndarray) -> np.ndarray:
        runner.bind([{name: x}])
        runner.step(0)
        return next(iter(runner.outputs().values()))

    return predict


def measure(model: ZooModel, limit: int | None, ranges: str, peers: Sequence[Peer]) -> Accuracy:
    """Compile one model and run its evaluation split through float and int8."""
    start = time.perf_counter()
    graph = sqc.import_onnx(model.path)
    inputs = {graph.inputs[0].name: model.calibration()}
    compiled = sqc.compile(graph, sqc.calibrate(graph, [inputs]), ranges=ranges)
    library = compiled.library
    seconds = time.perf_counter() - start
    own = compiled.load(threads=0)
    reference = float_reference(model, graph)
    engines: dict[str, Predict] = {"sqc": lambda x: np.asarray(_first(own(x)))}
    engines.update({peer.name: peer_predictor(model, peer, inputs) for peer in peers})
    expected: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {name: [] for name in engines}
    for x in model.batches("eval", 1, limit):
        expected.append(reference(x))
        for name, predict in engines.items():
            found[name].append(predict(x))
    wanted = np.concatenate(expected)
    labels = model.labels("eval")

    def closeness(got: np.ndarray) -> Closeness:
        classes = wanted.reshape(-1, wanted.shape[-1]), got.reshape(-1, got.shape[-1])
        return Closeness(
            None if labels is None else top1(got, labels),
            agreement(*classes) if model.classifies else None,
            relative_error(got, wanted),
        )

    return Accuracy(
        model.name,
        len(wanted),
        None if labels is None else top1(wanted, labels),
        {name: closeness(np.concatenate(parts)) for name, parts in found.items()},
        compiled.report.int8_share,
        seconds,
        len(library),
    )


def table(rows: Sequence[Row]) -> str:
    """A line for each model: float, sqc, then the other engines that were measured."""
    engines = list(dict.fromkeys(name for row in rows for name in row["int8"]))
    columns = ["model", "samples", "float top-1"]
    for name in engines:
        columns += [f"{name} int8 top-1", "agreement", "error"]
    columns += ["MACs in int8", "library KiB"]
    lines = []
    for row in sorted(rows, key=lambda row: list(ZOO).index(row["model"])):
        line = [row["model"], str(row["samples"]), percent(row["float_top1"])]
        for name in engines:
            found = row["int8"].get(name)
            line += (
                [percent(found["top1"]), percent(found["agreement"]), percent(found["relative_error"])]
                if found
                else ["-"] * 3
            )
        lines.append([*line, percent(row["int8_share"]), f"{row['library_bytes'] / 1024:,.0f}"])
    return markdown(columns, lines)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of the zoo's models in int8 beside float.")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--against", default="", help="engines by commas")
    parser.add_argument("--limit", type=int, help="only the first samples of each evaluation split")
    parser.add_argument("--ranges", default="l2", help="the search that chooses ranges")
    parser.add_argument("--json", type=Path, help="merge the figures into this file")
    arguments = parser.parse_args()
    results = Results(arguments.json)
    peers = [load_peer(name) for name in arguments.against.split(",") if name]
    versions = {"sqc": sqc.__version__, **{peer.name: peer.version for peer in peers}}
    models = choose(arguments.models)
    for model in track(models, "accuracy", console=Console(stderr=True)):
        row = asdict(measure(model, arguments.limit, arguments.ranges, peers))
        results.merge(SECTION, [row], ("model",), versions)
    print(table(results.rows(SECTION)))


if __name__ == "__main__":
    main()
