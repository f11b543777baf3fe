"""The result of a calibration, as a user holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.channels import ChannelRanges
from sqc.calibration.dnnlowp_files import Parameters, is_dnnlowp, read_dnnlowp
from sqc.calibration.histogram import Histogram
from sqc.calibration.moments import Moments
from sqc.calibration.qparams import choose_qparams
from sqc.calibration.ranges import DEFAULT_SEARCH, choose_range, did_you_mean
from sqc.calibration.statistics import Statistics
from sqc.calibration.statistics_file import read_statistics, write_statistics
from sqc.calibration.tensor import TensorStatistics
from sqc.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model's tensors looked like on calibration data; made by `sqc.calibrate`, used by `sqc.compile`.

    It holds histograms and no parameters, so that it serves any range search, and it can be saved, loaded, and merged
    with that of other data; but one that was read from a file of ``parameters``, whose tensors take those instead of
    searched ones, can not. Raises CalibrationError if there were no samples.
    """

    statistics: Statistics
    parameters: Mapping[str, Parameters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not any(tensor.histogram.total for tensor in self.statistics.tensors.values()) and not self.samples:
            raise CalibrationError("the calibration data hold no samples; pass at least one batch")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors seen."""
        return tuple(self.statistics.tensors)

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return self.statistics.samples

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """The samples kept, {input: array with the samples along axis 0}, in an order that their bytes alone decide.

        Empty where none were kept. Each call makes new arrays.
        """
        return self.statistics.inputs.arrays()

    def __contains__(self, name: object) -> bool:
        return name in self.statistics.tensors

    def histogram(self, name: str) -> Histogram:
        """The histogram of a tensor. Raises CalibrationError if that tensor was not seen, like all that follow."""
        return self._tensor(name).histogram

    def moments(self, name: str) -> Moments | None:
        """Mean, mean square and variance of a tensor; None where the calibration was read from a text file."""
        return self._tensor(name).moments

    def channels(self, name: str) -> ChannelRanges | None:
        """The extremes of each channel of a tensor as it is held after the float passes; None where it has none."""
        return self._tensor(name).channels

    def batch_ranges(self, name: str) -> NDArray[np.float32]:
        """Minimum and maximum of a tensor in each batch, float32 [batches, 2], in the order of the batches."""
        self._tensor(name)
        return self.statistics.batches.of_tensor(name)

    def _tensor(self, name: str) -> TensorStatistics:
        tensors = self.statistics.tensors
        if name not in tensors:
            raise CalibrationError(
                f"tensor '{name}' is not in the calibration, which was made from another model or another version of "
                f"it{did_you_mean(name, tensors)} Otherwise calibrate this model"
            )
        return tensors[name]

    def range(
        self, name: str, search: str = DEFAULT_SEARCH, bits: int = 8, symmetric: bool = False
    ) -> tuple[float, float]:
        """The range of a tensor that the named search (see `search_names`) chooses; it holds zero."""
        return choose_range(self.histogram(name), search, bits, symmetric)

    def qparams(
        self, name: str, search: str = DEFAULT_SEARCH, dtype: str = "uint8", symmetric: bool = False, bits: int = 8
    ) -> tuple[float, int]:
        """Scale (exactly a float32) and zero point of a tensor for that range."""
        return choose_qparams(*self.range(name, search, bits, symmetric), dtype, symmetric, bits)

    def merge(self, other: Calibration) -> Calibration:
        """The calibration on both sets of data: the same, to the bit, as one run over all of them in any order.

        Raises CalibrationError for calibrations of different models, for a batch that is in both, and for parameters.
        """
        self._check_searchable()
        other._check_searchable()
        return Calibration(self.statistics.merge(other.statistics))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one file; equal calibrations give equal bytes. Raises CalibrationError if that fails."""
        self._check_searchable()
        write_statistics(self.statistics, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Calibration:
        """Read what `save` wrote, or a text file of DNNLOWP (see `from_dnnlowp`).

        Raises CalibrationError if the file is missing, damaged or empty.
        """
        text = os.path.isfile(path) and is_dnnlowp(path)
        return Calibration.from_dnnlowp(path) if text else Calibration(read_statistics(path))

    @staticmethod
    def from_dnnlowp(path: str | os.PathLike[str]) -> Calibration:
        """Read a file of Caffe2's DNNLOWP, which names the tensors as the model does.

        It holds no moments, batches or inputs. A histogram file serves any search, a min-max file only min-max. One of
        column maxima tells magnitudes, hence ranges around zero, for min-max as well, and channels. One of parameters
        needs no search. Raises CalibrationError if the file is missing, damaged or empty.
        """
        return Calibration(*read_dnnlowp(path))

    def _check_searchable(self) -> None:
        if self.parameters:
            raise CalibrationError("a calibration of given parameters cannot be saved or merged: keep the file itself")

    def __repr__(self) -> str:
        return f"Calibration({len(self.names)} tensors, {self.samples} samples)"
