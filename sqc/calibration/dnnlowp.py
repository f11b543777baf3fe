"""The searches as Caffe2's DNNLOWP states them: `l2-dnnlowp`, `l1-dnnlowp` and `l2-approx`.

What is minimized. Let `p` be the density of the histogram, the count of each of its n bins spread uniformly over the
whole bin. A candidate is m bins from bin s on. It has D = 2**bits levels, the centres of D equal parts of those m bins,
and its cost is the integral over all x of `p(x) * |x - level(x)|**power`, where level(x) is that of the part that holds
x, of the first or last one for what lies outside. Candidates are all m from 1 to n with all s from 0 to n - m. For a
symmetric grid there is one for each m: s = 0 if the histogram starts at zero, else the bin of zero less m // 2, and the
m bins may leave the histogram. Equal costs go to the smallest m, then to the smallest s.

Unlike `l1` and `l2` this model has no zero point, places levels half a step inside the range, and takes the scale for
1/D of the range where that will be 1/(D - 1) of it.

How. In bin widths, let a value start at the first level c_0 and climb. Passing the boundary b_k between the levels
c_{k-1} and c_k lowers `(x - c_{k-1})**2` by `2 * m/D * (x - b_k)`, and `|x - c_{k-1}|` by
`2 * (max(x - b_k, 0) - max(x - c_k, 0))`. With the excess A(b), the integral of `p(x) * max(x - b, 0)`, the cost of a
candidate is its first level's cost, from moments, less a sum of A at places s + f_k that depend on s only by
translation. A(i + f) = A(i) - f * tail(i) + f**2 / 2 * p(i) for an edge i and f within [0, 1]. So the sums for all s of
one m are three correlations, which the FFT computes; candidates whose costs it cannot tell apart are summed again.
"""

from __future__ import annotations

import numpy as np

from sqc.calibration.histogram import Histogram
from sqc.calibration.qparams import Grid
from sqc.calibration.true_levels import Floats, Integers, Power

_ROWS = 64  # widths or candidates handled at a time: the temporaries stay in the cache
_SETTLED = 4096  # candidates, at most, that are summed again


def l1_dnnlowp(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range of the candidate with the least absolute error, widened to hold zero; (0, 0) of no values."""
    return _exhaustive(histogram, grid, 1)


def l2_dnnlowp(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range of the candidate with the least squared error, widened to hold zero; (0, 0) of no values."""
    return _exhaustive(histogram, grid, 2)


def l2_approx(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """A range near that of `l2-dnnlowp`, found greedily; that itself for a symmetric grid. (0, 0) of no values.

    Starts with all bins and gives up 1e-5 of the values at a time, at the end where that frees more bins (at the upper
    end if equal), as long as the squared error does not grow.
    """
    if grid.symmetric:
        return l2_dnnlowp(histogram, grid)
    if histogram.total == 0:
        return 0.0, 0.0
    return _range(histogram, *_greedy(Moments(histogram.counts), int(2**grid.bits)))


def _greedy(moments: Moments, levels: int) -> tuple[int, int]:
    """First bin and number of bins. Shares of the values are counted in whole steps, so that nothing is rounded."""
    steps = 100_000
    cumulative = np.cumsum(moments.counts)
    total = int(cumulative[-1])
    first, last = 0, cumulative.size - 1
    lower, upper = 0, steps
    best = np.inf
    while lower < upper:
        # The first bin at whose end `lower + 1` steps are reached; the last at whose end `upper - 1` are not passed.
        head = int(np.searchsorted(cumulative, -(-(lower + 1) * total // steps), "left"))
        tail = int(np.searchsorted(cumulative, (upper - 1) * total // steps, "right")) - 1
        head, tail = min(max(head, first), last), max(min(tail, last), first)
        if head == first and tail == last:
            if first == last:
                break
            upper = -(-int(cumulative[last]) * steps // total)  # only `upper` would move, until it frees a bin
            continue
        if head - first > last - tail:
            start, end, lower = head, last, lower + 1
        else:
            start, end, upper = first, tail, upper - 1
        cost = moments.cost(np.array([start]), np.array([end - start + 1]), levels, 2)[0]
        if cost > best:
            break
        best, first, last = cost, start, end
    return first, last - first + 1


def _exhaustive(histogram: Histogram, grid: Grid, power: Power) -> tuple[float, float]:
    if histogram.total == 0:
        return 0.0, 0.0
    moments, levels = Moments(histogram.counts), int(2**grid.bits)
    bins = histogram.counts.size
    sizes = np.arange(1, bins + 1)
    if grid.symmetric:
        starts = np.zeros_like(sizes) if histogram.first == 0 else -histogram.first - sizes // 2
    else:
        starts, sizes = _nearly_best(moments, levels, power)
    best = int(moments.cost(starts, sizes, levels, power).argmin())
    return _range(histogram, int(starts[best]), int(sizes[best]))


def _range(histogram: Histogram, start: int, size: int) -> tuple[float, float]:
    low, high = (float((histogram.first + edge) * histogram.bin_width) for edge in (start, start + size))
    return min(low, 0.0), max(high, 0.0)


def _nearly_best(moments: Moments, levels: int, power: Power) -> tuple[Integers, Integers]:
    """(starts, sizes) of the candidates whose costs by the FFT are the least, ordered by size, then start."""
    bins = moments.counts.size
    starts = np.arange(bins)
    costs = np.full((bins, bins), np.inf)  # [size - 1, start]
    for begin in range(0, bins, _ROWS):
        sizes = np.arange(begin + 1, min(begin + _ROWS, bins) + 1)
        cost = moments.first_level_cost(starts, sizes[:, None], levels, power)
        cost -= _saved_by_translation(moments, sizes, levels, power)
        costs[begin : begin + sizes.size] = np.where(starts <= bins - sizes[:, None], cost, np.inf)
    noise = 1e-13 * moments.first_level_cost(np.zeros(1), np.ones(1), levels, power)[0]
    near = np.flatnonzero(costs <= costs.min() * (1 + 1e-6) + noise)
    if near.size > _SETTLED:
        near = np.sort(near[np.argsort(costs.flat[near], kind="stable")[:_SETTLED]])
    return near % bins, near // bins + 1


def _saved_by_translation(moments: Moments, sizes: Integers, levels: int, power: Power) -> Floats:
    """[sizes, starts]: what climbing from the first level saves; of use where the candidate lies in the histogram."""
    length = 1 << (moments.counts.size - 1).bit_length()
    boundaries, centres = 2 * np.arange(1, levels), 2 * np.arange(1, levels) + 1
    halves = boundaries if power == 2 else np.concatenate([boundaries, centres])
    weights = np.full((sizes.size, halves.size), 2.0)
    if power == 2:
        weights *= sizes[:, None] / levels
    else:
        weights[:, boundaries.size :] *= -1
    edge, part = np.divmod(sizes[:, None] * halves, 2 * levels)
    fraction = part / (2 * levels)
    place = (np.arange(sizes.size)[:, None] * length + edge).ravel()
    spectrum: np.ndarray = np.zeros(())
    for order, coefficient in enumerate((moments.excess[:-1], -moments.tail[:-1], moments.counts / 2)):
        kernel = np.bincount(place, (weights * fraction**order).ravel(), sizes.size * length)
        kernel = kernel.reshape(sizes.size, length)
        spectrum = spectrum + np.conj(np.fft.rfft(kernel)) * np.fft.rfft(coefficient, length)
    saved: Floats = np.fft.irfft(spectrum, length)[:, : moments.counts.size]
    return saved


class Moments:
    """Integrals of the density of n bins of width 1, from which the cost of any candidate follows."""

    def __init__(self, counts: Integers) -> None:
        self.counts = counts
        self.tail = np.append(np.cumsum(counts[::-1])[::-1], 0).astype(np.float64)  # values beyond each edge
        within = self.tail[1:] + counts / 2
        self.excess = np.append(np.cumsum(within[::-1])[::-1], 0.0)  # A(b) at each edge
        middles = np.arange(counts.size) + 0.5
        self.total = float(counts.sum())
        self.mean = float((counts * middles).sum()) / self.total
        self.variance = float((counts * (middles - self.mean) ** 2).sum()) / self.total + 1 / 12

    def cost(self, starts: Integers, sizes: Integers, levels: int, power: Power) -> Floats:
        """The cost of candidates [R], which may reach beyond the bins."""
        costs = np.empty(starts.size)
        index = np.arange(1, levels)
        for begin in range(0, starts.size, _ROWS):
            rows = slice(begin, begin + _ROWS)
            start, step = starts[rows, None], sizes[rows, None] / levels
            saved = self.excess_at(start + index * step)
            if power == 2:
                saved = step * saved
            else:
                saved -= self.excess_at(start + step * (index + 0.5))
            costs[rows] = self.first_level_cost(starts[rows], sizes[rows], levels, power) - 2 * saved.sum(axis=1)
        return np.maximum(costs, 0.0)

    def first_level_cost(self, starts: np.ndarray, sizes: np.ndarray, levels: int, power: Power) -> Floats:
        """The cost of having no level but the first."""
        distance = self.mean - (starts + sizes / (2 * levels))
        if power == 2:
            squared: Floats = self.total * (self.variance + distance**2)
            return squared
        return 2 * self.excess_at(self.mean - distance) - self.total * distance

    def excess_at(self, boundary: np.ndarray) -> Floats:
        """A(b), the integral of p(x) * max(x - b, 0)."""
        inside = np.clip(boundary, 0.0, self.counts.size)
        edge = np.minimum(inside.astype(np.intp), self.counts.size - 1)
        fraction = inside - edge
        value: Floats = self.excess[edge] - fraction * (self.tail[edge] - fraction * (self.counts[edge] / 2))
        value += self.total * np.maximum(-boundary, 0.0)
        return value
