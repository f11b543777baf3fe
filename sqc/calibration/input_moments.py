"""Mean and covariance of what the weights of a layer are multiplied with, gathered over samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class MomentSums:
    """Sums of inputs and of their products, in float64: `8 G K (K + 2)` bytes; without `products`, of inputs alone.

    `origin` [G, K] lies near the mean, so that little cancels when the mean is taken off.
    """

    def __init__(self, origin: Floats, *, products: bool = True) -> None:
        groups, columns = origin.shape
        self.rows = 0
        self._origin = origin
        self._sum = np.zeros((groups, columns))
        self._products = np.zeros((groups, columns, columns)) if products else None
        self._squared_rows = 0
        self._squares = np.zeros(groups)

    def add(self, inputs: NDArray[np.float32]) -> Floats:
        """Count [S, G, R, K]: R rows of each of S samples. Gives them less the origin, [G, S R, K]."""
        samples, groups, count, columns = inputs.shape
        x = inputs - self._origin[:, None, :]
        together: Floats = x.swapaxes(0, 1).reshape(groups, samples * count, columns)
        if self._products is not None:
            transposed = x.swapaxes(2, 3)
            # Either product of a sample's rows has the same sum of squares; the smaller one is cheaper.
            smaller = x @ transposed if count < columns else transposed @ x
            self._squares += np.einsum("sgij,sgij->g", smaller, smaller)
            self._products += together.swapaxes(1, 2) @ together
        self._squared_rows += samples * count**2
        self._sum += together.sum(axis=1)
        self.rows += samples * count
        return together

    def __add__(self, other: MomentSums) -> MomentSums:
        """Of the rows of both, which have one origin."""
        both = MomentSums(self._origin, products=False)
        both.rows, both._squared_rows = self.rows + other.rows, self._squared_rows + other._squared_rows
        both._sum, both._squares = self._sum + other._sum, self._squares + other._squares
        if self._products is not None and other._products is not None:
            both._products = self._products + other._products
        return both

    @property
    def mean(self) -> Floats:
        """[G, K]."""
        return self._origin + self.offset

    @property
    def offset(self) -> Floats:
        """The mean less the origin, [G, K]."""
        return self._sum / self.rows

    @property
    def covariance(self) -> Floats:
        """That of the rows as it is, [G, K, K]."""
        assert self._products is not None
        offset = self.offset
        return np.asarray(self._products / self.rows - offset[:, :, None] * offset[:, None, :])

    @property
    def shrunk_covariance(self) -> Floats:
        """The covariance drawn towards an equal variance of all inputs without correlation.

        How far is what Ledoit and Wolf (2004) find optimal, with the samples as independent draws: rows of one sample
        resemble each other. Of few samples, many correlations are chance, and weights fitted to them would do harm on
        any other sample. One sample tells nothing.
        """
        assert self._products is not None
        columns = self._sum.shape[1]
        second, covariance = self._products / self.rows, self.covariance
        share = self._squared_rows / self.rows**2  # the sum of the samples' squared shares: 1 / S if they are alike
        noise = np.maximum(self._squares / self.rows**2 - share * np.einsum("gij,gij->g", second, second), 0.0)
        variance = np.einsum("gii->g", covariance) / columns
        structure = np.einsum("gij,gij->g", covariance, covariance) - columns * variance**2
        known = structure * (1 - share)
        shrinkage = np.where(noise < known, noise / np.where(known > 0, known, 1.0), 1.0)
        covariance *= (1 - shrinkage)[:, None, None]
        covariance[:, range(columns), range(columns)] += (shrinkage * variance)[:, None]
        return covariance
