"""What is kept of the inputs depends on the samples alone: not on their order, their batches, or how shards merge."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqc.calibration import Reservoir
from sqc.calibration.reservoir import KEPT_BYTES, digested
from sqc.errors import CalibrationError


def samples(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 9, (count, 2)),
        "image": rng.random((count, 3, 2), np.float32),
    }


def kept_of(data: dict[str, np.ndarray], keep: int = 128, rows: int = 1) -> Reservoir:
    return Reservoir.of(digested(data, rows), keep)


def rows(arrays: dict[str, np.ndarray]) -> list[tuple[bytes, ...]]:
    return [tuple(array[i].tobytes() for array in arrays.values()) for i in range(len(arrays["ids"]))]


@given(st.permutations(range(24)), st.lists(st.integers(0, 24), max_size=4), st.integers(0, 30), st.randoms())
def test_any_split_in_any_order_keeps_the_same(order: list[int], cuts: list[int], keep: int, random: object) -> None:
    data = samples(24)
    whole = kept_of(data, keep)
    bounds = sorted(cuts)
    parts = [
        kept_of({name: array[order[a:b]] for name, array in data.items()}, keep)
        for a, b in zip([0, *bounds], [*bounds, 24], strict=True)
    ]
    for merged in (reduce(Reservoir.merge, parts), reduce(lambda a, b: b.merge(a), reversed(parts))):
        assert merged == whole
        assert all(np.array_equal(merged.arrays()[name], kept) for name, kept in whole.arrays().items())


def test_kept_rows_belong_together_and_few_data_are_kept_whole() -> None:
    data = samples(20)
    assert set(rows(kept_of(data, 5).arrays())) < set(rows(data))
    assert sorted(rows(kept_of(data).arrays())) == sorted(rows(data))
    assert len(kept_of(data, 5).samples) == 5


def test_equal_samples_are_kept_once() -> None:
    data = samples(6)
    twice = {name: np.concatenate([array, array]) for name, array in data.items()}
    assert kept_of(twice) == kept_of(data) == kept_of(data).merge(kept_of(data))


def test_the_choice_is_fair() -> None:
    """Each of 1,000 samples is kept with probability 0.1; the mean of those kept is within six standard deviations."""
    kept = kept_of({"x": np.arange(1000.0).reshape(1000, 1)}, 100).arrays()["x"]
    assert abs(kept.mean() - 499.5) < 6 * np.sqrt(1000**2 / 12 * (1 - 0.1) / 100)


def test_rows_of_a_fixed_batch_stay_together() -> None:
    kept = kept_of({"x": np.arange(12.0).reshape(12, 1)}, 5, rows=4).arrays()["x"]
    assert kept.shape == (8, 1)
    assert np.array_equal(kept.reshape(2, 4) % 4, [[0, 1, 2, 3]] * 2)


def test_bytes_are_bounded() -> None:
    large = {"x": np.arange(6, dtype=np.uint8).repeat(KEPT_BYTES // 4).reshape(6, -1)}
    assert len(kept_of(large).samples) == 4
    assert kept_of({"x": np.zeros((1, KEPT_BYTES + 1), np.uint8)}).arrays() == {}


def test_the_smaller_capacity_wins_and_none_is_the_identity() -> None:
    data = samples(10)
    few, many, none = kept_of(data, 3), kept_of(data, 8), Reservoir()
    assert few.merge(many) == many.merge(few) == few
    assert none.merge(few) == few.merge(none) == few
    assert kept_of(data, 0).merge(many).arrays() == {}


def test_kept_rows_are_copies() -> None:
    data = samples(3)
    before = kept_of(data)
    kept = before.arrays()
    for array in data.values():
        array[...] = 0
    assert all(np.array_equal(kept[name], array) for name, array in before.arrays().items())


def test_what_cannot_be_merged() -> None:
    with pytest.raises(CalibrationError, match=r"different models: their inputs are 'ids' int64.* and 'x' float64"):
        kept_of(samples(2)).merge(kept_of({"x": np.ones((2, 3))}))
