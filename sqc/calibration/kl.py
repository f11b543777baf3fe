"""The range whose levels tell least less than the histogram does: the least Kullback-Leibler divergence.

What is minimized. A candidate is m bins from bin s on, cut into D = 2**bits equal parts. Let `c_i` be the count of bin
i, and `C_i` the same with the values outside of the candidate added to its first and last bin. A part holds a share
f_i of each bin that it meets, `sum = f_i c_i + ...` values, and `width = f_i + ...` over the bins with C_i > 0. It
stands for its values spread evenly over that width, so that the divergence is the sum over all parts and their bins of

    P ln(P / Q)   with   P = f_i C_i / total,   Q = f_i sum / (width total)

and infinite where sum is 0 but P is not. That is the cost of DNNLOWP's `kl`, but for two things. P is not rounded to
whole values, so that the cost does not change when all counts are multiplied. And the bin that starts at zero counts no
more than the larger of the bins beside it: zero is a level of every range, so that the zeros which a ReLU leaves are
told exactly, however many they are; counted, they would call for parts as narrow as their bin.

Candidates are pairs of bin edges with low <= 0 <= high, and the range is that between the edges, cut to the exact
extremes. For a symmetric grid, where both signs occur, they are the pairs equally far from zero, though one edge may
lie beyond the histogram. Of many bins not all pairs are tried: first those of edges a multiple of a stride away from
zero, and the histogram's ends; then, around the best of them, those within two strides, at half the stride; and so on
until the stride is 1. Up to 64 bins all pairs are. Equal costs go to the smallest low, then to the smallest high.

How. Put together, the divergence is the sum of `C_i ln C_i` over the bins of the candidate and of `W ln(width / sum)`
over its parts, W the sum of `f_i C_i`, divided by the total. All of it comes from running sums at edges, interpolated.
"""

from __future__ import annotations

import numpy as np

from sqc.calibration.histogram import Histogram
from sqc.calibration.minmax import minmax
from sqc.calibration.qparams import Grid
from sqc.calibration.true_levels import Floats, Integers

_EDGES = 64  # pairs of about as many edges are tried at each stride
_AROUND = np.arange(-4, 5)
_ROWS = 64  # candidates handled at a time: the temporaries stay in the cache


def kl(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range (low, high) with the least divergence, as stated above; (0, 0) of an empty histogram."""
    if histogram.total == 0:
        return 0.0, 0.0
    counts, zero, parts = _without_zeros(histogram), -histogram.first, int(2**grid.bits)
    if not counts.any():
        return minmax(histogram, grid)
    if grid.symmetric and 0 < zero < counts.size:
        reach = max(zero, counts.size - zero)
        padded = np.pad(counts, (reach - zero, reach - counts.size + zero))
        half = np.arange(reach, 0, -1)
        best = int(_Divergence(padded, parts)(reach - half, reach + half).argmin())
        first, last = -int(half[best]), int(half[best])
    else:
        edges = _search(_Divergence(counts, parts), zero)
        first, last = (edge - zero for edge in edges)
    low, high = minmax(histogram, grid)
    return max(low, first * histogram.bin_width), min(high, last * histogram.bin_width)


def _without_zeros(histogram: Histogram) -> Integers:
    """The counts, that of the bin which starts at zero cut to the larger of its neighbours."""
    counts: Integers = histogram.counts.copy()
    zero = -histogram.first
    beside = [*counts[max(zero - 1, 0) : zero], *counts[zero + 1 : zero + 2]]
    if zero < counts.size:
        counts[zero] = min(counts[zero], max(beside, default=0))
    return counts


def _search(divergence: _Divergence, zero: int) -> tuple[int, int]:
    """The edges of the best pair across the edge `zero`."""
    bins = divergence.counts.size
    stride = 1
    while bins > _EDGES * stride:
        stride *= 2
    lows = np.unique([*range(zero, 0, -stride), 0])
    highs = np.unique([*range(zero, bins, stride), bins])
    while True:
        low, high = (axis.ravel() for axis in np.meshgrid(lows, highs, indexing="ij"))
        low, high = low[low < high], high[low < high]
        best = int(divergence(low, high).argmin())
        if stride == 1:
            return int(low[best]), int(high[best])
        stride //= 2
        lows = np.unique(np.clip(low[best] + stride * _AROUND, 0, zero))
        highs = np.unique(np.clip(high[best] + stride * _AROUND, zero, bins))


class _Divergence:
    """The cost of candidates."""

    def __init__(self, counts: Integers, parts: int) -> None:
        self.counts = counts.astype(np.float64)
        self.parts = np.arange(parts + 1) / parts
        self.before = np.append(0.0, np.cumsum(self.counts))
        self.occupied = np.append(0.0, np.cumsum(counts > 0))
        self.entropy = np.append(0.0, np.cumsum(_times_log(self.counts, self.counts)))

    def __call__(self, low: Integers, high: Integers) -> Floats:
        """[R]: the divergence of the bins between the edges `low` and `high` [R], times the number of values."""
        blocks = range(0, low.size, _ROWS)
        return np.concatenate([self._block(low[i : i + _ROWS, None], high[i : i + _ROWS, None]) for i in blocks])

    def _block(self, low: Integers, high: Integers) -> Floats:
        position = low + (high - low) * self.parts
        bin = np.minimum(position.astype(np.intp), self.counts.size - 1)
        share = position - bin
        inside = self.before[bin] + share * self.counts[bin]
        width = self.occupied[bin] + share * (self.counts[bin] > 0)
        with_tails = inside
        entropy = self.entropy[high] - self.entropy[low]
        single = high - low == 1
        tails = self.before[low], self.before[-1] - self.before[high]
        ends = (low, tails[0] + single * tails[1]), (high - 1, np.where(single, 0.0, tails[1]))
        for end, tail in ends:
            reached = np.clip(position - end, 0.0, 1.0)
            own = self.counts[end]
            with_tails = with_tails + reached * tail
            width = width + reached * ((own == 0) & (tail > 0))
            entropy = entropy + _times_log(own + tail, own + tail) - _times_log(own, own)
        values, inside, width = (np.diff(running) for running in (with_tails, inside, width))
        with np.errstate(divide="ignore"):
            spread = np.divide(width, inside, out=np.ones_like(width), where=values > 0)
        cost: Floats = entropy[:, 0] + _times_log(values, spread).sum(axis=1)
        return cost


def _times_log(values: Floats, argument: Floats) -> Floats:
    """`values * ln(argument)`, 0 where a value is 0."""
    return values * np.log(argument, out=np.zeros_like(argument), where=values > 0)
