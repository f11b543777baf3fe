"""Moments of a layer's inputs, against numpy's own on all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sqc.calibration.input_moments import MomentSums, convolution_inputs
from sqc.ops.convolution import convolve

ATTRIBUTES: dict[str, Any] = {"strides": (2, 1), "pads": (1, 0, 1, 1), "dilations": (1, 1), "layout": "NHWC"}


def inputs(seed: int, samples: int, groups: int, rows: int, columns: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((samples, groups, rows, columns)) @ random.standard_normal((columns, columns))
    return np.asarray(mixed + 5 * np.arange(columns)).astype(np.float32)


@pytest.mark.parametrize("shape", [(400, 2, 9, 4), (500, 1, 2, 6)], ids=str)
def test_many_samples_give_the_covariance_itself(shape: tuple[int, int, int, int]) -> None:
    x = inputs(0, *shape)
    sums = MomentSums(shape[1], shape[3])
    for part in np.split(x, [3, 50]):
        sums.add(part)
    moments = sums.moments()
    rows = x.astype(np.float64).swapaxes(0, 1).reshape(shape[1], -1, shape[3])
    np.testing.assert_allclose(moments.mean, rows.mean(axis=1), rtol=1e-9, atol=1e-9)
    for group, expected in enumerate(np.cov(part.T, ddof=0) for part in rows):
        np.testing.assert_allclose(moments.covariance[group], expected, atol=0.02 * np.abs(expected).max())
        # Shrinking keeps the variance of all inputs together.
        assert np.trace(moments.covariance[group]) == pytest.approx(np.trace(expected), rel=1e-9)


def test_few_samples_shrink_what_may_be_chance() -> None:
    x = np.random.default_rng(1).standard_normal((10, 1, 1, 200)).astype(np.float32)
    sums = MomentSums(1, 200)
    sums.add(x)
    covariance = sums.moments().covariance[0]
    chance = np.cov(x[:, 0, 0].T.astype(np.float64), ddof=0)
    off = ~np.eye(200, dtype=bool)
    assert np.abs(covariance[off]).max() < 0.2 * np.abs(chance[off]).max()


def test_one_sample_tells_of_no_correlation() -> None:
    sums = MomentSums(1, 3)
    sums.add(inputs(2, 1, 1, 50, 3))
    covariance = sums.moments().covariance[0]
    np.testing.assert_allclose(covariance, np.eye(3) * covariance[0, 0], atol=1e-9)


@pytest.mark.parametrize(("groups", "layout"), [(1, "NHWC"), (2, "NCHW"), (6, "NHWC")])
def test_rows_of_a_convolution_meet_its_weights(groups: int, layout: str) -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((2, 7, 5, 6)).astype(np.float32)
    w = random.standard_normal((12, 6 // groups, 3, 2)).astype(np.float32)
    attributes = {**ATTRIBUTES, "groups": groups, "layout": layout}
    expected = convolve(x, w, attributes, 0.0)
    given = x if layout == "NHWC" else x.transpose(0, 3, 1, 2)
    rows = np.concatenate(list(convolution_inputs(given, (3, 2), attributes, 1000, 0)))
    product = rows @ w.reshape(groups, 12 // groups, -1).swapaxes(1, 2)
    actual = product.transpose(0, 2, 1, 3).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_part_of_the_positions_is_the_same_each_time() -> None:
    x = inputs(4, 3, 9, 8, 4)
    attributes = {**ATTRIBUTES, "groups": 1}
    first, again = (np.concatenate(list(convolution_inputs(x, (3, 3), attributes, 5, 7))) for _ in range(2))
    assert first.shape == (3, 1, 5, 36) and (first == again).all()
