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
