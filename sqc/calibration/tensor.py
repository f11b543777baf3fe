"""What calibration keeps of one tensor."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from sqc.calibration.channels import ChannelRanges
from sqc.calibration.histogram import Histogram, as_float32
from sqc.calibration.moments import Moments


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """A histogram, and where they are known, moments and the extremes of each channel."""

    histogram: Histogram
    moments: Moments | None = None
    channels: ChannelRanges | None = None

    @staticmethod
    def of(
        values: ArrayLike, samples: int = 1, channel_axis: int | None = None, name: str = "tensor"
    ) -> TensorStatistics:
        """Of `values`, of any shape, the results of `samples` samples; `name` is what an error calls them.

        Raises CalibrationError where values are no numbers, NaN or infinite (also: too large for float32).
        """
        data = as_float32(values, name)
        histogram = Histogram.of(data, name)
        channels = None if channel_axis is None else ChannelRanges.of(data, channel_axis)
        return TensorStatistics(histogram, Moments.of(data, samples), channels)

    def merge(self, other: TensorStatistics) -> TensorStatistics:
        """Of the values of both; what only one of them knows is dropped.

        Raises CalibrationError if the channels are not the same.
        """
        moments = self.moments.merge(other.moments) if self.moments and other.moments else None
        channels = self.channels.merge(other.channels) if self.channels and other.channels else None
        return TensorStatistics(self.histogram.merge(other.histogram), moments, channels)
