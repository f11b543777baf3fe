"""Latency of every model of the zoo beside ONNX Runtime and OpenVINO, at one and at two threads.

    SQC_TEST_DATA=folder python examples/speed.py [--models a,b] [--threads 1,2] [--best] [--json out.json]

Prints a table in Markdown; the figures are medians in milliseconds, or with ``--best`` the quickest runs, which say
more on a machine that others use too. Needs ``pip install 'sqc[bench]'``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from zoo import ZooModel, choose

import sqc
from sqc.bench.compare import OWN, SAMPLES, Comparison, compare
from sqc.bench.peers import Peer, load_peer
from sqc.bench.session import prepare, rotated

CALIBRATION_SAMPLES = 64


def measure(model: ZooModel, peers: list[Peer], threads: list[int], seconds: float) -> list[Comparison]:
    """Compile and quantize once, then time at each number of threads."""
    graph = sqc.import_onnx(model.path)
    name = graph.inputs[0].name
    calibration = {name: model.inputs("calib", CALIBRATION_SAMPLES)}
    session = prepare(model.path, graph, calibration, peers)
    samples = rotated(calibration, 1, SAMPLES)
    return [
        compare(session.model, samples, session.rivals, name=model.name, threads=count, seconds=seconds)
        for count in threads
    ]


def cells(comparison: Comparison, best: bool) -> list[str]:
    """A line of the table: every engine's time, then sqc's over that of the quickest int8 engine."""
    times = {name: timing.best if best else timing.median for name, timing in comparison.timings.items()}
    rivals = [name for name in times if name != OWN and name.endswith("int8")]
    ratio = ""
    if rivals:
        first = min(rivals, key=lambda name: times[name])
        ratio = f"{times[OWN] / times[first] if best else comparison.ratios()[first]:.2f}"
    figures = [f"{seconds * 1e3:.3f}" for seconds in times.values()]
    return [comparison.model, str(comparison.threads), *figures, ratio]


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of the zoo's models beside other engines.")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--against", default="onnxruntime,openvino", help="engines by commas")
    parser.add_argument("--threads", default="1,2", help="numbers of threads by commas")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each engine, model and number of threads")
    parser.add_argument("--best", action="store_true", help="show the quickest runs instead of medians")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    peers = [load_peer(name) for name in arguments.against.split(",") if name]
    threads = [int(count) for count in arguments.threads.split(",")]
    engines = [OWN, *(f"{peer.name} {precision}" for peer in peers for precision in ("float", "int8"))]
    columns = ["model", "threads", *engines, "sqc / best int8"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    comparisons: list[Comparison] = []
    for model in choose(arguments.models):
        for comparison in measure(model, peers, threads, arguments.seconds):
            comparisons.append(comparison)
            print("| " + " | ".join(cells(comparison, arguments.best)) + " |", flush=True)
        if arguments.json:
            content = [comparison.to_dict() for comparison in comparisons]
            arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
