"""The calibration of a graph some of whose channels were scaled, from that of the graph before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.calibration import Calibration
from sqc.calibration.histogram import Histogram
from sqc.calibration.statistics import Statistics
from sqc.calibration.tensor import TensorStatistics


def rescaled(known: Calibration, kept: Calibration, factors: Mapping[str, NDArray[np.float64]]) -> Calibration:
    """What `known` saw of tensors that no factor touched; of the others what `kept` saw of the scaled graph.

    `kept` has fewer samples, those that `known` keeps, so it may lack the largest numbers: the extremes of each channel
    in `known`, times its factor, count once more. `factors` are [C] by the names of tensors.
    """
    tensors = dict(known.statistics.tensors)
    for name, scale in factors.items():
        if name in tensors and name in kept.statistics.tensors:
            tensors[name] = _with_extremes(kept.statistics.tensors[name], tensors[name], scale)
    return Calibration(Statistics(tensors, known.samples, kept.statistics.batches, known.statistics.inputs))


def _with_extremes(kept: TensorStatistics, known: TensorStatistics, scale: NDArray[np.float64]) -> TensorStatistics:
    channels = known.channels
    if channels is None or channels.minima.shape != scale.shape:
        return kept
    extremes = np.concatenate([channels.minima * scale, channels.maxima * scale]).astype(np.float32)
    return replace(kept, histogram=kept.histogram.merge(Histogram.of(extremes)))
