"""Channels on grids become levels exactly; others get ranges of their own; nothing moves without gain."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.calibration.input_levels import input_levels
from sqc.calibration.qparams import choose_qparams


def pictures(mean: tuple[float, ...], deviation: tuple[float, ...], largest: int = 255) -> np.ndarray:
    """Bytes [3, R], scaled and shifted."""
    bytes = np.random.default_rng(0).integers(0, largest + 1, (3, 5000)).astype(np.float32)
    bytes[:, :2] = 0, largest
    return (bytes / np.float32(255) - np.array(mean, np.float32)[:, None]) / np.array(deviation, np.float32)[:, None]


def plain(x: np.ndarray) -> tuple[float, int]:
    return choose_qparams(float(x.min()), float(x.max()))


@pytest.mark.parametrize(
    ("mean", "deviation"), [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,) * 3, (0.5,) * 3)]
)
@pytest.mark.parametrize("largest", [255, 200])
def test_bytes_become_levels(mean: tuple[float, ...], deviation: tuple[float, ...], largest: int) -> None:
    x = pictures(mean, deviation, largest)
    found = input_levels(x, np.ones(3), *plain(x))
    assert found is not None
    factors, shifts = (numbers.astype(np.float32)[:, None] for numbers in found)
    levels = x * factors + shifts
    assert np.abs(levels - np.rint(levels)).max() < 0.01
    assert levels.min() > -0.01
    assert levels.max() < 255.01
    assert abs(levels.min() + levels.max() - 255) <= 1.01


def test_exact_levels_stay() -> None:
    x = pictures((0.0,) * 3, (1.0,) * 3)
    assert input_levels(x, np.ones(3), *plain(x)) is None


def test_channels_on_no_grid_get_ranges_of_their_own() -> None:
    x = (np.random.default_rng(0).normal(0, 1, (3, 5000)) * [[1.0], [8.0], [2.0]]).astype(np.float32)
    found = input_levels(x, np.ones(3), *plain(x))
    assert found is not None
    factors, shifts = found
    np.testing.assert_array_equal(shifts, np.rint(shifts))
    assert factors[0] == pytest.approx(8 * factors[1], rel=0.3)
    # Only what weights read counts.
    assert input_levels(x, np.array([0.0, 1.0, 0.0]), *plain(x)) is None


def test_a_channel_of_one_number_is_no_grid() -> None:
    x = pictures((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x[1] = 0.75
    found = input_levels(x, np.ones(3), *plain(x))
    assert found is not None
    assert all(np.isfinite(numbers).all() for numbers in found)
