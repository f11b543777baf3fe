"""From histograms on grids of powers of two to histograms with equal bins from the minimum to the maximum, and back.

The rule is that by which Caffe2's DNNLOWP finalizes its histograms: of a bin that reaches over an edge, the share
`min(rint((edge - begin) / width * count), count)` lies before the edge. Counts stay whole, and none is lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram, bin_window, exponent_for


def to_uniform(histogram: Histogram, bins: int) -> NDArray[np.int64]:
    """Counts (int64) of `bins` equal bins from the minimum to the maximum of a histogram that holds values.

    The values of a bin lie between the extremes, evenly. All are in the first bin where the extremes are equal.
    """
    edges = np.clip(histogram.edges, histogram.minimum, histogram.maximum)
    return _rebin(edges, histogram.counts, np.linspace(histogram.minimum, histogram.maximum, bins + 1))


def from_uniform(minimum: float, maximum: float, counts: NDArray[np.int64]) -> Histogram:
    """The histogram of values that are counted in equal bins from `minimum` to `maximum`, both float32."""
    exponent = exponent_for(minimum, maximum)
    first, last = bin_window(minimum, maximum, exponent)
    edges = np.ldexp(np.arange(first, last + 2, dtype=np.float64), exponent)
    sources = np.linspace(minimum, maximum, counts.size + 1)
    if minimum == maximum:  # of no width: all in the bin that holds this value, which may be that on an edge's right
        spread = np.zeros(edges.size - 1, np.int64)
        spread[np.searchsorted(edges, minimum, "right") - 1] = counts.sum()
    else:
        spread = _rebin(sources, counts, edges)
    return Histogram(exponent, first, spread, minimum, maximum)


def _rebin(sources: NDArray[np.float64], counts: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts between `edges`, which reach from the first to the last of `sources` or farther."""
    before = np.concatenate([[0], np.cumsum(counts)])
    inner = edges[1:-1]
    bins = np.searchsorted(sources, inner, "right") - 1
    bin_of = np.clip(bins, 0, counts.size - 1)
    width = sources[bin_of + 1] - sources[bin_of]
    share = np.rint(
        np.divide(inner - sources[bin_of], width, out=np.zeros(inner.size), where=width > 0) * counts[bin_of]
    )
    reached = before[bin_of] + np.clip(share, 0, counts[bin_of]).astype(np.int64)
    reached = np.where(bins < 0, 0, np.where(bins >= counts.size, before[-1], reached))
    return np.diff(np.concatenate([[0], reached, [before[-1]]]))
