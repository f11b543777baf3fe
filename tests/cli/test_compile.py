"""From the digits model to a library and back, by the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tests.cli.conftest import DIGITS, Sqc


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, calibration_file: Path) -> Path:
    """The digits model in int8, compiled once."""
    from click.testing import CliRunner

    from sqc.cli.commands import cli

    path = tmp_path_factory.mktemp("library") / "digits.so"
    arguments = ["compile", str(DIGITS), "--calibration-data", str(calibration_file), "-o", str(path), "--batch", "1"]
    result = CliRunner().invoke(cli, [*arguments, "--batch", "4", "--json", str(path.with_suffix(".json"))])
    assert result.exit_code == 0, result.output
    assert "100.0% of 456,704 multiply-accumulates in int8" in result.output
    assert f"wrote {path}" in result.output
    return path


def test_the_report_names_every_layer(library: Path) -> None:
    report = json.loads(library.with_suffix(".json").read_text())
    names = " ".join(row["name"] for row in report["rows"])
    for name in ("conv1", "conv2", "fc"):
        assert name in names
    assert report["int8_share"] == 1.0


@pytest.mark.parametrize("samples", [1, 4, 6])
def test_run(sqc: Sqc, library: Path, tmp_path: Path, samples: int) -> None:
    images = np.random.default_rng(2).integers(0, 17, (samples, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    result = sqc("run", library, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.exit_code == 0, result.output
    logits = np.load(tmp_path / "y.npy")
    (expected,) = ReferenceEvaluator(str(DIGITS)).run(None, {"image": images})
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(logits, expected, atol=0.15 * np.abs(expected).max())


def test_run_refuses_other_types(sqc: Sqc, library: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8)))
    result = sqc("run", library, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.exit_code == 1
    assert "float64" in result.output
    assert not (tmp_path / "y.npy").exists()


def test_inspect(sqc: Sqc, library: Path) -> None:
    result = sqc("inspect", library)
    assert result.exit_code == 0, result.output
    assert "image" in result.output
    assert "4x1x8x8" in result.output
    assert "100.0% of 456,704 multiply-accumulates in int8" in result.output
    description = json.loads(sqc("inspect", "--json", library).output)
    assert [len(variant["inputs"]) for variant in description["variants"]] == [1, 1]


def test_bench(sqc: Sqc, library: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    result = sqc("bench", library, "--batch", 4, "--seconds", 0.02, "--rounds", 2, "--json", output)
    assert result.exit_code == 0, result.output
    figures = json.loads(output.read_text())
    assert figures["batch"] == 4
    assert figures["timings"]["sqc int8"]["median_ms"] > 0
    assert figures["profile"]
    refused = sqc("bench", library, "--preset", "best")
    assert refused.exit_code == 1 and "need the .onnx model" in refused.output
    result = sqc("bench", library, "--batch", 3)
    assert (result.exit_code, result.output) == (1, "Error: the library was compiled for batch 1, 4, not 3\n")


@pytest.fixture
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are measured in no time."""
    sizes = {"L1": 16 << 10, "L2": 32 << 10, "L3": 256 << 10}
    monkeypatch.setattr("sqc.bench.limits.cache_sizes", lambda: sizes)


@pytest.mark.usefixtures("small_caches")
def test_bench_profile(sqc: Sqc, library: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output, page = tmp_path / "out.json", tmp_path / "out.html"
    quick = ("--batch", 4, "--seconds", 0.02, "--rounds", 2)
    result = sqc("bench", library, *quick, "--profile", "--html", page, "--json", output)
    assert result.exit_code == 0, result.output
    for word in ("int8 products", "reading L1", "computes", "schedule", "GMAC/s", "GB/s", "conv1", f"wrote {page}"):
        assert word in result.output
    kernels = json.loads(output.read_text())["kernel_profile"]["kernels"]
    assert sum(kernel["multiply_accumulates"] for kernel in kernels) == 4 * 456_704
    assert "<svg" in page.read_text()


@pytest.mark.usefixtures("small_caches")
def test_bench_peak(sqc: Sqc, library: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    quick = ("--seconds", 0.02, "--rounds", 2, "--json", output)
    result = sqc("bench", "--peak", "--threads", 2, *quick)
    assert result.exit_code == 0, result.output
    assert json.loads(output.read_text())["limits"]["threads"] == 2
    result = sqc("bench", library, "--peak", *quick)
    assert result.exit_code == 0, result.output
    assert json.loads(output.read_text())["limits"]["products"]["int8"] > 0


@pytest.mark.parametrize("arguments", [(), ("--profile",), ("--peak", "--html", "out.html")], ids=str)
def test_bench_needs_a_model(sqc: Sqc, arguments: tuple[str, ...]) -> None:
    result = sqc("bench", *arguments)
    assert result.exit_code == 2
    assert "give a MODEL" in result.output


def test_bench_html_needs_matplotlib(sqc: Sqc, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = sqc("bench", library, "--html", tmp_path / "out.html")
    assert result.exit_code == 1
    assert "matplotlib is not installed: pip install 'sqc[report]'" in result.output
    assert not (tmp_path / "out.html").exists()


@pytest.mark.filterwarnings("ignore")
def test_bench_beside_another_engine(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", exc_type=ImportError)
    output = tmp_path / "out.json"
    data = ("--calibration-data", calibration_file, "--against", "onnxruntime", "--float", "--preset", "accurate")
    result = sqc("bench", DIGITS, *data, "--seconds", 0.02, "--rounds", 2, "--json", output)
    assert result.exit_code == 0, result.output
    ratios = json.loads(output.read_text())["sqc_time_over_peer"]
    assert list(ratios) == ["sqc float", "onnxruntime float", "onnxruntime int8"]


def test_saved_calibration_gives_the_same_library(
    sqc: Sqc, library: Path, calibration_file: Path, tmp_path: Path
) -> None:
    saved, output = tmp_path / "digits.calibration", tmp_path / "digits.so"
    assert sqc("calibrate", DIGITS, "--calibration-data", calibration_file, "-o", saved).exit_code == 0
    batches = ("--batch", "1,4")
    result = sqc("compile", DIGITS, "--calibration", saved, *batches, "-o", output, "--print-after", "dead-code")
    assert result.exit_code == 0, result.output
    assert "// after dead-code, run 1" in result.output
    assert output.read_bytes() == library.read_bytes()


def test_float_needs_no_calibration(sqc: Sqc, tmp_path: Path) -> None:
    result = sqc("compile", DIGITS, "--float", "-o", tmp_path / "digits.so")
    assert result.exit_code == 0, result.output
    assert "0.0% of 456,704 multiply-accumulates in int8" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "int8 needs one of --calibration-data"),
        (("--float", "--calibration-data", "CALIBRATION"), "--float needs none"),
        (("--ranges", "widest"), "no range search 'widest'; did you mean minmax, auto, l1, l2"),
        (("--target", "z80"), "unknown target 'z80'"),
        (("--print-after", "polish"), "unknown passes: polish"),
        (("--calibration-data", "CALIBRATION", "--exclude", "conv9"), "cannot exclude conv9"),
    ],
)
def test_mistakes_are_found_and_nothing_is_written(
    sqc: Sqc, calibration_file: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = [str(calibration_file) if argument == "CALIBRATION" else argument for argument in arguments]
    result = sqc("compile", DIGITS, "-o", tmp_path / "digits.so", *given)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert not list(tmp_path.iterdir())


def test_calibration_data_that_are_not_finite(sqc: Sqc, tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", image=np.full((4, 1, 8, 8), np.nan, np.float32))
    result = sqc("compile", DIGITS, "--calibration-data", tmp_path / "calib.npz", "-o", tmp_path / "digits.so")
    assert result.exit_code == 1
    assert "NaN" in result.output
    assert not (tmp_path / "digits.so").exists()


def test_ranges_by_rule(sqc: Sqc, calibration_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "digits.so"
    rules = ("--ranges", "minmax", "--ranges", "input=l2", "--ranges", "conv2d=kl,weights:l2,weight-bits:7")
    result = sqc("compile", DIGITS, "-o", output, "--calibration-data", calibration_file, *rules)
    assert result.exit_code == 0, result.output
    assert output.exists()
    mistyped = ("--ranges", "/haed/*=l2")
    result = sqc("compile", DIGITS, "-o", output, "--calibration-data", calibration_file, *mistyped)
    assert result.exit_code == 1
    assert "the rule for '/haed/*' matches no kind of op, node or tensor" in result.output


def test_modes_without_calibration(sqc: Sqc, tmp_path: Path) -> None:
    from sqc.cli.compile import command
    from sqc.modes import MODES

    (option,) = (option for option in command.params if option.name == "mode")
    assert tuple(option.type.choices) == MODES  # type: ignore[attr-defined]
    result = sqc("compile", DIGITS, "--mode", "dynamic", "-o", tmp_path / "dynamic.so")
    assert result.exit_code == 0, result.output
    result = sqc("compile", DIGITS, "--mode", "dynamic", "--float", "-o", tmp_path / "float.so")
    assert "--float and --mode dynamic exclude each other" in result.output
