"""Histograms of activations: streamed, bounded in memory, and the same bytes in whatever order the data came.

The bins lie on a grid of powers of two: bin `i` holds `i * 2**e <= x < (i + 1) * 2**e`. The exponent `e` is the
smallest one for which all data seen, and zero, fit into `BINS` bins, so it follows from the smallest and the largest
value alone. Doubling the bin width turns index `i` into `i >> 1` exactly. Hence a histogram depends only on the
multiset of its values, and merging is exact, associative and commutative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sqc.errors import CalibrationError

BINS = 2048
_SMALLEST_EXPONENT = -149  # every float32 is a multiple of 2**-149; finer bins would tell nothing apart
_CHUNK = 1 << 15  # values counted at a time: the temporaries stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of the float32 values of one tensor.

    `counts` (int64) covers bins `first, first + 1, ...`; zero always is one of their edges, so `first <= 0`.
    `minimum` and `maximum` are the exact extremes; of an empty histogram they are `inf` and `-inf`.
    """

    exponent: int
    first: int
    counts: NDArray[np.int64]
    minimum: float
    maximum: float

    @staticmethod
    def empty() -> Histogram:
        """The histogram of no values, the identity of `merge`."""
        return Histogram(_SMALLEST_EXPONENT, 0, np.zeros(0, np.int64), math.inf, -math.inf)

    @staticmethod
    def of(values: ArrayLike, name: str = "tensor") -> Histogram:
        """Count `values`, of any shape, as float32; `name` is what an error calls them.

        Raises CalibrationError where values are no numbers, NaN or infinite (also: too large for float32).
        """
        data = np.ravel(as_float32(values, name))
        if data.size == 0:
            return Histogram.empty()
        minimum, maximum = _extremes(data, name)
        exponent = exponent_for(minimum, maximum)
        first, last = bin_window(minimum, maximum, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        bins_per_unit = math.ldexp(1.0, -exponent)
        for start in range(0, data.size, _CHUNK):
            # In float64 the product is exact; in float32 it could underflow to the wrong side of zero.
            position = np.multiply(data[start : start + _CHUNK], bins_per_unit, dtype=np.float64)
            if first < 0:  # else the conversion to integers rounds down as well
                np.floor(position, out=position)
                position -= first
            counts += np.bincount(position.astype(np.intp), minlength=counts.size)
        return Histogram(exponent, first, counts, minimum, maximum)

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of the values of both."""
        if self.total == 0:
            return other
        if other.total == 0:
            return self
        minimum, maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        exponent = exponent_for(minimum, maximum)
        first, last = bin_window(minimum, maximum, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        for part in (self, other):
            index = np.arange(part.first, part.first + part.counts.size) >> (exponent - part.exponent)
            np.add.at(counts, index - first, part.counts)
        return Histogram(exponent, first, counts, minimum, maximum)

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def bin_width(self) -> float:
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The edges of the bins, one more than `counts`; zero is among them."""
        return np.ldexp(np.arange(self.first, self.first + self.counts.size + 1, dtype=np.float64), self.exponent)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        mine = (self.exponent, self.first, self.minimum, self.maximum)
        theirs = (other.exponent, other.first, other.minimum, other.maximum)
        return mine == theirs and np.array_equal(self.counts, other.counts)

    def __repr__(self) -> str:
        if self.total == 0:
            return "Histogram(empty)"
        span = f"[{self.minimum:g}, {self.maximum:g}]"
        return f"Histogram({self.total} values in {span}, bin width 2**{self.exponent})"


def as_float32(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """`values` as they are calibrated. Raises CalibrationError where they are no real numbers."""
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise CalibrationError(
            f"calibration data of '{name}' have dtype {array.dtype}, which holds no real numbers; pass floats"
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _extremes(data: NDArray[np.float32], name: str) -> tuple[float, float]:
    minimum, maximum = float(data.min()), float(data.max())  # a NaN anywhere comes out of both
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        nans, infinities = int(np.isnan(data).sum()), int(np.isinf(data).sum())
        raise CalibrationError(
            f"calibration data of '{name}' hold {nans} NaN and {infinities} infinite values among {data.size}; "
            "no range can be chosen from them, so mend the input data or the model before calibrating"
        )
    return minimum + 0.0, maximum + 0.0  # no negative zeros


def bin_window(minimum: float, maximum: float, exponent: int) -> tuple[int, int]:
    """First and last bin index that the data and zero need."""
    return (
        min(math.floor(math.ldexp(minimum, -exponent)), 0),
        max(math.floor(math.ldexp(maximum, -exponent)), -1),
    )


def exponent_for(minimum: float, maximum: float) -> int:
    """The smallest exponent whose window has at most `BINS` bins."""
    largest = max(-minimum, maximum)
    if largest == 0:
        return _SMALLEST_EXPONENT
    _, magnitude = math.frexp(largest)  # all |x| < 2**magnitude
    exponent = max(magnitude - BINS.bit_length(), _SMALLEST_EXPONENT)
    while True:
        first, last = bin_window(minimum, maximum, exponent)
        if last - first < BINS:
            return exponent
        exponent += 1
