"""SmoothQuant's factors against the formula as published, and what the search for alpha makes of outliers."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.calibration.smoothing import ALPHAS, smooth, smoothing_error, smoothing_factors

CHANNELS = 24


def layer(outliers: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs float32 [R, C] and weights [N, C]; some channels of the inputs may be large, and weigh little."""
    random = np.random.default_rng(seed)
    gains = np.ones(CHANNELS)
    if outliers:
        gains[[2, 7]] = 80
    x = random.standard_normal((256, CHANNELS)) * gains
    return x.astype(np.float32), (random.standard_normal((16, CHANNELS)) / gains).astype(np.float32)


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


def test_outliers_are_evened_out_by_the_best_alpha() -> None:
    x, w = layer(outliers=True)
    factors = smooth(x, [w[:6], w[6:]])
    assert factors is not None
    rows, weights = x.astype(np.float64), w.astype(np.float64)
    largest = np.abs(rows).max(axis=0), np.abs(weights).max(axis=0)
    tried = {alpha: smoothing_error(rows, weights, smoothing_factors(*largest, alpha)) for alpha in ALPHAS}
    best = min(tried, key=tried.__getitem__)
    np.testing.assert_array_equal(factors, smoothing_factors(*largest, best))
    assert tried[best] < 0.05 * smoothing_error(rows, weights, np.ones(CHANNELS))


def test_channels_that_are_alike_stay() -> None:
    random = np.random.default_rng(2)
    x, w = (random.uniform(-1, 1, (rows, CHANNELS)).astype(np.float32) for rows in (256, 16))
    x[[0, -1]], w[0] = 1.0, 1.0
    assert smooth(x, [w]) is None
