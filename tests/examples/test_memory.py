"""Memory of processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_a_process_is_measured_alone() -> None:
    from child_process import measure

    ballast = b"x" * (200 << 20)  # a child must not count what its parent holds
    small = measure([sys.executable, "-S", "-c", "pass"])
    large = measure([sys.executable, "-S", "-c", "x = b'x' * (100 << 20)"])
    assert len(ballast) > 2 * small.peak_bytes
    assert 90 << 20 < large.peak_bytes - small.peak_bytes < 110 << 20
    assert small.seconds > 0


def test_a_failure_is_shown() -> None:
    from child_process import measure

    with pytest.raises(SystemExit, match=r"ended with 1:\n(.|\n)*ZeroDivisionError"):
        measure([sys.executable, "-c", "1 / 0"])
    with pytest.raises(SystemExit, match="cannot run no-such-program"):
        measure(["no-such-program"])


@pytest.mark.parametrize("part", ["arena", "sharing"])
def test_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    import memory
    from results import Results

    path = tmp_path / "results.json"
    monkeypatch.setattr(memory, "PROCESSES", 3)
    monkeypatch.setattr(sys, "argv", ["memory.py", "--parts", part, "--models", "mlp", "--json", str(path)])
    memory.main()
    rows = Results(path).rows(part)
    if part == "arena":
        assert [row["batch"] for row in rows] == [1, 64]
        assert all(0 < row["live_bytes"] <= row["arena_bytes"] <= 1.05 * row["live_bytes"] for row in rows)
    else:
        one, three = rows
        assert (one["processes"], three["processes"]) == (1, 3)
        # Every process maps the weights, and they are there once.
        assert three["rss_bytes"] > 2.9 * one["rss_bytes"]
        assert three["pss_bytes"] < 1.2 * one["pss_bytes"]


def test_peak_beside_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    import memory
    from timed_models import choose

    monkeypatch.setattr(memory, "ENGINES", ("sqc", "onnxruntime"))
    with choose("mlp") as models:
        rows = list(memory.peaks(models[0]))
    assert [row["engine"] for row in rows] == ["sqc", "onnxruntime"]
    assert all(0 < row["net_bytes"] < row["peak_bytes"] for row in rows)
