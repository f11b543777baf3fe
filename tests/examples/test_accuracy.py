"""The tables of accuracy beside other engines, and a small model measured."""

from __future__ import annotations

import shutil
import sys
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.examples.conftest import EXAMPLES

SAMPLES = 100


def row(model: str, engine: str, different: int, **others: Any) -> dict[str, Any]:
    """A model of labelled inputs on which an engine differs ``different`` times, and is wrong each time."""
    from accuracy_tables import pack

    same = np.arange(SAMPLES) >= different
    figures = {
        "samples": SAMPLES,
        "float_top1": 1.0,
        "top1": float(same.mean()),
        "agreement": float(same.mean()),
        "agrees": pack(same),
        "right": pack(same),
        "relative_error": different / 1000,
        "quantize_seconds": 2.5,
        "compile_seconds": None,
        "int8_share": None,
        "peak_bytes": 3 << 20,
    }
    return {"model": model, "engine": engine, **figures, **others}


def two_models() -> list[dict[str, Any]]:
    unlabelled = {"float_top1": None, "top1": None, "right": None}
    return [
        row("a", "sqc fast", 2, int8_share=0.98, compile_seconds=7.0, time_over_fast=1.0),
        row("a", "onnxruntime min-max", 12),
        row("a", "openvino default", 4),
        row("b", "sqc fast", 8, **unlabelled, int8_share=1.0, time_over_fast=1.25),
        row("b", "onnxruntime min-max", 0, **unlabelled),
        row("b", "openvino default", 8, **unlabelled),
    ]


def test_flags_as_text() -> None:
    from accuracy_tables import pack, unpack

    flags = np.random.default_rng(0).random(13) < 0.5
    np.testing.assert_array_equal(unpack(pack(flags), 13), flags)


def test_agreement_table() -> None:
    from accuracy_tables import agreement_table

    lines = agreement_table(two_models()).splitlines()
    assert lines[0] == "| model | samples | float top-1 | sqc fast | ONNX Runtime, min-max | NNCF, default |"
    assert lines[2] == "| a | 100 | 100.00% | **98.00%** (98.00%) | 88.00% (88.00%) | 96.00% (96.00%) |"
    assert lines[3] == "| b | 100 | - | 92.00% | **100.00%** | 92.00% |"
    assert lines[4] == "| **disagreement of 2** |  |  | 4.564% | 2.475% | 6.123% |"


def test_models_without_one_answer_an_input_are_not_compared() -> None:
    from accuracy_tables import agreement_table, significance_table

    anchors = [row("c", engine, 1, agrees=None, right=None, top1=None) for engine in ("sqc fast", "openvino default")]
    codes = [row("d", engine, 1, agrees=None, right=None, top1=None, agreement=None) for engine in ("sqc fast",)]
    text = agreement_table([*two_models(), *anchors, *codes])
    assert "| c | 100 | 100.00% | **99.00%** | - | **99.00%** |" in text
    assert "disagreement of 2" in text
    assert "| d |" not in text
    assert "| c |" not in significance_table([*two_models(), *anchors, *codes])


def test_significance_table_points_out_what_is_worse() -> None:
    from accuracy_tables import significance_table

    lines = significance_table(two_models()).splitlines()
    assert lines[2] == "| a | NNCF, default | 4.455% | 2.475% | 0.56 | 0.500 | 0.500 |"
    assert lines[3] == "| b | ONNX Runtime, min-max | 0.495% | 8.416% | 17.00 | **0.008** | - |"
    assert lines[4] == "| **geometric mean** |  |  |  | **3.07** |  |  |"


def test_small_probabilities() -> None:
    from accuracy_tables import significance_table

    rows = [row("a", "sqc fast", 1), row("a", "openvino default", 90)]
    assert "| a | NNCF, default | 89.604% | 1.485% | 0.02 | < 0.001 | < 0.001 |" in significance_table(rows)


def test_cost_table_points_out_presets_that_are_not_int8() -> None:
    from accuracy_tables import cost_table

    lines = cost_table(two_models()).splitlines()
    assert lines[2] == "| a | sqc fast | **98.00%** | 1.000 | 2.5 | 7.0 | 3.0 |"
    assert lines[3] == "| a | ONNX Runtime, min-max | - | - | 2.5 | - | 3.0 |"
    assert lines[5] == "| b | sqc fast | 100.00% | 1.250 | 2.5 | - | 3.0 |"


def test_error_table() -> None:
    from accuracy_tables import error_table

    assert "| a | 0.20% | 1.20% | 0.40% |" in error_table(two_models())


def test_techniques_are_told_apart_one_at_a_time() -> None:
    from quantize_engine import PRESETS, RECIPES, TECHNIQUES

    from sqc.recipe import recipe_of

    assert [engine for engine in TECHNIQUES if engine in PRESETS] == [*PRESETS]
    told = [
        (RECIPES[engine].get("ranges"), *astuple(recipe_of(RECIPES[engine].get("preset", "fast"))))
        for engine in TECHNIQUES
    ]
    for before, after in pairwise(told):
        assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


def test_a_small_model_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    import accuracy
    import zoo
    from accuracy_tables import SECTION
    from results import Results

    def pictures(split: zoo.Split) -> zoo.Raw:
        rng = np.random.default_rng(len(split))
        return zoo.Raw(rng.integers(0, 17, (20, 1, 8, 8)).astype(np.float32), np.zeros(20))

    (tmp_path / "digits").mkdir()
    shutil.copy(EXAMPLES / "digits.onnx", tmp_path / "digits" / "model.onnx")
    monkeypatch.setenv("SQC_TEST_DATA", str(tmp_path))
    monkeypatch.setitem(zoo.ZOO, "digits", zoo.ZooModel("digits", pictures, zoo.unchanged))
    path = tmp_path / "results.json"
    command = ["accuracy.py", "--models", "digits", "--seconds", "0.01", "--limit", "18", "--json", str(path)]
    for engines, options in (("onnxruntime min-max", []), ("onnxruntime min-max,sqc best", ["--missing"])):
        before = Results(path).rows(SECTION)
        monkeypatch.setattr(sys, "argv", [*command, "--engines", engines, *options])
        accuracy.main()
        rows = Results(path).rows(SECTION)
        assert rows[: len(before)] == before
    peer, *own = rows
    assert [row["engine"] for row in rows] == ["onnxruntime min-max", "sqc fast", "sqc best"]
    for found in rows:
        assert found["samples"] == 18
        assert found["agreement"] > 0.7
        assert 0 < found["relative_error"] < 0.1
        assert found["quantize_seconds"] > 0
        assert found["peak_bytes"] > 32 << 20
        assert found["float_top1"] == peer["float_top1"]
    assert own[0]["time_over_fast"] == 1.0
    assert all(row["int8_share"] == 1.0 and row["time_over_fast"] > 0.0 for row in own)
    assert "| digits | 18 | " in capsys.readouterr().out


def test_unknown_engines_are_all_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import accuracy

    monkeypatch.setenv("SQC_TEST_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--engines", "turtle,sqc fast,hare"])
    with pytest.raises(SystemExit):
        accuracy.main()
    assert "unknown engines: turtle, hare; known: sqc fast, " in capsys.readouterr().err
