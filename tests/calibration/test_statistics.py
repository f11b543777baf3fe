"""Statistics, their file, and Calibration: what merges, what is refused, and that equal content is equal bytes."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqc.calibration import (
    Calibration,
    Grid,
    Histogram,
    Reservoir,
    Statistics,
    accumulate,
    choose_range,
    digested,
    read_statistics,
    register_search,
    search_names,
    write_statistics,
)
from sqc.errors import CalibrationError

AXES = {"input": 1, "relu/1": 2}


def batches(seed: int = 0, sizes: tuple[int, ...] = (4, 4, 3)) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "input": rng.random((n, 8), np.float32),
            "relu/1": rng.standard_normal((n, 3, 3), np.float32) * 5,
            "ünï 2": np.zeros(n),
        }
        for n in sizes
    ]


def statistics_of(data: list[dict[str, np.ndarray]]) -> Statistics:
    statistics = Statistics()
    for batch in data:
        accumulate(statistics, batch, len(batch["input"]), AXES)
        statistics.inputs = statistics.inputs.merge(Reservoir.of(digested({"input": batch["input"]}), 5))
    return statistics


def calibration_of(data: list[dict[str, np.ndarray]]) -> Calibration:
    """As of a run, in which each batch has its number: the first value of its first sample."""
    numbered = [statistics_of([batch]).as_batch(int(batch["input"][0, 0] * 1e6), bytes(16)) for batch in data]
    return Calibration(reduce(Statistics.merge, numbered))


def test_batches_in_any_order_and_shards_give_the_same_bytes(tmp_path: Path) -> None:
    data = batches()
    whole = calibration_of(data)
    first, second = calibration_of(data[2:]), calibration_of(data[1::-1])
    contents = []
    for i, calibration in enumerate([whole, first.merge(second), second.merge(first)]):
        calibration.save(tmp_path / f"{i}.npz")
        contents.append((tmp_path / f"{i}.npz").read_bytes())
    assert len(set(contents)) == 1
    assert whole.samples == 11
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0.npz", "1.npz", "2.npz"]


def test_load_gives_back_what_was_saved(tmp_path: Path) -> None:
    empty = {name: array[:0] for name, array in batches()[0].items()}
    calibration = Calibration(statistics_of([*batches(), empty]).merge(calibration_of(batches(1)).statistics))
    calibration.save(tmp_path / "c")
    loaded = Calibration.load(tmp_path / "c")
    assert loaded == calibration
    assert set(loaded.names) == {"input", "relu/1", "ünï 2"}
    for name in loaded.names:
        assert loaded.moments(name) == calibration.moments(name) is not None
        assert loaded.channels(name) == calibration.channels(name)
        assert np.array_equal(loaded.batch_ranges(name), calibration.batch_ranges(name))
        assert len(loaded.batch_ranges(name)) == 3
    assert (loaded.channels("ünï 2"), len(loaded.inputs["input"])) == (None, 5)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "c").read_bytes()


def test_statistics_without_tensors_survive(tmp_path: Path) -> None:
    write_statistics(Statistics(samples=3), tmp_path / "s")
    assert read_statistics(tmp_path / "s") == Statistics(samples=3)


def test_no_statistics_are_the_identity_of_merge() -> None:
    statistics = statistics_of(batches())
    assert statistics.merge(Statistics()) == statistics == Statistics().merge(statistics)


def test_random_splits_in_any_order_give_the_bytes_of_one_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("splits") / "c"
    data = batches(sizes=(4, 1, 3, 7, 2, 5))
    calibration_of(data).save(path)
    whole = path.read_bytes()

    @given(st.permutations(range(6)), st.lists(st.integers(1, 5), max_size=3, unique=True))
    def check(order: list[int], cuts: list[int]) -> None:
        bounds = [0, *sorted(cuts), 6]
        parts = [calibration_of([data[i] for i in order[a:b]]) for a, b in pairwise(bounds)]
        reduce(Calibration.merge, parts).save(path)
        assert path.read_bytes() == whole

    check()


def test_statistics_of_another_model_do_not_merge() -> None:
    other = Statistics()
    accumulate(other, {"input": np.ones(3), "other": np.ones(3)})
    with pytest.raises(CalibrationError, match=r"3 tensors are in one of them only \('other', 'relu/1', 'ünï 2'\)"):
        statistics_of(batches()).merge(other)


def test_a_batch_with_nan_is_refused_whole() -> None:
    statistics = statistics_of(batches())
    before = replace(statistics, tensors=dict(statistics.tensors))
    with pytest.raises(CalibrationError, match="'relu/1' hold 1 NaN"):
        accumulate(statistics, {"input": np.ones(4), "relu/1": np.array([1.0, np.nan])}, samples=4)
    assert statistics == before


def test_memory_does_not_grow_with_batches() -> None:
    statistics = statistics_of(batches(sizes=(64,) * 20))
    assert all(tensor.histogram.counts.size <= 2048 for tensor in statistics.tensors.values())
    assert statistics.tensors["input"].histogram.total == 64 * 20 * 8


@pytest.mark.parametrize("keep", [0, 10, 400, -1])
def test_a_damaged_file_is_an_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.npz"
    Calibration(statistics_of(batches())).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CalibrationError, match=r"c\.npz' holds no calibration statistics"):
        Calibration.load(path)


def test_a_flipped_bit_is_an_error_or_does_no_harm(tmp_path: Path) -> None:
    path, spoilt = tmp_path / "c.npz", tmp_path / "spoilt.npz"
    calibration = calibration_of(batches())
    calibration.save(path)
    content = path.read_bytes()
    middle = range(len(content) // 4, len(content) // 2, 997)  # counts; around them headers with dates and the like
    for position in [*range(0, 1500, 5), *middle, *range(len(content) - 900, len(content), 5)]:
        spoilt.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        try:
            loaded = Calibration.load(spoilt)
        except CalibrationError:
            continue
        assert loaded == calibration
        assert position not in middle


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("other.npz", "array.npy"):
        with pytest.raises(CalibrationError, match="holds no calibration statistics"):
            read_statistics(tmp_path / name)
    with pytest.raises(CalibrationError, match="there is no file"):
        read_statistics(tmp_path / "missing")
    with pytest.raises(CalibrationError, match="cannot write"):
        write_statistics(Statistics(), tmp_path / "no folder" / "c.npz")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    path.write_text("old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(CalibrationError, match=r"cannot write calibration statistics to .*/c': .*No space left"):
        Calibration(statistics_of(batches())).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["c"]
    assert path.read_text() == "old"


def test_a_file_of_the_first_format(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", format=np.array(1), samples=np.array(1), names=np.zeros(0, np.uint8))
    with pytest.raises(CalibrationError, match=r"\(format 1 instead of 2\); save them again with `sqc calibrate`"):
        Calibration.load(tmp_path / "c.npz")


def test_calibration_answers_by_name() -> None:
    calibration = Calibration(statistics_of(batches()))
    assert "relu/1" in calibration and "relu" not in calibration
    low, high = calibration.range("relu/1", "minmax")
    assert (low, high) == (calibration.histogram("relu/1").minimum, calibration.histogram("relu/1").maximum)
    assert calibration.qparams("relu/1", "minmax")[0] == np.float32((high - low) / 255)
    assert repr(calibration) == "Calibration(3 tensors, 11 samples)"
    with pytest.raises(CalibrationError, match=r"'relu/2' is not in the calibration.*did you mean relu/1\?"):
        calibration.range("relu/2")


def test_a_calibration_needs_samples() -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        Calibration(Statistics())


def test_searches_are_plugs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqc.calibration.ranges._SEARCHES", {"minmax": lambda histogram, grid: (0.0, 1.0)})

    @register_search("wide")
    def wide(histogram: Histogram, grid: Grid) -> tuple[float, float]:
        return -100.0, 100.0

    assert search_names() == ("minmax", "wide")
    assert choose_range(Histogram.of([1.0]), "wide") == (-100.0, 100.0)
    with pytest.raises(CalibrationError, match="exists already"):
        register_search("wide")(wide)
    with pytest.raises(CalibrationError, match=r"no range search 'wid'; did you mean wide\?"):
        choose_range(Histogram.of([1.0]), "wid")
