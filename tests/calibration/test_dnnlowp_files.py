"""Text files of DNNLOWP: every form of a line is read, what is written is read again, and all else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqc.calibration import Calibration, Histogram, Statistics, accumulate
from sqc.calibration.dnnlowp_files import (
    Parameters,
    write_column_maxima,
    write_histograms,
    write_minmax,
    write_parameters,
)
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
        ("0 Conv 0 x 1 4 3 4", "line 1: 8 words"),
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


def test_parameters(tmp_path: Path) -> None:
    """What DNNLOWP's own test gives for its histogram, and a tensor of fewer bits; the last line of a name counts."""
    path = tmp_path / "qparams"
    path.write_text(
        "0 Conv 0 x -7.25 6.35 0.05 1 8\n0 Conv 0 x -7.2547355 6.3478932 0.053343643 136 8\n1 Relu 0 y 0 4 0.25 0 4\n"
    )
    calibration = Calibration.load(path)
    assert calibration.names == ("x", "y")
    scale = float(np.float32(0.053343643))
    assert calibration.parameters == {"x": (scale, 136, 8), "y": (0.25, 0, 4)}
    np.testing.assert_allclose(calibration.parameters["x"].range, (-7.2547355, 6.3478932), rtol=1e-6)
    assert calibration.range("y", "minmax") == (0, 4)
    for refused in (lambda: calibration.save(tmp_path / "c"), lambda: Calibration(statistics()).merge(calibration)):
        with pytest.raises(CalibrationError, match="keep the file itself"):
            refused()


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="/_:."), min_size=1),
        st.integers(2, 8).flatmap(
            lambda bits: st.builds(
                Parameters,
                st.floats(float(np.finfo(np.float32).tiny), 2.0**99, width=32),
                st.integers(0, 2**bits - 1),
                st.just(bits),
            )
        ),
        min_size=1,
    )
)
def test_written_parameters_are_read(tmp_path_factory: pytest.TempPathFactory, written: dict[str, Parameters]) -> None:
    path = tmp_path_factory.mktemp("qparams") / "q"
    write_parameters(written, path)
    assert Calibration.load(path).parameters == written


def test_column_maxima(tmp_path: Path) -> None:
    path = tmp_path / "columns"
    path.write_text("3 0 x 1 0.5 2 2 7 1\n3 0 x 0 0 1 1 8\n3 0 x 1 1 1.5 1 2\n")
    calibration = Calibration.load(path)
    channels = calibration.channels("x")
    assert channels is not None and channels.axis == 1
    assert channels.maxima.tolist() == [1, 2] and channels.minima.tolist() == [-1, -2]
    assert calibration.range("x", "minmax") == (-2, 2)


def test_column_maxima_that_are_written_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    seen, data = Statistics(), rng.standard_normal((2, 20, 5)).astype(np.float32)
    for batch in data:
        accumulate(seen, {"fc": batch, "flat": batch[:, 0]}, 20, {"fc": 1})
    write_column_maxima(seen, tmp_path / "c")
    lines = [line.split() for line in (tmp_path / "c").read_text().splitlines()]
    assert [line[:4] for line in lines] == [["0", "0", "fc", str(column)] for column in range(5)]
    assert {len(line) for line in lines} == {2048 + 7}
    channels = Calibration.load(tmp_path / "c").channels("fc")
    assert channels is not None
    np.testing.assert_array_equal(channels.maxima, np.abs(data).max(axis=(0, 1)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 Fc 0 x 0 1 0 0 8", "0 is no scale of tensor 'x'"),
        ("0 Fc 0 x 0 1 nan 0 8", "is no scale"),
        ("0 Fc 0 x 0 1 1e-40 0 8", "is no scale"),
        ("0 Fc 0 x 0 1 0.1 256 8", "256 is no zero point of tensor 'x', whose levels are 0 to 255"),
        ("0 Fc 0 x 0 1 0.1 -1 8", "-1 is no zero point"),
        ("0 Fc 0 x 0 1 0.1 0.5 8", "invalid literal"),
        ("0 Fc 0 x 0 1 0.1 0 16", "cannot quantize to 16 bits"),
        ("0 Fc 0 x 2 1 0.1 0 8", r"\[2, 1\] is no range"),
        ("0 Fc 0 x 0 1 0.1 0 8\n1 Fc 0 y 0 1", "line 2: 6 words are no parameters"),
        ("0 0 x 0 -1 1 1 5", "-1 is no magnitude of tensor 'x'"),
        ("0 0 x 0 0 1 1 -5", "negative"),
        ("0 0 x 0 0 inf 1 5", "is no range"),
        ("0 0 x 1 0 1 1 5", "tensor 'x' lacks column 0"),
        ("0 0 x 0 0 1 1 5\n0 Fc 0 y 0 1", "line 2: 6 words are no column"),
    ],
)
def test_other_parameters_and_columns(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(CalibrationError, match=complaint):
        Calibration.load(tmp_path / "t")
