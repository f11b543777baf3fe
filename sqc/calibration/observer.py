"""Counting the tensors of a batch while a model runs over its calibration data."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from sqc.calibration.statistics import Statistics
from sqc.calibration.tensor import TensorStatistics


def accumulate(
    statistics: Statistics,
    tensors: Mapping[str, ArrayLike],
    samples: int = 1,
    channel_axes: Mapping[str, int] | None = None,
) -> None:
    """Add the values of some samples, {tensor name: array of any shape}, to `statistics`.

    `samples` is how many they are; rows that only fill up a ragged last batch must be cut off before. `channel_axes`
    tells the axis of the channels, for the tensors that have one. Raises CalibrationError, and adds nothing, if one of
    the arrays holds NaN or infinities.
    """
    axes = channel_axes or {}
    new = {name: TensorStatistics.of(values, samples, axes.get(name), name) for name, values in tensors.items()}
    for name, tensor in new.items():
        statistics.tensors[name] = statistics.tensors[name].merge(tensor) if name in statistics.tensors else tensor
    statistics.samples += samples
