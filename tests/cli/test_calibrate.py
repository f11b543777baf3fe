"""Calibrating in shards, merging them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.calibration import Calibration
from tests.cli.conftest import DIGITS, Sqc


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures for two batches and a ragged third."""
    path = tmp_path_factory.mktemp("data") / "calib.npz"
    np.savez(path, image=np.random.default_rng(3).integers(0, 17, (75, 1, 8, 8)).astype(np.float32))
    return path


@pytest.mark.parametrize("order", ["12", "21", "123", "312", "231"])
def test_shards_merge_to_the_bytes_of_one_run(sqc: Sqc, data: Path, tmp_path: Path, order: str) -> None:
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    shards = [tmp_path / f"{i}of{len(order)}" for i in order]
    for index, path in zip(order, shards, strict=True):
        shard = ["--shard", f"{index}/{len(order)}", "-o", path]
        assert sqc("calibrate", DIGITS, "--calibration-data", data, *shard).exit_code == 0
    result = sqc("merge", *shards, "-o", merged)
    assert "over 75 samples" in result.output
    sqc("calibrate", DIGITS, "--calibration-data", data, "-o", whole)
    assert merged.read_bytes() == whole.read_bytes()


def test_merging_a_shard_twice(sqc: Sqc, data: Path, tmp_path: Path) -> None:
    sqc("calibrate", DIGITS, "--calibration-data", data, "-o", tmp_path / "c")
    result = sqc("merge", tmp_path / "c", tmp_path / "c", "-o", tmp_path / "merged")
    assert result.exit_code == 1
    assert "would count twice" in result.output
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_no_shard(sqc: Sqc, data: Path, shard: str) -> None:
    result = sqc("calibrate", DIGITS, "--calibration-data", data, f"--shard={shard}")
    assert result.exit_code == 2
    assert "is no shard" in result.output


def test_inputs_kept(sqc: Sqc, data: Path, tmp_path: Path) -> None:
    for keep in (0, 10):
        sqc("calibrate", DIGITS, "--calibration-data", data, "-o", tmp_path / "c", "--keep", keep)
        assert sum(map(len, Calibration.load(tmp_path / "c").inputs.values())) == keep


@pytest.mark.parametrize("ranges", ["l2", "symmetric,minmax"])
def test_parameters_of_dnnlowp_take_the_place_of_a_search(sqc: Sqc, data: Path, tmp_path: Path, ranges: str) -> None:
    qparams, columns = tmp_path / "qparams", tmp_path / "columns"
    options = ["--dnnlowp-qparams", qparams, "--dnnlowp-columns", columns, "-o", tmp_path / "c"]
    result = sqc("calibrate", DIGITS, "--calibration-data", data, *options, "--ranges", ranges)
    assert result.exit_code == 0, result.output
    libraries = []
    for saved, search in ((tmp_path / "c", ranges), (qparams, "kl")):
        library = tmp_path / f"{saved.name}.so"
        result = sqc("compile", DIGITS, "--calibration", saved, "--ranges", search, "-o", library)
        assert result.exit_code == 0, result.output
        libraries.append(library.read_bytes())
    assert libraries[0] == libraries[1]
    assert sqc("compile", DIGITS, "--calibration", columns, "-o", tmp_path / "m.so").exit_code == 0
    refused = sqc("compile", DIGITS, "--calibration", qparams, "--ranges", "bits:7", "-o", tmp_path / "no.so")
    assert refused.exit_code == 1 and "8 bits, the ranges 7: add the rule" in refused.output
    refused = sqc("merge", qparams, "-o", tmp_path / "merged")
    assert refused.exit_code == 1 and "keep the file itself" in refused.output


def test_ranges_without_parameters_to_write(sqc: Sqc, data: Path, tmp_path: Path) -> None:
    result = sqc("calibrate", DIGITS, "--calibration-data", data, "--ranges", "kl", "-o", tmp_path / "c")
    assert result.exit_code == 1 and "--dnnlowp-qparams" in result.output and not (tmp_path / "c").exists()


def test_files_of_dnnlowp_are_written_and_compile(sqc: Sqc, data: Path, tmp_path: Path) -> None:
    histogram, minmax = tmp_path / "histogram", tmp_path / "minmax"
    options = ["--dnnlowp-histogram", histogram, "--dnnlowp-minmax", minmax, "-o", tmp_path / "c"]
    assert sqc("calibrate", DIGITS, "--calibration-data", data, *options).exit_code == 0
    libraries = []
    for saved in (tmp_path / "c", minmax, histogram):
        library = tmp_path / f"{saved.name}.so"
        result = sqc("compile", DIGITS, "--calibration", saved, "--ranges", "minmax", "-o", library)
        assert result.exit_code == 0, result.output
        libraries.append(library.read_bytes())
    assert libraries[0] == libraries[1] == libraries[2]
