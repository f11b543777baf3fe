"""SmoothQuant's factors against the formula as published, and what the search for alpha makes of outliers."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.calibration.smoothing import ALPHAS, Reader, largest_weights, smooth, smoothing_error, smoothing_factors

CHANNELS = 24


def layer(outliers: bool, seed: int = 0) -> Reader:
    """A layer some channels of whose inputs may be large, and weigh little."""
    random = np.random.default_rng(seed)
    gains = np.ones(CHANNELS)
    if outliers:
        gains[[2, 7]] = 80
    x = random.standard_normal((256, CHANNELS)) * gains
    return reader(x, random.standard_normal((16, CHANNELS)) / gains)


def reader(x: np.ndarray, w: np.ndarray) -> Reader:
    """A layer of one group, whose inputs [R, C] are the channels."""
    return Reader(x[None].astype(np.float32), w[None].astype(np.float32), np.arange(x.shape[1])[None])


def largest_inputs(read: Reader) -> np.ndarray:
    """[2, C]: those of either half of the rows."""
    return np.abs(read.rows[0].reshape(2, -1, CHANNELS)).max(axis=1).astype(np.float64)


UNBOUNDED = np.full(CHANNELS, np.inf)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_factors_are_those_of_the_formula(alpha: float) -> None:
    random = np.random.default_rng(1)
    x, w = random.uniform(0.1, 9, CHANNELS), random.uniform(0.1, 9, CHANNELS)
    s = [a**alpha / b ** (1 - alpha) for a, b in zip(x, w, strict=True)]
    factors = smoothing_factors(x, w, alpha)
    np.testing.assert_allclose(factors * s, factors[0] * s[0], rtol=1e-12)
    assert factors[x.argmax()] == 1.0


def test_channels_of_zeros_stay() -> None:
    x, w = np.array([4.0, 0.0, 1.0]), np.array([1.0, 2.0, 0.0])
    assert smoothing_factors(x, w, 0.5).tolist() == [1.0, 1.0, 1.0]
    assert smoothing_factors(np.zeros(3), w, 0.5).tolist() == [1.0, 1.0, 1.0]


def test_outliers_are_evened_out_by_the_best_formula() -> None:
    whole = layer(outliers=True)
    split = [reader(whole.rows[0], whole.weights[0, part]) for part in (slice(6), slice(6, None))]
    halves = largest_inputs(whole)
    factors = smooth(split, halves, UNBOUNDED)
    assert factors is not None

    def error(formula: tuple[np.ndarray, float]) -> float:
        return sum(
            smoothing_error(read, smoothing_factors(largest, *formula), half)
            for read in split
            for half, largest in enumerate(halves)
        )

    weights = largest_weights(split, CHANNELS)
    formulas = [(w, alpha) for w in (weights, np.ones(CHANNELS)) for alpha in (*ALPHAS, 1.0)]
    best = min(formulas, key=error)
    np.testing.assert_array_equal(factors, smoothing_factors(halves.max(axis=0), *best))
    left = sum(smoothing_error(read, np.ones(CHANNELS), half) for read in split for half in (0, 1))
    assert error(best) < 0.05 * left


def test_factors_keep_to_the_room_below_a_clip() -> None:
    whole = layer(outliers=True)
    room = np.where(np.arange(CHANNELS) % 2, 3.0, np.inf)
    factors = smooth([whole], largest_inputs(whole), room)
    assert factors is not None
    assert (factors[1::2] >= 1.0).all()
    assert factors[1::2].max() == 3.0
    assert factors[::2].max() > 3.0


def test_groups_may_read_the_same_channels() -> None:
    parts = [layer(outliers=True, seed=seed) for seed in (0, 1)]
    names = ("rows", "weights", "channels")
    joined = Reader(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    factors = smooth([joined], np.maximum(*map(largest_inputs, parts)), UNBOUNDED)
    assert factors is not None
    assert factors[[2, 7]].max() < 0.2 * np.delete(factors, [2, 7]).min()


def test_what_of_the_noise_of_weights_is_left_counts() -> None:
    read = layer(outliers=False)
    factors = np.geomspace(1, 64, CHANNELS)  # spreads the weights of an output
    all_of_it, half, none = (smoothing_error(read, factors, 0, share) for share in (1.0, 0.5, 0.0))
    assert none < half < all_of_it
    assert half - none == pytest.approx((all_of_it - none) / 2, rel=0.1)


def test_channels_that_are_alike_stay() -> None:
    random = np.random.default_rng(2)
    x, w = (random.uniform(-1, 1, (rows, CHANNELS)) for rows in (256, 16))
    x[[0, -1]], w[0] = 1.0, 1.0
    read = reader(x, w)
    assert smooth([read], largest_inputs(read), UNBOUNDED) is None


def test_one_row_tells_nothing() -> None:
    whole = layer(outliers=True)
    one = reader(whole.rows[0, :1], whole.weights[0])
    assert smooth([one], np.abs(one.rows[0, [0, 0]]).astype(np.float64), UNBOUNDED) is None
