"""Statistics, their file, and Calibration: what merges, what is refused, and that equal content is equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.calibration import (
    Calibration,
    Histogram,
    Statistics,
    accumulate,
    choose_range,
    register_search,
    search_names,
)
from sqc.errors import CalibrationError


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
        accumulate(statistics, batch, samples=len(batch["input"]))
    return statistics


def test_batches_in_any_order_and_shards_give_the_same_bytes(tmp_path: Path) -> None:
    data = batches()
    whole = Calibration(statistics_of(data))
    first, second = Calibration(statistics_of(data[2:])), Calibration(statistics_of(data[1::-1]))
    contents = []
    for i, calibration in enumerate([whole, first.merge(second), second.merge(first)]):
        calibration.save(tmp_path / f"{i}.npz")
        contents.append((tmp_path / f"{i}.npz").read_bytes())
    assert len(set(contents)) == 1
    assert whole.samples == 11
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0.npz", "1.npz", "2.npz"]


def test_load_gives_back_what_was_saved(tmp_path: Path) -> None:
    calibration = Calibration(statistics_of([*batches(), {"input": np.zeros(0), "empty": np.zeros(0)}]))
    calibration.save(tmp_path / "c")
    loaded = Calibration.load(tmp_path / "c")
    assert loaded == calibration
    assert set(loaded.names) == {"input", "relu/1", "ünï 2", "empty"}
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "c").read_bytes()


def test_statistics_without_tensors_survive(tmp_path: Path) -> None:
    Statistics(samples=3).save(tmp_path / "s")
    assert Statistics.load(tmp_path / "s") == Statistics(samples=3)


def test_no_statistics_are_the_identity_of_merge() -> None:
    statistics = statistics_of(batches())
    assert statistics.merge(Statistics()) == statistics == Statistics().merge(statistics)


def test_statistics_of_another_model_do_not_merge() -> None:
    other = Statistics()
    accumulate(other, {"input": np.ones(3), "other": np.ones(3)})
    with pytest.raises(CalibrationError, match=r"3 tensors are in one of them only \('other', 'relu/1', 'ünï 2'\)"):
        statistics_of(batches()).merge(other)


def test_a_batch_with_nan_is_refused_whole() -> None:
    statistics = statistics_of(batches())
    before = Statistics(dict(statistics.histograms), statistics.samples)
    with pytest.raises(CalibrationError, match="'relu/1' hold 1 NaN"):
        accumulate(statistics, {"input": np.ones(4), "relu/1": np.array([1.0, np.nan])}, samples=4)
    assert statistics == before


def test_memory_does_not_grow_with_batches() -> None:
    statistics = statistics_of(batches(sizes=(64,) * 20))
    assert all(histogram.counts.size <= 2048 for histogram in statistics.histograms.values())
    assert statistics.histograms["input"].total == 64 * 20 * 8


@pytest.mark.parametrize("keep", [0, 10, 400, -1])
def test_a_damaged_file_is_an_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.npz"
    Calibration(statistics_of(batches())).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CalibrationError, match=r"c\.npz' holds no calibration statistics"):
        Calibration.load(path)


def test_a_flipped_bit_is_an_error_or_does_no_harm(tmp_path: Path) -> None:
    path, spoilt = tmp_path / "c.npz", tmp_path / "spoilt.npz"
    calibration = Calibration(statistics_of(batches()))
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
            Statistics.load(tmp_path / name)
    with pytest.raises(CalibrationError, match="there is no file"):
        Statistics.load(tmp_path / "missing")
    with pytest.raises(CalibrationError, match="cannot write"):
        Statistics().save(tmp_path / "no folder" / "c.npz")


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
    monkeypatch.setattr("sqc.calibration.ranges._SEARCHES", {"minmax": lambda histogram, bits, symmetric: (0.0, 1.0)})

    @register_search("wide")
    def wide(histogram: Histogram, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:
        return -100.0, 100.0

    assert search_names() == ("minmax", "wide")
    assert choose_range(Histogram.of([1.0]), "wide") == (-100.0, 100.0)
    with pytest.raises(CalibrationError, match="exists already"):
        register_search("wide")(wide)
    with pytest.raises(CalibrationError, match=r"no range search 'wid'; did you mean wide\?"):
        choose_range(Histogram.of([1.0]), "wid")
