"""Adaptive rounding: never worse than nearest by its own measure, near the optimum, safe on degenerate moments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqc.calibration.adaptive_rounding import AdaptiveRounding, Floats, damped, round_to_nearest

seeds = st.integers(0, 2**32 - 1)


def layer(seed: int, groups: int, outputs: int, inputs: int, rank: int | None = None) -> tuple[Floats, Floats]:
    """Weights, and the covariance of inputs that depend on each other; of fewer dimensions with ``rank``."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((groups, 4 * inputs, rank or inputs)) @ random.standard_normal(
        (groups, rank or inputs, inputs)
    )
    return random.standard_normal((groups, outputs, inputs)), rows.swapaxes(1, 2) @ rows / (4 * inputs)


def unclipped(weights: Floats, limit: int) -> Floats:
    return np.asarray(np.abs(weights).max(axis=2) / limit).astype(np.float32).astype(np.float64)


@given(seeds, st.sampled_from([(1, 3, 8), (5, 1, 9), (2, 4, 70), (1, 1, 1)]), st.sampled_from([1, 3, 7, 127]))
def test_never_worse_than_nearest(seed: int, shape: tuple[int, int, int], limit: int) -> None:
    weights, covariance = layer(seed, *shape)
    scales = unclipped(weights, limit)
    rounding = AdaptiveRounding(weights, damped(covariance), limit)
    nearest = rounding.error(round_to_nearest(weights, scales, limit), scales)
    levels = rounding.levels(scales)
    assert (rounding.error(levels, scales) <= nearest).all()
    fitted = rounding.levels_and_scales(scales)
    assert (rounding.error(*fitted) <= rounding.error(levels, scales)).all()
    for found in (levels, fitted[0]):
        assert found.shape == weights.shape and (found == np.rint(found)).all() and (np.abs(found) <= limit).all()
    assert (fitted[1] > 0).all() and (fitted[1] == fitted[1].astype(np.float32)).all()


def test_near_the_best_of_all_levels() -> None:
    weights, covariance = layer(4, 60, 1, 5)
    scales = unclipped(weights, 3)
    rounding = AdaptiveRounding(weights, damped(covariance), 3)
    every = np.array(list(itertools.product(range(-3, 4), repeat=5)), np.float64)
    error = weights - scales[..., None] * every
    best = np.einsum("gnk,gkl,gnl->gn", error, rounding.covariance, error).min(axis=1)
    found = rounding.error(rounding.levels(scales), scales)[:, 0]
    nearest = rounding.error(round_to_nearest(weights, scales, 3), scales)[:, 0]
    assert (best <= found * (1 + 1e-9)).all()
    assert found.sum() < 1.3 * best.sum() < nearest.sum()


def test_gains_where_inputs_depend_on_each_other() -> None:
    weights, covariance = layer(0, 1, 32, 64, rank=24)
    scales = unclipped(weights, 7)
    rounding = AdaptiveRounding(weights, damped(covariance), 7)
    nearest = rounding.error(round_to_nearest(weights, scales, 7), scales).sum()
    assert rounding.error(rounding.levels(scales), scales).sum() < 0.5 * nearest


def test_independent_inputs_of_one_variance_leave_nothing_to_gain() -> None:
    weights, _ = layer(1, 2, 4, 12)
    scales = unclipped(weights, 7)
    levels = AdaptiveRounding(weights, damped(np.stack([np.eye(12)] * 2)), 7).levels(scales)
    assert (levels == round_to_nearest(weights, scales, 7)).all()


@pytest.mark.parametrize(
    "covariance", [np.zeros((1, 6, 6)), np.ones((1, 6, 6)), np.diag([1.0, 0, 0, 0, 0, 1e-30])[None]]
)
def test_degenerate_moments(covariance: Floats) -> None:
    weights, _ = layer(2, 1, 3, 6)
    weights[0, 1] = 0.0
    scales = unclipped(weights, 127)
    scales[0, 1] = 0.1
    levels, fitted = AdaptiveRounding(weights, damped(covariance), 127).levels_and_scales(scales)
    assert np.isfinite(levels).all() and (fitted > 0).all()
    assert not levels[0, 1].any() and fitted[0, 1] > 0
    assert np.abs(weights - fitted[..., None] * levels).max() < 3 * scales.max()


def test_groups_are_layers_of_their_own() -> None:
    weights, covariance = layer(3, 4, 3, 9)
    scales = unclipped(weights, 7)
    together = AdaptiveRounding(weights, damped(covariance), 7).levels(scales)
    for group in range(4):
        part = slice(group, group + 1)
        alone = AdaptiveRounding(weights[part], damped(covariance[part]), 7).levels(scales[part])
        assert (alone == together[part]).all()
