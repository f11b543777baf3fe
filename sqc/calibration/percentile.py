"""The range that keeps a given share of the values."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from sqc.calibration.histogram import Histogram
from sqc.calibration.minmax import minmax
from sqc.calibration.qparams import Grid
from sqc.errors import CalibrationError


def percentile(text: str) -> Callable[[Histogram, Grid], tuple[float, float]]:
    """The search that keeps at least `text` percent of the values: the percentage as a decimal, above 50, at most 100.

    Each end gives up as many whole bins as hold at most half of the rest together. What of zero's side lies beyond the
    data is kept anyway, for a range always holds zero. Raises CalibrationError for another number, or none.
    """
    kept = percentage(text)

    def search(histogram: Histogram, grid: Grid) -> tuple[float, float]:
        if histogram.total == 0:
            return 0.0, 0.0
        spared = int((1 - kept) / 2 * histogram.total)
        below = np.cumsum(histogram.counts)
        above = np.cumsum(histogram.counts[::-1])
        first = int(np.searchsorted(below, spared, "right"))  # the first bin that is kept
        last = histogram.counts.size - int(np.searchsorted(above, spared, "right"))
        low, high = minmax(histogram, grid)
        edges = histogram.edges
        return max(low, min(float(edges[first]), 0.0)), min(high, max(float(edges[last]), 0.0))

    return search


def percentage(text: str) -> Fraction:
    """`text` percent as an exact share. Raises CalibrationError unless it is a decimal above 50 and at most 100."""
    try:
        kept = Fraction(text) / 100
    except (ValueError, ZeroDivisionError):
        kept = Fraction(0)
    if not Fraction(1, 2) < kept <= 1:
        raise CalibrationError(
            f"'{text}' is no percentage to keep; give a number above 50 and at most 100, as in p99.9"
        )
    return kept
