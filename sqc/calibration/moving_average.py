"""The range that follows the extremes of the batches, in their order."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

WEIGHT = 0.1


def moving_average(
    indices: ArrayLike, minima: ArrayLike, maxima: ArrayLike, weight: float = WEIGHT
) -> tuple[float, float]:
    """Exponential averages of the batches' extremes, widened to hold zero; (0, 0) of no batches.

    The arrays hold one entry a batch; `indices` give the batches their order, so that the entries may come from
    several shards in any order. The average starts with the first batch and moves towards each following one by
    `weight` of the distance, in float64.
    """
    order = np.argsort(np.asarray(indices), kind="stable")
    low, high = (_average(np.asarray(values, np.float64)[order].tolist(), weight) for values in (minima, maxima))
    return min(low, 0.0), max(high, 0.0)


def _average(values: list[float], weight: float) -> float:
    if not values:
        return 0.0
    average = values[0]
    for value in values[1:]:
        average += weight * (value - average)
    return average
