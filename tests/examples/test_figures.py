"""The page of figures."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples.conftest import EXAMPLES

PROFILE: dict[str, Any] = {
    "model": "resnet50.onnx",
    "batch": 1,
    "threads": 1,
    "kernel_profile": {
        "seconds": 0.02,
        "multiply_accumulates": 4_000_000_000,
        "share_of_limits": 0.93,
        "share_of_compute": 0.85,
        "limits": {"levels": [{"capacity": 1000, "bandwidth": 1e9}, {"capacity": 0, "bandwidth": 1e6}]},
        "kernels": [
            {
                "node": "conv_0",
                "op": "depthwise 7x7",
                "parts": ["qconv2d", "requantize"],
                "read_bytes": 800,
                "written_bytes": 500,
                "seconds": 0.0005,
                "multiply_accumulates_per_second": 2e11,
                "bytes_per_second": 3e9,
                "limit": "compute",
                "share_of_limit": 0.85,
                "reason": "",
            }
        ],
    },
}


TUNING: dict[str, Any] = {
    "mlp": {
        "whole": [{"batch": 1, "threads": 2, "untuned_ms": 2.0, "tuned_ms": 1.8, "tuned_over_untuned": 0.9}],
        "ops": [
            {"untuned_ms": 2.0, "best_ms": 1.5, "median_ms": 3.0, "worst_ms": 8.0, "tried": 24, "changed": True},
            {"untuned_ms": 0.0, "best_ms": 0.0, "median_ms": 0.0, "worst_ms": 0.0, "tried": 24, "changed": False},
        ],
        "seconds": 90.0,
    }
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    import figures

    monkeypatch.setattr(sys, "argv", ["figures.py", *map(str, arguments)])
    figures.main()


def test_page_shows_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import figures

    quick = replace(figures.SECTIONS["memory"], script=("memory.py", "--parts", "arena"))
    monkeypatch.setitem(figures.SECTIONS, "memory", quick)
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    run(monkeypatch, "--results", results, "--sections", "memory", "--models", "mlp", "--output", page)
    text = page.read_text()
    assert "## Memory\n\n`SQC_TEST_DATA=folder python examples/memory.py`, on " in text
    assert "| mlp | 64 |" in text
    assert "\n## Speed" not in text
    assert text.endswith(figures_of_avx2())


def figures_of_avx2() -> str:
    return (EXAMPLES / "figures_avx2.md").read_text()


def test_imported_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    profile, tuning = tmp_path / "profile.json", tmp_path / "tuning.json"
    profile.write_text(json.dumps(PROFILE))
    tuning.write_text(json.dumps(TUNING))
    imports = ("--import", f"profile={profile}", "--import", f"tuning={tuning}")
    run(monkeypatch, "--results", results, "--sections", "", *imports, "--output", page)
    text = page.read_text()
    assert "| resnet50.onnx | 1 | 1 | 1 | 20.000 | 200.0 | 93.0% | 85.0% |" in text
    assert "| conv_0 | depthwise 7x7 | 500.0 | 200.0 | 3.0 | compute | 85% | - |" in text
    assert "| resnet50.onnx | 1 | 1 | 0.0% | 0.0% | 0.0% | 5.0% |" in text
    assert "| mlp | 1 | 2 | 2.000 | 1.800 | 0.900 | 1 of 2 | 48 | 0.75 | 1.50 | 4.00 | 1.5 |" in text
    run(monkeypatch, "--results", results, "--sections", "", "--output", page)
    assert page.read_text() == text


def test_bad_imports_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "profile.json"
    file.write_text("{}")
    with pytest.raises(SystemExit, match=r"profile\.json has no figures for the section 'profile'"):
        run(monkeypatch, "--results", tmp_path / "results.json", "--sections", "", "--import", f"profile={file}")
    assert not (tmp_path / "results.json").exists()


def test_the_page_that_is_committed_ends_with_the_older_machine() -> None:
    assert (EXAMPLES / "FIGURES.md").read_text().endswith(figures_of_avx2())
