"""``sqc blame``, ``sqc compare`` and ``sqc compile --max-drop`` on the digits model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import DIGITS, Sqc


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    np.save(tmp_path / "labels.npy", np.arange(16) % 10)
    return tmp_path / "labels.npy"


def test_blame(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    data = ["--calibration-data", calibration_file, "--eval-data", calibration_file]
    html, figures = tmp_path / "page.html", tmp_path / "blame.json"
    options = ["--samples", 8, "--mend", 1, "--preset", "accurate"]
    result = sqc("blame", DIGITS, *data, *options, "--html", html, "--json", figures)
    assert result.exit_code == 0, result.output
    report = json.loads(figures.read_text())
    assert report["samples"] == 8
    worst = report["layers"][0]
    assert worst["node"] in result.output and f"--exclude {worst['exclude'][0]}" in result.output
    assert worst["gain"] is not None and "gains" in result.output
    assert html.read_text().count("<svg") >= len(report["layers"])


def test_blame_of_a_quantized_graph(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    import sqc as package
    from sqc.cli.files import write_text_graph

    graph = package.import_onnx(DIGITS)
    images = np.load(calibration_file)["image"]
    write_text_graph(package.quantize(graph, package.calibrate(graph, [images])), tmp_path / "int8.sqc")
    given = ["blame", DIGITS, "--quantized", tmp_path / "int8.sqc", "--eval-data", calibration_file]
    result = sqc(*given)
    assert result.exit_code == 0 and "conv1" in result.output, result.output
    for option in (["--calibration-data", calibration_file], ["--preset", "best"]):
        refused = sqc(*given, *option)
        assert refused.exit_code == 1 and "as it is" in refused.output


def test_compare(sqc: Sqc, calibration_file: Path, labels: Path, tmp_path: Path) -> None:
    data = ["--eval-data", calibration_file, "--labels", labels]
    result = sqc("compare", DIGITS, "--calibration-data", calibration_file, *data, "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    (output,) = json.loads((tmp_path / "c.json").read_text())["outputs"]
    assert 0 < output["agreement"] <= 1 and output["snr"] > 10
    assert 0 <= output["top1"] <= 1 and f"{output['float_top1']:.2%}" in result.output


def test_presets_are_nearer_to_float(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    """Blame and compare measure what the preset gives, on the inputs that it was fitted to."""
    data = ["--calibration-data", calibration_file, "--eval-data", calibration_file, "--json", tmp_path / "c.json"]
    found: dict[str, list[float]] = {"blame": [], "compare": []}
    for preset in ("fast", "best"):
        for command, ratios in found.items():
            result = sqc(command, DIGITS, *data, "--preset", preset, *(["--mend", 0] if command == "blame" else []))
            assert result.exit_code == 0, result.output
            figures = json.loads((tmp_path / "c.json").read_text())
            ratios.append(figures["output_snr"] if command == "blame" else figures["outputs"][0]["snr"])
    for fast, best in found.values():
        assert best > fast


def test_labels_must_be_integers(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.zeros(16))
    data = ["--calibration-data", calibration_file, "--eval-data", calibration_file]
    result = sqc("compare", DIGITS, *data, "--labels", tmp_path / "y.npy")
    assert result.exit_code == 1 and "one integer for each sample, not float64[16]" in result.output


def test_compile_within_a_goal(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    data = ["--calibration-data", calibration_file, "-o", tmp_path / "m.so"]
    result = sqc("compile", DIGITS, *data, "--max-drop", 100, "--preset", "accurate", "--json", tmp_path / "m.json")
    assert result.exit_code == 0, result.output
    assert "all layers in int8 meet the goal" in result.output and "4 samples" in result.output
    assert json.loads((tmp_path / "m.json").read_text())["mixed_precision"]["exclude"] == []


def test_goals_need_something_that_judges(sqc: Sqc, calibration_file: Path, labels: Path, tmp_path: Path) -> None:
    given = ["compile", DIGITS, "--calibration-data", calibration_file, "-o", tmp_path / "m.so"]
    for options, message in (
        (["--max-drop", 1, "--labels", labels], "is judged by --eval-data"),
        (["--labels", labels], "judge --max-drop"),
        (["--max-drop", 1, "--float"], "leave --float out"),
    ):
        result = sqc(*given, *options)
        assert result.exit_code == 1 and message in result.output
        assert not (tmp_path / "m.so").exists()
