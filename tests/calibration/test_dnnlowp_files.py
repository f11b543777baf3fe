"""Text files of DNNLOWP: every form of a line is read, what is written is read again, and all else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.calibration import Calibration, Histogram, Statistics, accumulate
from sqc.calibration.dnnlowp_files import write_histograms, write_minmax
from sqc.errors import CalibrationError


def statistics() -> Statistics:
    rng = np.random.default_rng(0)
    result = Statistics()
    accumulate(result, {"conv1/y": rng.standard_normal(5000), "relu": rng.random(300) * 4, "zero": np.zeros(3)}, 3)
    return result


@pytest.mark.parametrize("op_type", ["", "Conv "], ids=["old", "new"])
def test_lines_of_both_ages(tmp_path: Path, op_type: str) -> None:
    path = tmp_path / "observed"
    path.write_text(f"0 {op_type}0 a -0.5 1.5\n\n12 {op_type}1 b 0 4\n")
    calibration = Calibration.load(path)
    assert calibration.names == ("a", "b")
    assert [calibration.range(name, "minmax") for name in "ab"] == [(-0.5, 1.5), (0, 4)]
    path.write_text(f"0 {op_type}0 a -1 3 4 10 20 30 40\n1 {op_type}0 b 1 1 2 5 0\n")
    calibration = Calibration.load(path)
    histogram = calibration.histogram("a")
    assert (histogram.minimum, histogram.maximum, histogram.total) == (-1, 3, 100)
    assert histogram.counts[: -histogram.first].sum() == 10
    assert calibration.histogram("b") == Histogram.of([1.0] * 5)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_minmax(statistics(), tmp_path / "minmax")
    write_histograms(statistics(), tmp_path / "histogram")
    assert (tmp_path / "minmax").read_text().splitlines()[2] == "2 Tensor 0 zero 0.0 0.0"
    lines = (tmp_path / "histogram").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [2048 + 7] * 3
    for file in ("minmax", "histogram"):
        calibration = Calibration.load(tmp_path / file)
        for name, tensor in statistics().tensors.items():
            histogram = calibration.histogram(name)
            extremes = tensor.histogram.minimum, tensor.histogram.maximum
            assert (histogram.minimum, histogram.maximum) == extremes
            assert file == "minmax" or histogram.total == tensor.histogram.total
            assert (calibration.moments(name), calibration.channels(name)) == (None, None)
            assert calibration.batch_ranges(name).shape == (0, 2)
    assert calibration.inputs == {}


def test_ranges_of_a_histogram_file_are_near_those_of_the_calibration(tmp_path: Path) -> None:
    own = Calibration(statistics())
    write_histograms(own.statistics, tmp_path / "h")
    read = Calibration.load(tmp_path / "h")
    for name in own.names:
        width = own.histogram(name).bin_width
        np.testing.assert_allclose(read.range(name), own.range(name), rtol=0, atol=20 * width)


def test_lines_of_one_name_are_merged(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("0 Conv 0 x -1 2\n1 Relu 0 x 0 3\n")
    assert Calibration.from_dnnlowp(tmp_path / "m").range("x", "minmax") == (-1, 3)


def test_they_merge_with_calibrations(tmp_path: Path) -> None:
    write_histograms(statistics(), tmp_path / "h")
    merged = Calibration(statistics()).merge(Calibration.load(tmp_path / "h"))
    assert merged.histogram("relu").total == 600
    assert merged.moments("relu") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 Conv 0 x 1 2\n1 Conv 0", "line 2: 3 words"),
        ("0 Conv 0 x 1 2 3 4 5", "line 1: 9 words"),
        ("0 Conv 0 x one 2", "line 1: could not convert"),
        ("0 Conv 0 x nan 2", "is no range of tensor 'x'"),
        ("0 Conv 0 x 3 2", r"\[3, 2\] is no range"),
        ("0 Conv 0 x 1e39 2e39", "is no range"),
        ("0 Conv 0 x 0 2 2 -1 5", "negative"),
        ("0 Conv 0 x 0 2 2 1.5 5", "line 1: invalid literal"),
    ],
)
def test_other_text(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(CalibrationError, match=complaint):
        Calibration.load(tmp_path / "t")


def test_files_and_names_that_do_not_serve(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot read"):
        Calibration.from_dnnlowp(tmp_path / "missing")
    (tmp_path / "text").write_text("no numbers")
    with pytest.raises(CalibrationError, match="holds no calibration statistics"):
        Calibration.load(tmp_path / "text")
    (tmp_path / "empty").write_text("")
    with pytest.raises(CalibrationError, match="no samples"):
        Calibration.from_dnnlowp(tmp_path / "empty")
    spaced = Statistics()
    accumulate(spaced, {"a b": np.ones(2)})
    with pytest.raises(CalibrationError, match="'a b' holds white space"):
        write_minmax(spaced, tmp_path / "m")
    with pytest.raises(CalibrationError, match="cannot write"):
        write_minmax(statistics(), tmp_path / "nowhere" / "m")
