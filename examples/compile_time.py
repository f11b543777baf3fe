"""Time and peak memory of ``sqc calibrate`` and ``sqc compile``, with an empty kernel cache and with a filled one.

    SQC_TEST_DATA=folder python examples/compile_time.py [--models a,b] [--repeat 3] [--json results.json]

Every command runs in a process of its own. *cold*: the folder of the cache is empty; *cached*: the same compile again.
Prints a table in Markdown; seconds are medians over ``--repeat`` turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from child_process import Usage, measure
from results import Results, Row, markdown, mebibytes
from rich.console import Console
from rich.progress import track
from timed_models import TimedModel, choose

import sqc

SECTION = "compile"
MODELS = "imagenet_mobilenet_v2,resnet50"
SQC = (sys.executable, "-c", "from sqc.cli import main; main()")


def measure_model(model: TimedModel, repeat: int) -> Iterator[Row]:
    """Calibrate, compile cold, compile cached: ``repeat`` times each, cold with a new cache each time."""
    steps: dict[str, list[Usage]] = {"calibrate, cold": [], "compile, cold": [], "compile, cached": []}
    with TemporaryDirectory(prefix="sqc-compile-") as name:
        folder = Path(name)
        data, saved, library = folder / "inputs.npz", folder / "model.calibration", folder / "model.so"
        np.savez(data, **{sqc.import_onnx(model.path).inputs[0].name: model.inputs()})
        calibrate = (*SQC, "calibrate", str(model.path), "--calibration-data", str(data), "-o", str(saved))
        compile_ = (*SQC, "compile", str(model.path), "--calibration", str(saved), "-o", str(library))
        for turn in range(repeat):
            # Apart, so that compiling finds none of the float kernels that calibrating leaves.
            calibrating, compiling = ({"SQC_CACHE_DIR": str(folder / f"{use}{turn}")} for use in ("float", "int8"))
            steps["calibrate, cold"].append(measure(calibrate, calibrating))
            steps["compile, cold"].append(measure(compile_, compiling))
            steps["compile, cached"].append(measure(compile_, compiling))
    for step, usages in steps.items():
        yield {
            "model": model.name,
            "step": step,
            "seconds": statistics.median(usage.seconds for usage in usages),
            "peak_bytes": max(usage.peak_bytes for usage in usages),
        }


def table(rows: Sequence[Row]) -> str:
    columns = ["model", "step", "seconds", "peak memory, MiB"]
    lines = ([row["model"], row["step"], f"{row['seconds']:.1f}", mebibytes(row["peak_bytes"])] for row in rows)
    return markdown(columns, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of compiling models.")
    parser.add_argument("--models", default=MODELS, help="names by commas")
    parser.add_argument("--repeat", type=int, default=1, help="turns of which the median counts")
    parser.add_argument("--json", type=Path, help="merge the figures into this file")
    arguments = parser.parse_args()
    results = Results(arguments.json)
    with choose(arguments.models) as models:
        for model in track(models, SECTION, console=Console(stderr=True)):
            rows = measure_model(model, arguments.repeat)
            results.merge(SECTION, rows, ("model", "step"), {"sqc": sqc.__version__})
    print(table(results.rows(SECTION)))


if __name__ == "__main__":
    main()
