"""Sum and sum of squares of a tensor's values, kept so that merging rounds nothing.

The values of one sample are added up in float64, always in the same order. From there on the sums are integers: a sum
of float32 values is a multiple of 2**-149, one of their squares a multiple of 2**-298, and in float64 they remain such
multiples. Hence moments depend on the multiset of samples alone, and merging is exact, associative and commutative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_UNIT = 149  # a sum counts multiples of 2**-149, a sum of squares multiples of 2**-298
_CHUNK = 1 << 15  # values added at a time: the temporaries stay in the cache


@dataclass(frozen=True, slots=True)
class Moments:
    """How many values there were, their sum in units of 2**-149, and the sum of their squares in units of 2**-298."""

    count: int = 0
    total: int = 0
    squares: int = 0

    @staticmethod
    def of(values: ArrayLike, samples: int = 1) -> Moments:
        """The moments of finite float32 values, of any shape; the first axes count `samples`, as far as they can."""
        data = np.ravel(np.asarray(values, np.float32))
        rows = data.reshape(samples if samples and data.size % samples == 0 else 1, -1)
        totals, squares = _sums(rows)
        return Moments(data.size, _integer(totals, _UNIT), _integer(squares, 2 * _UNIT))

    def merge(self, other: Moments) -> Moments:
        """The moments of the values of both."""
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """The mean; 0.0 of no values."""
        return self.total / (self.count << _UNIT) if self.count else 0.0

    @property
    def mean_square(self) -> float:
        """The mean of the squares; 0.0 of no values."""
        return self.squares / (self.count << 2 * _UNIT) if self.count else 0.0

    @property
    def variance(self) -> float:
        """The mean squared distance from the mean (the divisor is the count); 0.0 of no values."""
        spread = self.count * self.squares - self.total**2
        return max(spread, 0) / (self.count**2 << 2 * _UNIT) if self.count else 0.0


def _sums(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and sum of squares of each row, which do not depend on the other rows."""
    count, length = rows.shape
    totals, squares = np.zeros(count), np.zeros(count)
    step = max(1, _CHUNK // max(1, length))
    for row in range(0, count, step):
        for column in range(0, length, _CHUNK):
            block = rows[row : row + step, column : column + _CHUNK].astype(np.float64)
            totals[row : row + step] += block.sum(axis=1)
            np.multiply(block, block, out=block)
            squares[row : row + step] += block.sum(axis=1)
    return totals, squares


def _integer(sums: NDArray[np.float64], unit: int) -> int:
    """Exactly the sum of `sums`, in units of 2**-unit."""
    return sum(int(math.ldexp(value, unit)) for value in sums.tolist())
