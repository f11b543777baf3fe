"""The range with the least quantization error, found exactly: squared (`l2`) or absolute (`l1`).

What is minimized. Let `p` be the density of the histogram: the count of each bin spread uniformly over the part of the
bin that lies between the exact minimum and maximum (all in one point where that part has no width). A range
`(low, high)` becomes a scale `s` and a zero point `z` by `Grid.parameters` for the levels `0 .. n`, and its cost is the
integral over all x of

    p(x) * |x - s * (clamp(rint(x / s) + z, 0, n) - z)|**power

with nothing left out: rounding inside the range, clipping outside, the rounded zero point and the float32 scale.
The candidates are all pairs of bin edges with `low <= 0 <= high` (not both 0), and the exact minimum and maximum.
For a symmetric grid, where both signs occur, they are the pairs with `low < 0 < high`. Equal costs go to the exact
extremes, then to the smallest `low`, then to the largest `high`.

How. Zero is a level, so all levels are multiples of `s`. Start from quantizing everything to zero, and let a value
x > 0 climb: each rounding boundary `b_k = (k - 1/2) * s` that it passes replaces the level `(k-1)s` by `ks`. That
lowers `(x - (k-1)s)**2` by `2s * (x - b_k)`, and `|x - (k-1)s|` by `2 * (max(x - b_k, 0) - max(x - ks, 0))`. With the
excess `A+(b)`, the integral of `p(x) * max(x - b, 0)`, and `A-` likewise for negative x, the cost is

    l2: integral of p(x) * x**2  -  2s * (A+(b_1) + ... + A+(b_{n-z}) + A-(b_1) + ... + A-(b_z))
    l1: integral of p(x) * |x|   -  2 * (A+(b_1) - A+(s) + ... + A+(b_{n-z}) - A+((n-z)s) + the same of A-)

in which rounding and clipping are both contained. The running sums depend on `s` alone, so a table of them, made
once for each width in bins, turns every candidate into two look-ups.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram
from sqc.calibration.minmax import minmax
from sqc.calibration.qparams import Grid

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Power: TypeAlias = Literal[1, 2]

_ROWS = 64  # scales or range starts handled at a time: the temporaries stay in the cache


def l1(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The candidate range (low, high) with the least absolute error, both as stated above; (0, 0) of no values."""
    return _least_error(histogram, grid, 1)


def l2(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The candidate range (low, high) with the least squared error, both as stated above; (0, 0) of no values."""
    return _least_error(histogram, grid, 2)


def quantization_error(histogram: Histogram, low: float, high: float, grid: Grid, power: Power) -> float:
    """The error, summed over all values, of quantizing to the range (low, high): the cost of `l1` or `l2`."""
    saved = _saved_one_scale_each(histogram, np.array([low]), np.array([high]), grid, power)[0]
    knots = np.clip(histogram.edges, histogram.minimum, histogram.maximum) / histogram.bin_width
    left, right = knots[:-1], knots[1:]
    moments = np.abs(left + right) / 2 if power == 1 else (left * left + left * right + right * right) / 3
    return float(max((histogram.counts * moments).sum() - saved, 0.0) * histogram.bin_width**power)


# From here on all lengths are in bin widths, so that results scale exactly with the data.


def _least_error(histogram: Histogram, grid: Grid, power: Power) -> tuple[float, float]:
    if histogram.total == 0:
        return 0.0, 0.0
    low, high = minmax(histogram, grid)
    saved_by_extremes = _saved_one_scale_each(histogram, np.array([low]), np.array([high]), grid, power)[0]
    both_signs = histogram.minimum < 0 < histogram.maximum
    find = _best_symmetric if grid.symmetric and both_signs else _best_affine
    saved, best_low, best_high = find(histogram, grid, power)
    return (best_low, best_high) if saved > saved_by_extremes else (low, high)


def _best_affine(histogram: Histogram, grid: Grid, power: Power) -> tuple[float, float, float]:
    """(saved, low, high) of the best pair of edges, any of them with any other across zero."""
    width, steps = histogram.bin_width, grid.steps
    edges = histogram.edges
    lows, highs = edges[: 1 - histogram.first], edges[-histogram.first :][::-1]
    spans = np.arange(edges.size, dtype=np.float64) * width
    scales, _ = Grid(grid.bits, power_of_two=grid.power_of_two).parameters(np.float64(0.0), spans)
    above, below = _savings(histogram, scales / width, steps, power)
    best = (-1.0, 0.0, 0.0)
    for begin in range(0, lows.size, _ROWS):
        low, high = lows[begin : begin + _ROWS, None], highs[None, :]
        span = ((high - low) / width).astype(np.int64)
        _, zero = grid.parameters(low, high)
        saved = above[span, steps - zero] + below[span, zero]
        saved[span == 0] = -1.0  # no range at all
        row, column = np.unravel_index(int(saved.argmax()), saved.shape)
        if saved[row, column] > best[0]:
            best = float(saved[row, column]), float(low[row, 0]), float(high[0, column])
    return best


def _best_symmetric(histogram: Histogram, grid: Grid, power: Power) -> tuple[float, float, float]:
    """(saved, low, high) of the best pair of edges strictly across zero, with zero at the middle level.

    One edge of a pair sets the scale; the other may as well be the outermost one that leaves it so.
    """
    half = 2 ** (grid.bits - 1)
    below, above = histogram.first, histogram.first + histogram.counts.size
    lows, highs = np.arange(below, 0), np.arange(1, above + 1)
    partner_highs = np.clip(-lows * (half - 1) // half, 1, above)
    partner_lows = np.clip(-(highs * half // (half - 1)), below, -1)
    low = np.concatenate([lows, partner_lows]) * histogram.bin_width
    high = np.concatenate([partner_highs, highs]) * histogram.bin_width
    order = np.lexsort((-high, low))
    low, high = low[order], high[order]
    saved = _saved_one_scale_each(histogram, low, high, grid, power)
    best = int(saved.argmax())
    return float(saved[best]), float(low[best]), float(high[best])


def _saved_one_scale_each(histogram: Histogram, low: Floats, high: Floats, grid: Grid, power: Power) -> Floats:
    """What each range [R] saves against quantizing everything to zero."""
    scales, zeros = grid.parameters(low, high)
    above, below = _savings(histogram, scales / histogram.bin_width, grid.steps, power)
    rows = np.arange(scales.size)
    saved: Floats = above[rows, grid.steps - zeros] + below[rows, zeros]
    return saved


def _savings(histogram: Histogram, scales: Floats, steps: int, power: Power) -> tuple[Floats, Floats]:
    """[R, steps + 1] each: what 0, 1, ..., steps levels above and below zero save with each scale."""
    minimum, maximum = histogram.minimum / histogram.bin_width, histogram.maximum / histogram.bin_width
    zero = -histogram.first
    above = _one_side(histogram.counts[zero:], max(minimum, 0.0), max(maximum, 0.0), scales, steps, power)
    below = _one_side(histogram.counts[:zero][::-1], max(-maximum, 0.0), max(-minimum, 0.0), scales, steps, power)
    return above, below


def _one_side(counts: Integers, nearest: float, farthest: float, scales: Floats, steps: int, power: Power) -> Floats:
    """The savings for values of one sign: bin i of `counts` holds [i, i + 1] cut to [nearest, farthest]."""
    sums = np.zeros((scales.size, steps + 1))
    if counts.size == 0 or farthest == 0:
        return sums
    excess = _Excess(counts, nearest, farthest)
    for begin in range(0, scales.size, _ROWS):
        scale = scales[begin : begin + _ROWS, None]
        reach = int(min(steps, farthest / float(scale.min()) + 1))  # no value passes a boundary further out
        index = np.arange(reach)
        saved = excess((index + 0.5) * scale)
        saved = 2 * scale * saved if power == 2 else 2 * (saved - excess((index + 1) * scale))
        np.cumsum(saved, axis=1, out=saved)
        sums[begin : begin + _ROWS, 1 : reach + 1] = saved
        sums[begin : begin + _ROWS, reach + 1 :] = saved[:, -1:]
    return sums


class _Excess:
    """A(b), the integral of p(x) * max(x - b, 0), for values of one sign."""

    def __init__(self, counts: Integers, nearest: float, farthest: float) -> None:
        self.knots = np.clip(np.arange(counts.size + 1.0), nearest, farthest)
        self.total = float(counts.sum())
        widths = np.diff(self.knots)
        # Of the bins further out than each: their count, and the excess over the outer knot.
        self.beyond = np.append(np.cumsum(counts[::-1])[::-1], 0)[1:].astype(np.float64)
        within = counts * widths / 2 + self.beyond * widths  # what the excess grows by across a bin
        self.outer = np.append(np.cumsum(within[::-1])[::-1], 0.0)[1:]
        self.curvature = np.divide(counts, 2 * widths, out=np.zeros(counts.size), where=widths > 0)

    def __call__(self, boundary: Floats) -> Floats:
        inside = np.clip(boundary, self.knots[0], self.knots[-1])
        index = np.minimum(inside.astype(np.intp), self.beyond.size - 1)
        left = self.knots[1:][index] - inside
        value: Floats = self.outer[index] + left * (self.beyond[index] + self.curvature[index] * left)
        value += self.total * np.maximum(self.knots[0] - boundary, 0.0)
        return value
