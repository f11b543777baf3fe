"""Accuracy of every model of the zoo in int8 beside float, on its whole evaluation split.

    SQC_TEST_DATA=folder python examples/accuracy.py [--models a,b] [--limit 100] [--ranges l2] [--json out.json]

The float column comes from ONNX Runtime where it is installed, else from sqc's own float build.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from zoo import ZooModel, choose

import sqc
from sqc.bench.accuracy import agreement, relative_error, top1

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Row:
    """What is known of one model; None where a figure makes no sense."""

    model: str
    samples: int
    float_top1: float | None
    int8_top1: float | None
    agreement: float | None
    relative_error: float
    int8_share: float
    compile_seconds: float
    library_bytes: int


COLUMNS = ("model", "samples", "float", "int8", "agreement", "error", "MACs in int8", "compile s", "library KiB")


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


def measure(model: ZooModel, limit: int | None, ranges: str) -> Row:
    """Compile one model and run its evaluation split through float and int8."""
    start = time.perf_counter()
    graph = sqc.import_onnx(model.path)
    calibration = sqc.calibrate(graph, [model.calibration()])
    compiled = sqc.compile(graph, calibration, ranges=ranges)
    library = compiled.library
    seconds = time.perf_counter() - start
    int8 = compiled.load(threads=0)
    reference = float_reference(model, graph)
    expected, found = [], []
    for x in model.batches("eval", 1, limit):
        expected.append(reference(x))
        found.append(np.asarray(_first(int8(x))))
    wanted, got = np.concatenate(expected), np.concatenate(found)
    labels = model.labels("eval")
    classes = (wanted.reshape(-1, wanted.shape[-1]), got.reshape(-1, got.shape[-1]))
    return Row(
        model.name,
        len(wanted),
        None if labels is None else top1(wanted, labels),
        None if labels is None else top1(got, labels),
        agreement(*classes) if model.classifies else None,
        relative_error(got, wanted),
        compiled.report.int8_share,
        seconds,
        len(library),
    )


def cells(row: Row) -> tuple[str, ...]:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.2%}"

    return (
        row.model,
        str(row.samples),
        percent(row.float_top1),
        percent(row.int8_top1),
        percent(row.agreement),
        f"{row.relative_error:.4f}",
        percent(row.int8_share),
        f"{row.compile_seconds:.1f}",
        f"{row.library_bytes / 1024:,.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of the zoo's models in int8 beside float.")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--limit", type=int, help="only the first samples of each evaluation split")
    parser.add_argument("--ranges", default="l2", help="the search that chooses ranges")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    rows: list[Row] = []
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for model in choose(arguments.models):
        rows.append(measure(model, arguments.limit, arguments.ranges))
        print("| " + " | ".join(cells(rows[-1])) + " |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
