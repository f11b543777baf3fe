"""Counting the tensors of a batch while a model runs over its calibration data."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from sqc.calibration.histogram import Histogram
from sqc.calibration.statistics import Statistics


def accumulate(statistics: Statistics, tensors: Mapping[str, ArrayLike], samples: int = 1) -> None:
    """Add the values of one batch, {tensor name: array of any shape}, to `statistics`.

    `samples` is how many samples the batch holds; rows that only fill up a ragged last batch must be cut off before.
    Raises CalibrationError, and adds nothing of the batch, if one of the arrays holds NaN or infinities.
    """
    counted = {name: Histogram.of(values, name) for name, values in tensors.items()}
    for name, histogram in counted.items():
        statistics.histograms[name] = statistics.histograms.get(name, Histogram.empty()).merge(histogram)
    statistics.samples += samples
