"""Mean and covariance of what the weights of a layer are multiplied with, gathered over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InputMoments:
    """Of each group of a layer: the mean [G, K] of its K inputs and their covariance [G, K, K]."""

    mean: Floats
    covariance: Floats


class MomentSums:
    """Sums of inputs and of their products, in float64: `8 G K (K + 2)` bytes."""

    def __init__(self, groups: int, columns: int) -> None:
        self._rows = 0
        self._origin = np.zeros((groups, columns))
        self._sum = np.zeros((groups, columns))
        self._products = np.zeros((groups, columns, columns))
        self._squared_rows = 0
        self._squares = np.zeros(groups)

    def add(self, inputs: NDArray[np.float32]) -> None:
        """Count [S, G, R, K]: R rows of each of S samples."""
        samples, groups, count, columns = inputs.shape
        if not self._rows:  # near the mean, so that little cancels when the mean is taken off
            self._origin = inputs.mean(axis=(0, 2), dtype=np.float64)
        x = inputs - self._origin[:, None, :]
        transposed = x.swapaxes(2, 3)
        # Either product of a sample's rows has the same sum of squares; the smaller one is cheaper.
        smaller = x @ transposed if count < columns else transposed @ x
        self._squares += np.einsum("sgij,sgij->g", smaller, smaller)
        self._squared_rows += samples * count**2
        together = x.swapaxes(0, 1).reshape(groups, samples * count, columns)
        self._products += together.swapaxes(1, 2) @ together
        self._sum += together.sum(axis=1)
        self._rows += samples * count

    def moments(self) -> InputMoments:
        """The moments, their covariance drawn towards an equal variance of all inputs without correlation.

        How far is what Ledoit and Wolf (2004) find optimal, with the samples as independent draws: rows of one sample
        resemble each other. Of few samples, many correlations are chance, and weights fitted to them would do harm on
        any other sample. One sample tells nothing.
        """
        columns = self._sum.shape[1]
        mean = self._sum / self._rows
        second = self._products / self._rows
        share = self._squared_rows / self._rows**2  # the sum of the samples' squared shares: 1 / S if they are alike
        noise = np.maximum(self._squares / self._rows**2 - share * np.einsum("gij,gij->g", second, second), 0.0)
        covariance = second - mean[:, :, None] * mean[:, None, :]
        variance = np.einsum("gii->g", covariance) / columns
        structure = np.einsum("gij,gij->g", covariance, covariance) - columns * variance**2
        known = structure * (1 - share)
        shrinkage = np.where(noise < known, noise / np.where(known > 0, known, 1.0), 1.0)
        covariance *= (1 - shrinkage)[:, None, None]
        covariance[:, range(columns), range(columns)] += (shrinkage * variance)[:, None]
        return InputMoments(self._origin + mean, covariance)
