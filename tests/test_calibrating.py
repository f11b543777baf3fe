"""Running a model over calibration data: batches, shards, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sqc
from sqc.calibration.batches import BatchRanges
from sqc.errors import CalibrationError
from sqc.ir import Builder, Graph, TensorType
from tests.test_compiler import images, network


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture(scope="module")
def calibration(graph: Graph) -> sqc.Calibration:
    return sqc.calibrate(graph, [images(12)])


def saved(calibration: sqc.Calibration, folder: Path) -> bytes:
    calibration.save(folder / "calibration.npz")
    return (folder / "calibration.npz").read_bytes()


def without_batches(calibration: sqc.Calibration) -> sqc.Calibration:
    """What does not depend on how the samples were divided into batches."""
    return sqc.Calibration(replace(calibration.statistics, batches=BatchRanges()))


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 7], [3, 1, 8], [11, 1]], ids=str)
def test_ragged_batches_calibrate_alike(
    graph: Graph, calibration: sqc.Calibration, tmp_path: Path, sizes: Sequence[int]
) -> None:
    batches = np.split(images(12), np.cumsum(sizes)[:-1])
    again = sqc.calibrate(graph, iter(batches))
    assert again.samples == calibration.samples == 12
    assert saved(without_batches(again), tmp_path) == saved(without_batches(calibration), tmp_path)


def test_other_data_merge(graph: Graph, calibration: sqc.Calibration, tmp_path: Path) -> None:
    parts = [sqc.calibrate(graph, [{"image": part}]) for part in np.split(images(12), [5])]
    merged = parts[1].merge(parts[0])
    assert saved(merged, tmp_path) == saved(parts[0].merge(parts[1]), tmp_path)
    assert saved(without_batches(merged), tmp_path) == saved(without_batches(calibration), tmp_path)
    assert len(merged.batch_ranges("image")) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_merge_to_the_bytes_of_one_run(graph: Graph, tmp_path: Path, count: int) -> None:
    batches = np.split(images(12), [3, 4, 8, 11])
    whole = saved(sqc.calibrate(graph, batches, keep=7), tmp_path)
    shards = [sqc.calibrate(graph, iter(batches), keep=7, shard=(i + 1, count)) for i in range(count)]
    for order in list(permutations(shards))[:6]:
        assert saved(reduce(sqc.Calibration.merge, order), tmp_path) == whole
    with pytest.raises(CalibrationError, match=r"overlap: 1 batches \(number 0"):
        shards[0].merge(sqc.calibrate(graph, batches[:1]))


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0), (-1, -1)])
def test_shards_that_do_not_exist(graph: Graph, shard: tuple[int, int]) -> None:
    with pytest.raises(CalibrationError, match="numbered 1 to N"):
        sqc.calibrate(graph, [images(2)], shard=shard)


def test_a_shard_without_batches(graph: Graph) -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        sqc.calibrate(graph, [images(2)], shard=(2, 2))


def test_channels_are_those_of_the_layer(graph: Graph, calibration: sqc.Calibration) -> None:
    image = calibration.channels("image")
    assert image is not None and image.axis == 1
    assert np.array_equal(image.minima, images(12).min(axis=(0, 2, 3)))
    for name in calibration.names:
        channels = calibration.channels(name)
        assert channels is not None
        histogram = calibration.histogram(name)
        assert (channels.minima.min(), channels.maxima.max()) == (histogram.minimum, histogram.maximum)


def test_a_calibration_keeps_samples_of_its_inputs(graph: Graph, calibration: sqc.Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "calibration.npz")
    loaded = sqc.Calibration.load(tmp_path / "calibration.npz")
    assert sorted(map(np.ndarray.tobytes, loaded.inputs["image"])) == sorted(map(np.ndarray.tobytes, images(12)))
    assert len(sqc.calibrate(graph, [images(12)], keep=5).inputs["image"]) == 5
    assert sqc.calibrate(graph, [images(12)], keep=0).inputs == {}
    with pytest.raises(CalibrationError, match="cannot keep -1"):
        sqc.calibrate(graph, [images(12)], keep=-1)


def test_calibration_reports_its_progress(graph: Graph) -> None:
    seen: list[tuple[int, int]] = []
    sqc.calibrate(graph, [images(9), images(2)], progress=lambda done, total, _: seen.append((done, total)))
    assert seen[-1] == (11, 11)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_fixed_batch_is_calibrated_in_that_batch(graph: Graph, calibration: sqc.Calibration) -> None:
    fixed = network(4)
    assert sqc.calibrate(fixed, [images(12)]).samples == 12
    kept = sqc.calibrate(fixed, [images(12)], keep=5).inputs["image"]
    assert {part.tobytes() for part in np.split(kept, 2)} < {part.tobytes() for part in np.split(images(12), 3)}
    with pytest.raises(CalibrationError, match="batches of 4 samples"):
        sqc.calibrate(fixed, [images(6)])


def one_bad(value: float) -> np.ndarray:
    batch = images(3)
    batch[1, 2, 3, 4] = value
    return batch


BAD_DATA: dict[str, tuple[list[Any], str]] = {
    "no batches": ([], "no samples"),
    "an empty batch": ([images(0)], "no samples"),
    "NaN": ([images(2), one_bad(np.nan)], "'image' hold NaN or infinite"),
    "infinity": ([one_bad(-np.inf)], "'image' hold NaN or infinite"),
    "a wrong name": ([{"picture": images(1)}], "must name the inputs image, not picture"),
    "a name too many": ([{"image": images(1), "mask": images(1)}], "must name the inputs image, not image, mask"),
    "a wrong shape": ([images(2)[:, :, 1:]], r"'image' must be float32 of shape \[samples, 3, 9, 10\], not .*8, 10"),
    "no batch axis": ([images(1)[0]], r"\[samples, 3, 9, 10\]"),
    "a wrong type": ([images(2).astype(np.float64)], "must be float32 .* not float64"),
    "a list": ([[1.0, 2.0]], "must be float32"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_calibration_data(graph: Graph, case: str) -> None:
    batches, message = BAD_DATA[case]
    with pytest.raises(CalibrationError, match=message):
        sqc.calibrate(graph, batches)


def two_inputs() -> Graph:
    builder = Builder("two", dynamic_batch=True)
    x, y = (builder.input(name, TensorType((1, 4), "float32")) for name in "xy")
    builder.outputs = {"z": builder.emit("add", [x, y], name="z", source="add")}
    return builder.finish()


def test_several_inputs_are_given_by_name() -> None:
    x = images(1).reshape(-1, 1)[:12].repeat(4, axis=1)
    assert sqc.calibrate(two_inputs(), [{"y": x, "x": x}]).samples == 12
    with pytest.raises(CalibrationError, match="the inputs x, y: give batches as"):
        sqc.calibrate(two_inputs(), [x])
    with pytest.raises(CalibrationError, match="'x' has 12, 'y' has 11"):
        sqc.calibrate(two_inputs(), [{"x": x, "y": x[1:]}])
