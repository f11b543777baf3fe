"""The extremes of each channel of a tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqc.errors import CalibrationError

_WIDTH = 2048  # numpy reduces rows of about this many values at its full speed


@dataclass(frozen=True, slots=True, eq=False)
class ChannelRanges:
    """Exact extremes along `axis`: `minima` and `maxima`, float32 [channels]; `inf` and `-inf` of no values."""

    axis: int
    minima: NDArray[np.float32]
    maxima: NDArray[np.float32]

    @staticmethod
    def of(values: NDArray[np.float32], axis: int) -> ChannelRanges:
        """Of finite values of any shape that has this axis."""
        channels, inner = values.shape[axis], math.prod(values.shape[axis + 1 :])
        if values.size == 0:
            return ChannelRanges(axis, np.full(channels, np.inf, np.float32), np.full(channels, -np.inf, np.float32))
        rows = values.reshape(-1, channels * inner)
        joined = max(1, _WIDTH // (channels * inner))
        whole = len(rows) // joined * joined
        parts = [rows[:whole].reshape(-1, joined * channels * inner), rows[whole:]] if whole else [rows]
        lows = np.concatenate([part.min(axis=0, initial=np.inf) for part in parts]).reshape(-1, channels, inner)
        highs = np.concatenate([part.max(axis=0, initial=-np.inf) for part in parts]).reshape(-1, channels, inner)
        # Adding zero leaves no negative zeros: which of two zeros is the smaller would depend on their order.
        zero = np.float32(0)
        return ChannelRanges(axis, lows.min(axis=(0, 2)) + zero, highs.max(axis=(0, 2)) + zero)

    def merge(self, other: ChannelRanges) -> ChannelRanges:
        """Of the values of both. Raises CalibrationError if the channels are not the same."""
        if (self.axis, self.minima.size) != (other.axis, other.minima.size):
            raise CalibrationError(
                f"the statistics to merge are of different models: a tensor has {self.minima.size} channels on axis "
                f"{self.axis} in one and {other.minima.size} on axis {other.axis} in the other"
            )
        minima, maxima = np.minimum(self.minima, other.minima), np.maximum(self.maxima, other.maxima)
        return ChannelRanges(self.axis, minima, maxima)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelRanges):
            return NotImplemented
        return (
            self.axis == other.axis
            and np.array_equal(self.minima, other.minima)
            and np.array_equal(self.maxima, other.maxima)
        )
