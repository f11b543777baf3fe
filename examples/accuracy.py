"""Accuracy of the zoo's models in int8, by sqc's presets and by other engines' post-training quantization.

    SQC_TEST_DATA=folder python examples/accuracy.py [--models a,b] [--engines "sqc fast,..."] [--json results.json]

Every engine calibrates on the calibration split and is measured on the whole evaluation split, beside ONNX Runtime in
float. Prints tables in Markdown of all that was measured, or of all that the file of ``--json`` holds: what is measured
again takes the place of old figures there, and ``--missing`` measures only what it lacks. Needs
``pip install 'sqc[bench]'``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from accuracy_tables import KEY, SECTION, pack, tables
from child_process import measure
from quantize_engine import ENGINES, PEERS, PRESETS, load, read_made
from results import Results, Row
from rich.console import Console
from rich.progress import Progress
from zoo import ZooModel, choose

import sqc
from sqc.accuracy.metrics import relative_error
from sqc.bench.measure import interleave
from sqc.bench.peers import Runner, load_peer
from sqc.bench.static_model import static_model

QUANTIZE_ENGINE = str(Path(__file__).with_name("quantize_engine.py"))
BLOCK = 16
"""Inputs that are bound at a time."""


@dataclass(frozen=True)
class Reference:
    """The float model on an evaluation split: its first outputs [n, ...], and the labels [n] if there are any."""

    model: ZooModel
    outputs: np.ndarray
    labels: np.ndarray | None

    def closeness(self, outputs: np.ndarray) -> Row:
        """How close an int8 model with these outputs comes; None for a figure that makes no sense.

        ``agrees`` and ``right`` tell each input's, packed, for a model with one answer an input.
        """
        found, wanted = outputs.argmax(axis=-1), self.outputs.argmax(axis=-1)
        agrees = found == wanted if self.model.classifies else None
        right = None if self.labels is None else found == self.labels[: len(found)]
        return {
            "samples": len(outputs),
            "float_top1": None if self.labels is None else float(np.mean(wanted == self.labels[: len(wanted)])),
            "top1": None if right is None else float(np.mean(right)),
            "agreement": None if agrees is None else float(np.mean(agrees)),
            "agrees": pack(agrees) if agrees is not None and agrees.ndim == 1 else None,
            "right": None if right is None else pack(right),
            "relative_error": relative_error(outputs, self.outputs),
        }


def first_outputs(runner: Runner, model: ZooModel, limit: int | None) -> np.ndarray:
    """The first output for every input of the evaluation split, joined along the first axis."""
    parts: list[np.ndarray] = []
    name = sqc.import_onnx(model.path).inputs[0].name
    for inputs in model.batches("eval", BLOCK, limit):
        runner.bind([{name: x[np.newaxis]} for x in inputs])
        for index in range(len(inputs)):
            runner.step(index)
            parts.append(next(iter(runner.outputs().values())))
    return np.concatenate(parts)


def float_reference(model: ZooModel, limit: int | None) -> Reference:
    runner = load_peer("onnxruntime").load(static_model(model.path, 1), 1)
    return Reference(model, first_outputs(runner, model, limit), model.labels("eval"))


def rows_of(engines: Sequence[str], reference: Reference, limit: int | None, seconds: float) -> list[Row]:
    """Quantize by each engine in a process of its own, and measure what it made; presets are timed in turns.

    Kernels are compiled anew, not taken from the cache, so that times can be compared.
    """
    model = reference.model
    rows: list[Row] = []
    runners: dict[str, Runner] = {}
    inputs = model.calibration()
    name = sqc.import_onnx(model.path).inputs[0].name
    with TemporaryDirectory(prefix="sqc-accuracy-") as temporary:
        calibration = Path(temporary) / "calibration.npz"
        np.savez(calibration, **{name: inputs})
        for engine in engines:
            (folder := Path(temporary) / engine).mkdir()
            command = [sys.executable, QUANTIZE_ENGINE, engine, str(model.path), str(calibration), str(folder)]
            usage = measure(command, {"SQC_CACHE": "off"})
            made = asdict(read_made(folder))
            runners[engine] = load(engine, folder / made.pop("file"))
            figures = reference.closeness(first_outputs(runners[engine], model, limit))
            rows.append({"model": model.name, "engine": engine, **figures, **made, "peak_bytes": usage.peak_bytes})
    timed = {engine: runner for engine, runner in runners.items() if engine in PRESETS}
    for engine, ratio in times_over_first(timed, name, inputs[:8], seconds).items():
        next(row for row in rows if row["engine"] == engine)["time_over_fast"] = ratio
    return rows


def times_over_first(runners: dict[str, Runner], name: str, inputs: np.ndarray, seconds: float) -> dict[str, float]:
    """The time of each runner over that of the first, in turns; ``seconds`` for each."""
    if not runners:
        return {}
    for runner in runners.values():
        runner.bind([{name: x[np.newaxis]} for x in inputs])
    timings = interleave({engine: runner.step for engine, runner in runners.items()}, len(inputs), seconds=seconds)
    first = next(iter(timings.values()))
    return {engine: timing.ratio(first) for engine, timing in timings.items()}


def jobs(engines: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """What is measured at a time: presets, which are timed beside the quickest; each other engine alone."""
    engines = list(engines)
    if any(engine in PRESETS for engine in engines):
        yield tuple(engine for engine in PRESETS if engine in engines or engine == PRESETS[0])
    yield from ((engine,) for engine in engines if engine not in PRESETS)


def versions_of(engines: Iterable[str]) -> dict[str, str]:
    """Of sqc and of what else quantizes. Raises InputError where an engine is not installed."""
    names = dict.fromkeys(engine.partition(" ")[0] for engine in engines if engine in PEERS)
    versions = {"sqc": sqc.__version__, **{name: load_peer(name).version for name in names}}
    return {**versions, "nncf": version("nncf")} if "openvino" in names else versions


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of the zoo's models in int8 beside other engines.")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--engines", default="", help=f"by commas, of {', '.join(ENGINES)}; default: all")
    parser.add_argument("--limit", type=int, help="only the first samples of each evaluation split")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each preset")
    parser.add_argument("--missing", action="store_true", help="measure only what the file of --json lacks")
    parser.add_argument("--json", type=Path, help="merge the figures into this file")
    arguments = parser.parse_args()
    engines = [name.strip() for name in arguments.engines.split(",") if name.strip()] or list(ENGINES)
    if unknown := [name for name in engines if name not in ENGINES]:
        parser.error(f"unknown engines: {', '.join(unknown)}; known: {', '.join(ENGINES)}")
    results = Results(arguments.json)
    known = {(row["model"], row["engine"]) for row in results.rows(SECTION)} if arguments.missing else set()
    work = [
        (model, job)
        for model in choose(arguments.models)
        for job in jobs(engine for engine in engines if (model.name, engine) not in known)
    ]
    versions = versions_of(engines)
    reference: Reference | None = None
    with Progress(console=Console(stderr=True), redirect_stdout=False) as progress:
        task = progress.add_task("", total=len(work))
        for model, job in work:
            progress.update(task, description=f"{model.name}: {', '.join(job)}")
            if reference is None or reference.model is not model:
                reference = float_reference(model, arguments.limit)
            results.merge(SECTION, rows_of(job, reference, arguments.limit, arguments.seconds), KEY, versions)
            progress.advance(task)
    print("\n".join(f"{text}\n\n{table(results.rows(SECTION))}" for text, table in tables()))


if __name__ == "__main__":
    main()
