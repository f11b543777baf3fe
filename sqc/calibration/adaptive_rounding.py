"""Rounding weights so that a layer's results change least, instead of each weight to the level next to it.

The error of an output is `(w - s q) . x`. Over the inputs x its mean square is, but for a constant part that the bias
can take up, the quadratic form `(w - s q)^T H (w - s q)` with H the covariance of x. Levels q that make it small are
found as GPTQ does (Frantar et al. 2022, arXiv:2210.17323): one column after another, each rounded with the errors of
those before it made up for. That is Babai's nearest plane (Chen et al. 2025, arXiv:2507.18553), which asks for the
Cholesky factor of H and no inverse. Coordinate descent on the form itself follows.

Arrays have a leading axis of groups: weights and levels [G, N, K] for N outputs and K inputs each, scales [G, N],
covariances [G, K, K], all float64. A dense layer is one group; a depthwise convolution has one for each channel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean: as GPTQ has it."""

_CLIPPING = tuple(1 - step / 20 for step in range(11))
"""The shares of a scale that clips nothing which are tried."""

_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_BLOCK = 64
_SWEEPS = 16


def round_to_nearest(weights: Floats, scales: Floats, limit: int) -> Floats:
    """The level next to each weight, within +-limit."""
    return np.clip(np.rint(weights / scales[..., None]), -limit, limit)


def damped(covariance: Floats) -> Floats:
    """A positive definite covariance near a given one, so that inputs that never varied do not decide alone."""
    mean = np.einsum("gkk->g", covariance) / covariance.shape[-1]
    return covariance + np.where(mean > 0, _DAMPING * mean, 1.0)[:, None, None] * np.eye(covariance.shape[-1])


class AdaptiveRounding:
    """Rounds the weights of one layer, given the covariance of its inputs (positive definite, see `damped`)."""

    def __init__(self, weights: Floats, covariance: Floats, limit: int) -> None:
        self.weights, self.covariance, self.limit = weights, covariance, limit
        self._variances = np.einsum("gkk->gk", covariance)
        # From the input that varies least to the one that varies most, which is rounded first.
        self._order = np.argsort(self._variances, axis=1, kind="stable")
        rows = np.take_along_axis(covariance, self._order[:, :, None], axis=1)
        factor = np.linalg.cholesky(np.take_along_axis(rows, self._order[:, None, :], axis=2))
        self._carry = factor / np.einsum("gkk->gk", factor)[:, None, :]

    def error(self, levels: Floats, scales: Floats) -> Floats:
        """[G, N]: the mean square of what the levels change in each output, but for its mean."""
        change = self.weights - scales[..., None] * levels
        return np.asarray(np.einsum("gnk,gnk->gn", change @ self.covariance, change))

    def levels(self, scales: Floats) -> Floats:
        """Levels [G, N, K] within +-limit whose error is never above that of the nearest ones."""
        simple = round_to_nearest(self.weights, scales, self.limit)
        start = self._better(self._in_turn(scales), simple, scales)
        return self._better(self._descend(start, scales), simple, scales)

    def levels_and_scales(self, scales: Floats) -> tuple[Floats, Floats]:
        """Levels, and scales (float32 values) that suit them: never above the error of `levels` at the given scales.

        Scales that clip the largest weights are tried, and in the end each becomes the best one for its levels.
        """
        errors = np.stack([self.error(self._in_turn(share * scales), share * scales) for share in _CLIPPING])
        clipped = _float32(np.array(_CLIPPING)[errors.argmin(axis=0)] * scales)
        candidates = [(self.levels(tried), tried) for tried in (scales, clipped)]
        levels, fitted = candidates[1]
        refitted = self._fit(levels, fitted)
        candidates.append((self._descend(levels, refitted), refitted))
        errors = np.stack([self.error(*candidate) for candidate in candidates])
        best = errors.argmin(axis=0)
        return (
            np.choose(best[..., None], [levels for levels, _ in candidates]),
            np.choose(best, [tried for _, tried in candidates]),
        )

    def _better(self, candidate: Floats, known: Floats, scales: Floats) -> Floats:
        """For each output the levels of less error; the known ones where they are as good."""
        gains = self.error(candidate, scales) < self.error(known, scales)
        return np.where(gains[..., None], candidate, known)

    def _in_turn(self, scales: Floats) -> Floats:
        """Each column rounded with the errors of those before it made up for, the last of the order first."""
        order = self._order[:, None, :]
        weights = np.take_along_axis(self.weights, order, axis=2)
        targets: Floats = weights.copy()
        errors, levels = np.zeros_like(weights), np.zeros_like(weights)
        for end in range(weights.shape[2], 0, -_BLOCK):
            start = max(0, end - _BLOCK)
            targets[..., start:end] += errors[..., end:] @ self._carry[:, end:, start:end]
            for k in range(end - 1, start - 1, -1):
                behind = errors[..., k + 1 : end] @ self._carry[:, k + 1 : end, k, None]
                levels[..., k] = np.clip(np.rint((targets[..., k] + behind[..., 0]) / scales), -self.limit, self.limit)
                errors[..., k] = weights[..., k] - scales * levels[..., k]
        unordered = np.empty_like(levels)
        np.put_along_axis(unordered, order, levels, axis=2)
        return unordered

    def _descend(self, levels: Floats, scales: Floats) -> Floats:
        """Move one level of an output at a time to where the error is least, until none moves."""
        levels = levels.copy()
        slopes = (scales[..., None] * levels - self.weights) @ self.covariance
        for _ in range(_SWEEPS):
            moves = 0
            for k in range(levels.shape[2]):
                best = levels[..., k] - slopes[..., k] / (scales * self._variances[:, k, None])
                steps = np.clip(np.rint(best), -self.limit, self.limit) - levels[..., k]
                group, row = np.nonzero(steps)
                levels[group, row, k] += steps[group, row]
                slopes[group, row] += (scales * steps)[group, row, None] * self.covariance[group, k]
                moves += len(row)
            if not moves:
                break
        return levels

    def _fit(self, levels: Floats, scales: Floats) -> Floats:
        """The scales of least error for these levels; the given ones where that is none."""
        weighted = levels @ self.covariance
        along = np.einsum("gnk,gnk->gn", weighted, self.weights)
        square = np.einsum("gnk,gnk->gn", weighted, levels)
        fits = (along > 0) & (square > 0)
        return _float32(np.where(fits, along / np.where(fits, square, 1.0), scales))


def _float32(scales: Floats) -> Floats:
    return np.maximum(scales, _SMALLEST_NORMAL).astype(np.float32).astype(np.float64)
