"""Latency of every model beside ONNX Runtime and OpenVINO, at each batch size, at one and at two threads.

    SQC_TEST_DATA=folder python examples/speed.py [--models a,b] [--batches 1,8] [--threads 1,2] [--json results.json]

A cell is a model at a batch size and a number of threads. *Of the limit* is the least time that this machine's limits
(multiply-accumulates, bytes of caches and memory, measured in the same run) allow for the kernels, over sqc's time.

Prints a table in Markdown of all cells measured, or of all that the file of ``--json`` holds: cells measured again take
the place of their old figures there, and ``--missing`` measures only those that it lacks. Figures are medians in
milliseconds, or with ``--best`` the quickest runs, which say more on a machine that others use too. Needs
``pip install 'sqc[bench]'``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from results import Results, Row, markdown
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from timed_models import NAMES, TimedModel, choose

import sqc
from sqc.bench.compare import OWN, SAMPLES, Comparison, Rival, compare
from sqc.bench.limits import Probe
from sqc.bench.peers import Peer, load_peer
from sqc.bench.profile import least_seconds
from sqc.bench.session import rotated
from sqc.bench.static_model import static_model
from sqc.pieces import whole_pieces
from sqc.schedules import Target

SECTION = "speed"
KEY = ("model", "batch", "threads")
GOAL = 1.05
"""Cells less times faster than this are pointed out."""
TITLES = {
    OWN: "sqc int8",
    "onnxruntime int8": "ONNX Runtime int8",
    "openvino int8": "OpenVINO int8",
    "onnxruntime float": "ONNX Runtime float",
    "openvino float": "OpenVINO float",
}


def measure(
    model: TimedModel,
    cells: Sequence[tuple[int, int]],
    peers: Sequence[Peer],
    probes: Mapping[int, Probe],
    float_batches: Sequence[int],
    seconds: float,
    say: Callable[[str], None],
) -> Iterator[Row]:
    """Time the ``cells`` of one model, each a batch size and a number of threads.

    sqc compiles one library for all batch sizes; every engine quantizes once for each. In float the engines are timed
    at ``float_batches`` only. ``probes`` measure the limits, by the number of threads. ``say`` gets what is going on.
    """
    graph = sqc.import_onnx(model.path)
    calibration = {graph.inputs[0].name: model.inputs()}
    batches = sorted({batch for batch, _ in cells})
    say(f"{model.name}: sqc compiles")
    compiled = sqc.compile(graph, sqc.calibrate(graph, [calibration]), batch=batches)
    own = compiled.load()
    for batch, group in groupby(sorted(cells), key=lambda cell: cell[0]):
        content = static_model(model.path, batch)
        rivals = []
        for peer in peers:
            say(f"{model.name}, batch {batch}: {peer.name} quantizes")
            rival = Rival.prepare(peer, content, whole_pieces(calibration, batch))
            rivals.append(rival if batch in float_batches else replace(rival, models={"int8": rival.models["int8"]}))
        samples = rotated(calibration, batch, SAMPLES)
        for _, threads in group:
            say(f"{model.name}, batch {batch}, {threads} thread(s): timing")
            probes[threads].run(seconds / 2)
            comparison = compare(own, samples, rivals, name=model.name, threads=threads, seconds=seconds)
            least = least_seconds(own, [samples[0][spec.name] for spec in own.inputs], probes[threads].limits)
            yield to_row(comparison, compiled.report.multiply_accumulates, least)


def to_row(comparison: Comparison, multiply_accumulates: int, least: float) -> Row:
    """What is kept of a comparison: ``multiply_accumulates`` of one sample, ``least`` seconds that the limits allow."""
    figures = comparison.to_dict()
    kept = (*KEY, "versions", "timings", "sqc_time_over_peer")
    own = {"multiply_accumulates": multiply_accumulates, "limit_ms": least * 1e3}
    return {**{name: figures[name] for name in kept}, **own}


def times_faster(row: Row, best: bool = False) -> float | None:
    """The time of the quickest int8 engine over sqc's; None without engines."""
    if best:
        own = row["timings"][OWN]["best_ms"]
        ratios = [own / timing["best_ms"] for name, timing in row["timings"].items() if _rival(name)]
    else:
        ratios = [ratio for name, ratio in row["sqc_time_over_peer"].items() if _rival(name)]
    return 1 / max(ratios) if ratios else None


def share_of_limit(row: Row, best: bool = False) -> str:
    """The time that the limits allow over sqc's, in per cent; a dash where no limits were measured."""
    own = row["timings"][OWN]
    return f"{row['limit_ms'] / own['best_ms' if best else 'median_ms']:.0%}" if "limit_ms" in row else "-"


def _rival(engine: str) -> bool:
    return engine != OWN and engine.endswith(" int8")


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def table(rows: Sequence[Row], best: bool = False) -> str:
    """A line for each cell, then what they come to: by model, and in all."""
    rows = sorted(rows, key=lambda row: (NAMES.index(row["model"]), row["batch"], row["threads"]))
    engines = [name for name in TITLES if any(name in row["timings"] for row in rows)]
    figure = "best_ms" if best else "median_ms"
    lines = []
    for row in rows:
        times = [f"{row['timings'][name][figure]:.3f}" if name in row["timings"] else "-" for name in engines]
        factor = times_faster(row, best)
        mark = "-" if factor is None else f"{factor:.2f}" if factor >= GOAL else f"**{factor:.2f}**"
        rate = row["multiply_accumulates"] * row["batch"] / row["timings"][OWN][figure] / 1e6
        cell = [row["model"], str(row["batch"]), str(row["threads"])]
        lines.append([*cell, *times, f"{rate:.1f}", share_of_limit(row, best), mark])
    columns = [*KEY, *(TITLES[name] for name in engines), "sqc GMAC/s", "of the limit", "times faster"]
    return f"{markdown(columns, lines)}\n{summary(rows, best)}"


def summary(rows: Sequence[Row], best: bool = False) -> str:
    """The geometric mean and the least of *times faster*, of each model and of all cells; the cells below ``GOAL``."""
    compared = [(row, factor) for row in rows if (factor := times_faster(row, best)) is not None]
    if not compared:
        return ""
    by_model: dict[str, list[float]] = {}
    for row, factor in compared:
        by_model.setdefault(row["model"], []).append(factor)
    lines = [
        [name, str(len(factors)), f"{geometric_mean(factors):.2f}", f"{min(factors):.2f}"]
        for name, factors in by_model.items()
    ]
    factors = [factor for group in by_model.values() for factor in group]
    lines.append(["**all**", str(len(factors)), f"**{geometric_mean(factors):.2f}**", f"**{min(factors):.2f}**"])
    slow = [
        f"{row['model']} (batch {row['batch']}, {row['threads']} thread(s)): "
        f"{factor:.2f}, {share_of_limit(row, best)} of the limit"
        for row, factor in compared
        if factor < GOAL
    ]
    found = f"{len(slow)} of {len(factors)} cells are below {GOAL}" + (f": {'; '.join(slow)}.\n" if slow else ".\n")
    return markdown(["model", "cells", "times faster, geometric mean", "least"], lines) + "\n" + found


def parse_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of models beside other engines.")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--batches", type=parse_numbers, default=[], help="by commas; default: each model's own")
    parser.add_argument("--threads", type=parse_numbers, default=[1, 2], help="numbers of threads by commas")
    parser.add_argument("--against", default="onnxruntime,openvino", help="engines by commas")
    parser.add_argument(
        "--float-batches", type=parse_numbers, default=[1], help="time engines in float too at these batch sizes"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each engine and cell")
    parser.add_argument("--best", action="store_true", help="show the quickest runs instead of medians")
    parser.add_argument("--missing", action="store_true", help="measure only what the file of --json lacks")
    parser.add_argument("--json", type=Path, help="merge all figures into this file")
    arguments = parser.parse_args()
    peers = [load_peer(name) for name in arguments.against.split(",") if name]
    results = Results(arguments.json)
    known = {tuple(row[name] for name in KEY) for row in results.rows(SECTION)} if arguments.missing else set()
    with choose(arguments.models) as models:
        work = [
            (model, cells)
            for model in models
            if (
                cells := [
                    (batch, threads)
                    for batch in model.batches
                    for threads in arguments.threads
                    if batch in (arguments.batches or model.batches) and (model.name, batch, threads) not in known
                ]
            )
        ]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as progress:
            task = progress.add_task("", total=sum(len(cells) for _, cells in work))

            def say(title: str) -> None:
                progress.update(task, description=title)

            target = Target.parse("native")
            probes = {
                threads: Probe(target, threads) for threads in {threads for _, cells in work for _, threads in cells}
            }
            for model, cells in work:
                for row in measure(model, cells, peers, probes, arguments.float_batches, arguments.seconds, say):
                    results.merge(SECTION, [row], KEY, row.pop("versions"))
                    cell = f"{model.name}, batch {row['batch']}, {row['threads']} thread(s)"
                    factor = times_faster(row, arguments.best)
                    progress.console.print(f"{cell}: {factor:.2f} times faster" if factor else cell)
                    progress.advance(task)
    if rows := results.rows(SECTION):
        print(table(rows, arguments.best))


if __name__ == "__main__":
    main()
