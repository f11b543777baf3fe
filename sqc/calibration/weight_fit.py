"""Weights that make up for what is wrong with their inputs: a regression of the error of a layer's outputs.

A quantized layer reads inputs x that the layers before it have disturbed, and should yield what the float layer makes
of undisturbed ones. As far as the error `e = y - w x` goes with x, other weights take it away: `w + c (H + p)^-1`, c
being the covariance of e and x, H that of x and p a penalty (ridge regression). GPTAQ (Li et al. 2025,
arXiv:2504.02692) rounds towards the same target. The penalty is chosen by what the fit does on samples that it did not
see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.input_moments import MomentSums

Floats = NDArray[np.float64]

FOLDS = 2
"""Parts of the samples; each judges what was fitted to the others."""

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""The penalties that are tried, as shares of the mean variance of an input."""


class WeightFit:
    """Sums over rows of a layer's inputs and of its outputs' errors, in float64, for each of `FOLDS` parts of samples.

    A dense layer of N outputs and K inputs is one group; a depthwise convolution has a group for each channel. Without
    `products` there is no telling but the mean of the inputs.
    """

    def __init__(self, groups: int, outputs: int, columns: int, *, products: bool = True) -> None:
        self._products = products
        self._inputs: list[MomentSums] = []
        self._errors = np.zeros((FOLDS, groups, outputs))
        self._crossed = np.zeros((FOLDS, groups, outputs, columns))

    def add(self, sample: int, inputs: NDArray[np.float32], errors: Floats | None = None) -> None:
        """Count rows of sample number `sample`: inputs [G, R, K], and the errors [G, R, N] of their outputs."""
        if not self._inputs:
            origin = inputs.mean(axis=1, dtype=np.float64)
            self._inputs = [MomentSums(origin, products=self._products) for _ in range(FOLDS)]
        fold = sample % FOLDS
        x = self._inputs[fold].add(inputs[None])
        if errors is not None:
            self._errors[fold] += errors.sum(axis=1)
            self._crossed[fold] += errors.swapaxes(1, 2) @ x

    def inputs(self, folds: Sequence[int] = range(FOLDS)) -> MomentSums:
        """The sums of the inputs, of all samples or some of the parts."""
        first, *others = (self._inputs[fold] for fold in folds)
        for other in others:
            first = first + other
        return first

    def change(self) -> Floats:
        """What to add to the weights, [G, N, K]; zeros where no penalty gains on samples not fitted to."""
        nothing = np.zeros(self._crossed.shape[1:])
        if not all(sums.rows for sums in self._inputs):
            return nothing
        gains = np.zeros(len(PENALTIES))
        for fold in range(FOLDS):
            covariance, crossed = self._moments([other for other in range(FOLDS) if other != fold])
            unseen, unseen_crossed = self._moments([fold])
            for i, penalty in enumerate(PENALTIES):
                change = _ridge(covariance, crossed, penalty)
                gains[i] += 2 * np.sum(change * unseen_crossed) - np.sum((change @ unseen) * change)
        best = int(gains.argmax())
        if gains[best] <= 0.0:
            return nothing
        return _ridge(*self._moments(range(FOLDS)), PENALTIES[best])

    def _moments(self, folds: Sequence[int]) -> tuple[Floats, Floats]:
        """The covariances of the inputs, and of the errors with them."""
        sums, index = self.inputs(folds), list(folds)
        e = self._errors[index].sum(axis=0) / sums.rows
        crossed = self._crossed[index].sum(axis=0) / sums.rows
        return sums.covariance, crossed - e[:, :, None] * sums.offset[:, None, :]


def _ridge(covariance: Floats, crossed: Floats, penalty: float) -> Floats:
    columns = covariance.shape[-1]
    variance = np.einsum("gkk->g", covariance) / columns
    penalties = np.where(variance > 0, penalty * variance, 1.0)[:, None, None] * np.eye(columns)
    return np.asarray(np.linalg.solve(covariance + penalties, crossed.swapaxes(1, 2)).swapaxes(1, 2))
