"""Moments of a layer's inputs, against numpy's own on all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.calibration.input_moments import MomentSums


def inputs(seed: int, samples: int, groups: int, rows: int, columns: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((samples, groups, rows, columns)) @ random.standard_normal((columns, columns))
    return np.asarray(mixed + 5 * np.arange(columns)).astype(np.float32)


@pytest.mark.parametrize("shape", [(400, 2, 9, 4), (500, 1, 2, 6)], ids=str)
def test_many_samples_give_the_covariance_itself(shape: tuple[int, int, int, int]) -> None:
    x = inputs(0, *shape)
    parts = np.split(x, [3, 50])
    origin = parts[0].mean(axis=(0, 2), dtype=np.float64)
    apart = [MomentSums(origin), MomentSums(origin)]
    for i, part in enumerate(parts):
        apart[i % 2].add(part)
    sums = apart[0] + apart[1]
    rows = x.astype(np.float64).swapaxes(0, 1).reshape(shape[1], -1, shape[3])
    np.testing.assert_allclose(sums.mean, rows.mean(axis=1), rtol=1e-9, atol=1e-9)
    for group, expected in enumerate(np.cov(part.T, ddof=0) for part in rows):
        np.testing.assert_allclose(sums.covariance[group], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        np.testing.assert_allclose(sums.shrunk_covariance[group], expected, atol=0.02 * np.abs(expected).max())
        # Shrinking keeps the variance of all inputs together.
        assert np.trace(sums.shrunk_covariance[group]) == pytest.approx(np.trace(expected), rel=1e-9)


def test_few_samples_shrink_what_may_be_chance() -> None:
    x = np.random.default_rng(1).standard_normal((10, 1, 1, 200)).astype(np.float32)
    sums = MomentSums(np.zeros((1, 200)))
    sums.add(x)
    covariance = sums.shrunk_covariance[0]
    chance = np.cov(x[:, 0, 0].T.astype(np.float64), ddof=0)
    off = ~np.eye(200, dtype=bool)
    assert np.abs(covariance[off]).max() < 0.2 * np.abs(chance[off]).max()


def test_one_sample_tells_of_no_correlation() -> None:
    x = inputs(2, 1, 1, 50, 3)
    sums = MomentSums(x.mean(axis=(0, 2), dtype=np.float64))
    sums.add(x)
    covariance = sums.shrunk_covariance[0]
    np.testing.assert_allclose(covariance, np.eye(3) * covariance[0, 0], atol=1e-9)


def test_means_need_no_products() -> None:
    x = inputs(3, 5, 2, 7, 3)
    sums = MomentSums(x[0].mean(axis=1, dtype=np.float64), products=False)
    sums.add(x)
    np.testing.assert_allclose(sums.mean, x.mean(axis=(0, 2), dtype=np.float64), rtol=1e-12)
