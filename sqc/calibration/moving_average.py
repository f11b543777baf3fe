"""The range that follows the extremes of the batches, in their order."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike

WEIGHT = 0.1


def moving_average(extremes: ArrayLike, weight: float = WEIGHT) -> tuple[float, float]:
    """Exponential averages of the batches' extremes, widened to hold zero; (0, 0) of no batches.

    `extremes` [batches, 2] are least and largest values, in the order of the batches. The average starts with the first
    batch and moves towards each following one by `weight` of the distance, in float64.
    """
    rows = np.asarray(extremes, np.float64).reshape(-1, 2)
    if not len(rows):
        return 0.0, 0.0
    *_, (low, high) = accumulate(rows, lambda average, row: average + weight * (row - average))
    return min(float(low), 0.0), max(float(high), 0.0)
