"""The table of latencies, and one cell measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


def row(model: str, batch: int, threads: int, own: float, **peers: float) -> dict[str, Any]:
    """A cell whose times are ``own`` ms and, by engine, those of ``peers`` in int8."""
    times = {"sqc int8": own, **{f"{name} int8": ms for name, ms in peers.items()}, "openvino float": own / 10}
    return {
        "model": model,
        "batch": batch,
        "threads": threads,
        "timings": {name: {"median_ms": ms, "best_ms": ms / 2} for name, ms in times.items()},
        "sqc_time_over_peer": {name: own / ms for name, ms in times.items() if name != "sqc int8"},
        "multiply_accumulates": 1_000_000,
        "limit_ms": 0.9,
    }


def test_times_faster_is_over_the_quickest_int8_engine() -> None:
    from speed import times_faster

    assert times_faster(row("mlp", 1, 1, 1.0, onnxruntime=3.0, openvino=2.0)) == 2.0
    assert times_faster(row("mlp", 1, 1, 1.0, onnxruntime=3.0, openvino=2.0), best=True) == 2.0
    assert times_faster(row("mlp", 1, 1, 1.0)) is None


def test_table_sorts_cells_and_points_out_slow_ones() -> None:
    from speed import table

    text = table(
        [
            row("mlp", 64, 1, 1.0, onnxruntime=1.04, openvino=2.0),
            row("mlp", 1, 2, 1.0, onnxruntime=4.0, openvino=5.0),
            row("kws_dscnn", 1, 1, 1.0, onnxruntime=2.0, openvino=9.0),
        ]
    )
    lines = text.splitlines()
    cells = [line.split(" | ")[:3] for line in lines[2:5]]
    assert cells == [["| kws_dscnn", "1", "1"], ["| mlp", "1", "2"], ["| mlp", "64", "1"]]
    assert lines[4].endswith("| 64.0 | 90% | **1.04** |")  # 64 samples of a million products in a millisecond
    assert "| mlp | 2 | 2.04 | 1.04 |" in lines
    assert "| **all** | 3 | **2.03** | **1.04** |" in lines
    assert lines[-1] == "1 of 3 cells are below 1.05: mlp (batch 64, 1 thread(s)): 1.04, 90% of the limit."


def test_table_without_engines_compares_nothing() -> None:
    from speed import table

    text = table([row("mlp", 1, 1, 1.0)])
    assert "| - |" in text
    assert "geometric mean" not in text


def test_cells_are_measured_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    import speed

    path = tmp_path / "results.json"
    command = ["speed.py", "--models", "mlp", "--against", "onnxruntime", "--seconds", "0.001", "--json", str(path)]
    measured = []
    for options in (["--batches", "1", "--threads", "1"], ["--missing"]):
        monkeypatch.setattr(sys, "argv", [*command, *options])
        speed.main()
        rows = json.loads(path.read_text())["speed"]["rows"]
        measured.append([(row["batch"], row["threads"]) for row in rows])
    assert measured == [[(1, 1)], [(1, 1), (1, 2), (64, 1), (64, 2)]]
    assert ["onnxruntime float" in row["timings"] for row in rows] == [True, True, False, False]
    assert "| mlp | 64 | 2 | " in capsys.readouterr().out
