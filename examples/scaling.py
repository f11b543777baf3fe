"""What a second thread gains, beside what the machine has to give: two processes of one thread each.

    SQC_TEST_DATA=folder python examples/scaling.py [--models a,b] [--rounds 7] [--json results.json]

Rounds of three kinds take turns: a process with one thread, one with two threads, two with one thread each at the same
time. Prints a table in Markdown of the medians over rounds. Two processes show what the cores can do together, on a
virtual machine less than twice one core, perhaps.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from memory import compile_model
from results import Results, Row, markdown
from rich.console import Console
from rich.progress import track
from timed_models import TimedModel, choose

import sqc

SECTION = "scaling"
KEY = ("model",)
MODELS = "imagenet_mobilenet_v2,resnet50"
SECONDS = 1.0
START_UP = 1.0
"""Seconds until all processes of a round have loaded the model."""
GOAL, SHARE = 1.8, 0.95


def child(library: Path, threads: int, start: float) -> None:
    """Run the model from the time ``start`` on; print the median time of a run."""
    model = sqc.load(library, threads=threads)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=spec.shape).astype(spec.dtype) for spec in model.inputs]
    model(*inputs)
    time.sleep(max(0.0, start - time.time()))
    seconds: list[float] = []
    while time.time() < start + SECONDS:
        before = time.perf_counter()
        model(*inputs)
        seconds.append(time.perf_counter() - before)
    print(statistics.median(seconds))


def together(library: Path, threads: Sequence[int]) -> float:
    """The mean of the median times of processes that run at the same time, with so many threads each."""
    start = str(time.time() + START_UP)
    command = [sys.executable, __file__, "--child", str(library), "--start", start, "--threads"]
    running = [subprocess.Popen([*command, str(count)], stdout=subprocess.PIPE, text=True) for count in threads]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def measure(model: TimedModel, rounds: int, console: Console) -> Row:
    kinds = {"one": (1,), "two": (2,), "side_by_side": (1, 1)}
    seen: dict[str, list[float]] = {kind: [] for kind in kinds}
    with TemporaryDirectory(prefix="sqc-scaling-") as folder:
        library = Path(folder) / "model.so"
        compile_model(model, (1,), 16).save(library)
        for _ in track(range(rounds), model.name, console=console):
            for kind, threads in kinds.items():
                seen[kind].append(together(library, threads))
    pairs = list(zip(*seen.values(), strict=True))
    return {
        "model": model.name,
        **{f"{kind}_ms": statistics.median(times) * 1e3 for kind, times in seen.items()},
        "gain": statistics.median(one / two for one, two, _ in pairs),
        "gain_of_processes": statistics.median(2 * one / both for one, _, both in pairs),
    }


def table(rows: Sequence[Row]) -> str:
    columns = ["model", "1 thread ms", "2 threads ms", "2 processes ms", "gain of threads", "of processes", "share"]
    lines = []
    for row in rows:
        share = row["gain"] / row["gain_of_processes"]
        gains = [f"{row['gain']:.2f}", f"{row['gain_of_processes']:.2f}"]
        mark = f"{share:.0%}" if row["gain"] >= GOAL or share >= SHARE else f"**{share:.0%}**"
        times = [f"{row[kind]:.3f}" for kind in ("one_ms", "two_ms", "side_by_side_ms")]
        lines.append([row["model"], *times, *gains, mark])
    return markdown(columns, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a second thread gains.")
    parser.add_argument("--models", default=MODELS, help="names by commas")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each kind")
    parser.add_argument("--json", type=Path, help="merge all figures into this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.threads, arguments.start)
        return
    results = Results(arguments.json)
    with choose(arguments.models) as models:
        for model in models:
            results.merge(SECTION, [measure(model, arguments.rounds, Console(stderr=True))], KEY)
    print(table(results.rows(SECTION)))


if __name__ == "__main__":
    main()
