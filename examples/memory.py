"""Memory at run time: peaks beside other engines, the arena beside its lower bound, pages shared between processes.

    SQC_TEST_DATA=folder python examples/memory.py [--parts peak,arena,sharing] [--models a,b] [--json results.json]

*peak*: a fresh process loads an int8 model and runs it 20 times at batch 1 with one thread. *arena*: what one run needs
for activations. *sharing*: ten processes map one library. Prints tables in Markdown; *peak* needs
``pip install 'sqc[bench]'``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from child_process import measure
from results import Results, Row, markdown, mebibytes
from rich.console import Console
from rich.progress import track
from run_engine import ENGINES
from timed_models import NAMES, TimedModel, choose

import sqc
from sqc.bench.peers import load_peer
from sqc.bench.static_model import static_model
from sqc.pieces import whole_pieces

PEAK_MODELS = "imagenet_mobilenet_v2,resnet50"
RUN_ENGINE = str(Path(__file__).with_name("run_engine.py"))
PROCESSES = 10
GOAL = 1.05
"""Arenas larger than their lower bound by more than this factor are pointed out."""


def compile_model(model: TimedModel, batches: Sequence[int], samples: int | None = None) -> sqc.compiler.CompiledModel:
    graph = sqc.import_onnx(model.path)
    return sqc.compile(graph, sqc.calibrate(graph, [model.inputs()[:samples]]), batch=batches)


def write_input(model: TimedModel, folder: Path) -> Path:
    """An .npz with the first calibration input."""
    path = folder / "input.npz"
    np.savez(path, **{sqc.import_onnx(model.path).inputs[0].name: model.inputs()[:1]})
    return path


def write_int8(engine: str, model: TimedModel, folder: Path) -> Path:
    """The model at batch 1 as ``engine`` quantizes it, in a file that it loads."""
    if engine == "sqc":
        compile_model(model, (1,)).save(folder / "model.so")
        return folder / "model.so"
    peer = load_peer(engine)
    feeds = {sqc.import_onnx(model.path).inputs[0].name: model.inputs()}
    return peer.save(peer.quantize(static_model(model.path, 1), whole_pieces(feeds, 1)), folder)


def peaks(model: TimedModel) -> Iterator[Row]:
    """The peak of a process for each engine, and what it exceeds that of numpy and the input alone by."""
    with TemporaryDirectory(prefix="sqc-memory-") as name:
        folder = Path(name)
        source = str(write_input(model, folder))
        base = measure([sys.executable, RUN_ENGINE, "none", "", source]).peak_bytes
        for engine in ENGINES:
            file = write_int8(engine, model, folder)
            peak = measure([sys.executable, RUN_ENGINE, engine, str(file), source]).peak_bytes
            yield {"model": model.name, "engine": engine, "peak_bytes": peak, "net_bytes": peak - base}


def arenas(model: TimedModel) -> Iterator[Row]:
    """The arena at each batch size. Two samples do for the calibration: sizes don't depend on it."""
    for program in compile_model(model, model.batches, 2).plan.programs:
        yield {
            "model": model.name,
            "batch": program.inputs[0].shape[0],
            "arena_bytes": program.arena_bytes,
            "live_bytes": program.live_bytes,
        }


def sharing(model: TimedModel) -> Iterator[Row]:
    """Resident and proportional size of a library's pages, summed over one and over ten processes that run it."""
    with TemporaryDirectory(prefix="sqc-memory-") as name:
        library = write_int8("sqc", model, Path(name)).resolve()
        source = write_input(model, Path(name))
        for count in (1, PROCESSES):
            totals = mapped(library, source, count)
            yield {"model": model.name, "processes": count, "library_bytes": library.stat().st_size, **totals}


def mapped(library: Path, source: Path, count: int) -> dict[str, int]:
    """Sums over ``count`` processes that run ``library`` at the same time, of what the kernel says of its pages."""
    command = [sys.executable, RUN_ENGINE, "sqc", str(library), str(source), "--hold"]
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                sys.exit(f"a process that ran {library.name} ended early")
        pages = [pages_of(process.pid, library) for process in running]
        return {f"{name}_bytes": sum(page[name] for page in pages) for name in ("rss", "pss", "private_dirty")}
    finally:
        for process in running:
            process.communicate()


def pages_of(process: int, file: Path) -> dict[str, int]:
    """Bytes by kind (rss, pss, private_dirty ...) of the mappings of ``file`` in a process, from its smaps."""
    totals: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if "-" in name and " " in name:  # "start-end flags offset device inode path"
            inside = line.endswith(f" {file}")
        elif inside and value.endswith(" kB"):
            totals[name.lower()] = totals.get(name.lower(), 0) + int(value.split()[0]) * 1024
    return totals


def peak_table(rows: Sequence[Row]) -> str:
    titles = {"sqc": "sqc", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    columns = ["model", *(f"{titles[engine]} {kind}, MiB" for engine in ENGINES for kind in ("peak", "net"))]
    cells: dict[str, dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(row["model"], {})[row["engine"]] = row
    return markdown(
        columns,
        (
            [name, *(mebibytes(found[engine][f"{kind}_bytes"]) for engine in ENGINES for kind in ("peak", "net"))]
            for name, found in cells.items()
        ),
    )


def arena_table(rows: Sequence[Row]) -> str:
    lines = []
    for row in sorted(rows, key=lambda row: (NAMES.index(row["model"]), row["batch"])):
        ratio = row["arena_bytes"] / row["live_bytes"] if row["live_bytes"] else 1.0
        mark = f"{ratio:.3f}" if ratio <= GOAL else f"**{ratio:.3f}**"
        sizes = (f"{row[name] / 1024:,.1f}" for name in ("arena_bytes", "live_bytes"))
        lines.append([row["model"], str(row["batch"]), *sizes, mark])
    return markdown(["model", "batch", "arena, KiB", "lower bound, KiB", "arena / bound"], lines)


def sharing_table(rows: Sequence[Row]) -> str:
    kinds = ("library_bytes", "rss_bytes", "pss_bytes", "private_dirty_bytes")
    columns = ["model", "processes", "library, MiB", "sum of Rss, MiB", "sum of Pss, MiB", "private dirty, MiB"]
    return markdown(columns, ([r["model"], str(r["processes"]), *(f"{r[k] / 2**20:.2f}" for k in kinds)] for r in rows))


PARTS: dict[str, tuple[Callable[[TimedModel], Iterable[Row]], tuple[str, ...], Callable[[Sequence[Row]], str], str]] = {
    "peak": (peaks, ("model", "engine"), peak_table, PEAK_MODELS),
    "arena": (arenas, ("model", "batch"), arena_table, ""),
    "sharing": (sharing, ("model", "processes"), sharing_table, PEAK_MODELS),
}
"""For each part how to measure a model, what tells rows apart, how to show them, and the models by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of compiled models at run time.")
    parser.add_argument("--parts", default=",".join(PARTS), help="by commas; default: all")
    parser.add_argument("--models", default="", help="names by commas; default: what suits the part")
    parser.add_argument("--json", type=Path, help="merge the figures into this file")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown parts: {', '.join(unknown)}; known: {', '.join(PARTS)}")
    results = Results(arguments.json)
    for part in parts:
        measure_part, key, table, default = PARTS[part]
        versions = {"sqc": sqc.__version__}
        if part == "peak":
            versions.update({name: load_peer(name).version for name in ENGINES if name != "sqc"})
        with choose(arguments.models or default) as models:
            for model in track(models, part, console=Console(stderr=True)):
                results.merge(part, measure_part(model), key, versions)
        print(table(results.rows(part)))


if __name__ == "__main__":
    main()
