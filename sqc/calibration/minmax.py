"""The range that clips nothing."""

from __future__ import annotations

from sqc.calibration.histogram import Histogram
from sqc.calibration.qparams import Grid


def minmax(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The exact extremes, widened to hold zero; (0, 0) of an empty histogram."""
    return min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
