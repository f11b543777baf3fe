"""Weights fitted to disturbed inputs, against numpy's least squares; what is chance alone changes next to nothing."""

from __future__ import annotations

import numpy as np

from sqc.calibration.weight_fit import PENALTIES, WeightFit

GROUPS, ROWS, COLUMNS, OUTPUTS = 2, 16, 4, 3


def fitted(noise: float, samples: int = 200, seed: int = 0) -> tuple[WeightFit, np.ndarray, np.ndarray]:
    """A fit, its inputs [G, R, K] and errors [G, R, N] of all samples: outputs of exact inputs, inputs with noise."""
    random = np.random.default_rng(seed)
    mixing, weights = random.standard_normal((COLUMNS, COLUMNS)), random.standard_normal((GROUPS, OUTPUTS, COLUMNS))
    exact = random.standard_normal((GROUPS, samples * ROWS, COLUMNS)) @ mixing
    inputs = exact + noise * random.standard_normal(exact.shape) + 0.3
    errors = (exact - inputs) @ weights.swapaxes(1, 2)
    fit = WeightFit(GROUPS, OUTPUTS, COLUMNS)
    for sample in range(samples):
        rows = slice(sample * ROWS, (sample + 1) * ROWS)
        fit.add(sample, inputs[:, rows], errors[:, rows])
    return fit, inputs, errors


def left_over(change: np.ndarray, inputs: np.ndarray, errors: np.ndarray) -> float:
    """The mean square of the errors but for their mean, with changed weights."""
    rest = errors - inputs @ change.swapaxes(1, 2)
    return float(np.square(rest - rest.mean(axis=1, keepdims=True)).mean())


def test_noise_that_goes_with_inputs_is_taken_off() -> None:
    fit, inputs, errors = fitted(noise=1.0)
    change = fit.change()
    assert left_over(change, inputs, errors) < 0.8 * left_over(np.zeros_like(change), inputs, errors)
    for group in range(GROUPS):
        x = inputs[group] - inputs[group].mean(axis=0)
        e = errors[group] - errors[group].mean(axis=0)
        variance = np.square(x).mean(axis=0).mean()
        candidates = [
            np.linalg.solve(x.T @ x / len(x) + penalty * variance * np.eye(COLUMNS), x.T @ e / len(x)).T
            for penalty in PENALTIES
        ]
        assert any(np.allclose(change[group], candidate, atol=1e-9) for candidate in candidates)


def test_it_holds_on_other_samples() -> None:
    change = fitted(noise=1.0)[0].change()
    _, inputs, errors = fitted(noise=1.0, samples=50)
    assert left_over(change, inputs, errors) < 0.8 * left_over(np.zeros_like(change), inputs, errors)


def test_chance_does_next_to_no_harm() -> None:
    random = np.random.default_rng(3)
    harm = []
    for _ in range(20):
        fit = WeightFit(1, 1, 40)
        for sample in range(4):
            fit.add(sample, random.standard_normal((1, 48, 40)), random.standard_normal((1, 48, 1)))
        x, errors = random.standard_normal((1, 4096, 40)), random.standard_normal((1, 4096, 1))
        harm.append(left_over(fit.change(), x, errors) / left_over(np.zeros((1, 1, 40)), x, errors))
    assert np.mean(harm) < 1.01
    assert max(harm) < 1.05


def test_one_sample_changes_nothing() -> None:
    fit = WeightFit(1, 2, 3)
    fit.add(0, np.ones((1, 5, 3)), np.ones((1, 5, 2)))
    assert not fit.change().any()


def test_inputs_that_never_vary_change_nothing() -> None:
    fit = WeightFit(1, 2, 3)
    for sample in range(6):
        fit.add(sample, np.ones((1, 5, 3)), np.full((1, 5, 2), float(sample)))
    assert not fit.change().any()


def test_the_covariance_is_that_of_all_rows() -> None:
    fit, inputs, _ = fitted(noise=0.1)
    for found, rows in zip(fit.inputs().covariance, inputs, strict=True):
        np.testing.assert_allclose(found, np.cov(rows.T, ddof=0), rtol=1e-9, atol=1e-9)
