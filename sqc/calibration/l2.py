"""The range with the least squared quantization error, found exactly.

What is minimized. Let `p` be the density of the histogram: the count of each bin spread uniformly over the part of the
bin that lies between the exact minimum and maximum (all in one point where that part has no width). A range
`(low, high)` becomes a scale `s` and a zero point `z` by `choose_qparams` for uint8 levels `0 .. n = 2**bits - 1`,
and its cost is the integral over all x of

    p(x) * (x - s * (clamp(rint(x / s) + z, 0, n) - z))**2

with nothing left out: rounding inside the range, clipping outside, the rounded zero point and the float32 scale.
The candidates are all pairs of bin edges with `low <= 0 <= high` (not both 0), and the exact minimum and maximum.
For `symmetric`, where both signs occur, they are the pairs with `low < 0 < high`. Equal costs go to the exact
extremes, then to the smallest `low`, then to the largest `high`.

How. Zero is a level, so all levels are multiples of `s`. Start from quantizing everything to zero, and let a value
x > 0 climb: each rounding boundary `b_k = (k - 1/2) * s` that it passes lowers its error from `(x - (k-1)s)**2` to
`(x - ks)**2`, by `2s * (x - b_k)`. With the excess `A+(b)`, the integral of `p(x) * max(x - b, 0)`, and `A-` likewise
for negative x, the cost is

    integral of p(x) * x**2  -  2s * (A+(b_1) + ... + A+(b_{n-z}) + A-(b_1) + ... + A-(b_z))

in which rounding and clipping are both contained. The running sums depend on `s` alone, so a table of them, made
once for each width in bins, turns every candidate into two look-ups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram
from sqc.calibration.minmax import minmax
from sqc.calibration.qparams import affine_parameters

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROWS = 64  # scales or range starts handled at a time: the temporaries stay in the cache


def l2(histogram: Histogram, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:
    """The candidate range (low, high) with the least cost, both as stated above; (0, 0) of an empty histogram."""
    if histogram.total == 0:
        return 0.0, 0.0
    both_signs = histogram.minimum < 0 < histogram.maximum
    gain_of_extremes = _gains_one_scale_each(histogram, *_extremes(histogram), bits, symmetric)[0]
    find = _best_symmetric if symmetric and both_signs else _best_affine
    gain, low, high = find(histogram, bits)
    return (low, high) if gain > gain_of_extremes else minmax(histogram)


def l2_cost(histogram: Histogram, low: float, high: float, bits: int = 8, symmetric: bool = False) -> float:
    """The squared error, summed over all values, of quantizing to the range (low, high): what `l2` minimizes."""
    gain = _gains_one_scale_each(histogram, np.array([low]), np.array([high]), bits, symmetric)[0]
    knots = np.clip(histogram.edges, histogram.minimum, histogram.maximum) / histogram.bin_width
    left, right = knots[:-1], knots[1:]
    energy = (histogram.counts * (left * left + left * right + right * right)).sum() / 3
    return float(max(energy - gain, 0.0)) * histogram.bin_width**2


# From here on all lengths are in bin widths, so that results scale exactly with the data.


def _best_affine(histogram: Histogram, bits: int) -> tuple[float, float, float]:
    """(gain, low, high) of the best pair of edges, any of them with any other across zero."""
    width, steps = histogram.bin_width, 2**bits - 1
    edges = histogram.edges
    lows, highs = edges[: 1 - histogram.first], edges[-histogram.first :][::-1]
    spans = np.arange(edges.size, dtype=np.float64) * width
    scales, _ = affine_parameters(np.float64(0.0), spans, bits, False)
    scales /= width
    above, below = _excess_sums(histogram, scales, steps)
    best = (-1.0, 0.0, 0.0)
    for begin in range(0, lows.size, _ROWS):
        low, high = lows[begin : begin + _ROWS, None], highs[None, :]
        span = ((high - low) / width).astype(np.int64)
        _, zero = affine_parameters(low, high, bits, False)
        gains = 2 * scales[span] * (above[span, steps - zero] + below[span, zero])
        gains[span == 0] = -1.0  # no range at all
        row, column = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[row, column] > best[0]:
            best = float(gains[row, column]), float(low[row, 0]), float(high[0, column])
    return best


def _best_symmetric(histogram: Histogram, bits: int) -> tuple[float, float, float]:
    """(gain, low, high) of the best pair of edges strictly across zero, with zero at the middle level.

    One edge of a pair sets the scale; the other may as well be the outermost one that leaves it so.
    """
    half = 2 ** (bits - 1)
    below, above = histogram.first, histogram.first + histogram.counts.size
    lows, highs = np.arange(below, 0), np.arange(1, above + 1)
    partner_highs = np.clip(-lows * (half - 1) // half, 1, above)
    partner_lows = np.clip(-(highs * half // (half - 1)), below, -1)
    low = np.concatenate([lows, partner_lows]) * histogram.bin_width
    high = np.concatenate([partner_highs, highs]) * histogram.bin_width
    order = np.lexsort((-high, low))
    low, high = low[order], high[order]
    gains = _gains_one_scale_each(histogram, low, high, bits, True)
    best = int(gains.argmax())
    return float(gains[best]), float(low[best]), float(high[best])


def _gains_one_scale_each(histogram: Histogram, low: Floats, high: Floats, bits: int, symmetric: bool) -> Floats:
    """What each range [R] saves against quantizing everything to zero."""
    steps = 2**bits - 1
    scales, zeros = affine_parameters(low, high, bits, symmetric)
    scales = scales / histogram.bin_width
    above, below = _excess_sums(histogram, scales, steps)
    rows = np.arange(scales.size)
    gains: Floats = 2 * scales * (above[rows, steps - zeros] + below[rows, zeros])
    return gains


def _extremes(histogram: Histogram) -> tuple[Floats, Floats]:
    low, high = minmax(histogram)
    return np.array([low]), np.array([high])


def _excess_sums(histogram: Histogram, scales: Floats, steps: int) -> tuple[Floats, Floats]:
    """[R, steps + 1] each: the sums of `A+` and `A-` over the first 0, 1, ..., steps boundaries of each scale."""
    minimum, maximum = histogram.minimum / histogram.bin_width, histogram.maximum / histogram.bin_width
    zero = -histogram.first
    above = _one_side(histogram.counts[zero:], max(minimum, 0.0), max(maximum, 0.0), scales, steps)
    below = _one_side(histogram.counts[:zero][::-1], max(-maximum, 0.0), max(-minimum, 0.0), scales, steps)
    return above, below


def _one_side(counts: Integers, nearest: float, farthest: float, scales: Floats, steps: int) -> Floats:
    """The sums for values of one sign: bin i of `counts` holds [i, i + 1] cut to [nearest, farthest]."""
    sums = np.zeros((scales.size, steps + 1))
    if counts.size == 0 or farthest == 0:
        return sums
    knots = np.clip(np.arange(counts.size + 1.0), nearest, farthest)
    widths = np.diff(knots)
    beyond = np.append(np.cumsum(counts[::-1])[::-1], 0)[1:].astype(np.float64)  # count of all bins further out
    within = counts * widths / 2 + beyond * widths  # what the excess grows by across a bin
    excess = np.append(np.cumsum(within[::-1])[::-1], 0.0)[1:]  # at the outer knot of each bin
    curvature = np.divide(counts, 2 * widths, out=np.zeros(counts.size), where=widths > 0)
    total = float(counts.sum())
    for begin in range(0, scales.size, _ROWS):
        scale = scales[begin : begin + _ROWS, None]
        reach = int(min(steps, farthest / float(scale.min()) + 1))  # no value passes a boundary further out
        boundary = (np.arange(reach) + 0.5) * scale
        inside = np.clip(boundary, nearest, farthest)
        index = np.minimum(inside.astype(np.intp), counts.size - 1)
        left = knots[1:][index] - inside
        value = excess[index] + left * (beyond[index] + curvature[index] * left)
        value += total * np.maximum(nearest - boundary, 0.0)
        np.cumsum(value, axis=1, out=value)
        sums[begin : begin + _ROWS, 1 : reach + 1] = value
        sums[begin : begin + _ROWS, reach + 1 :] = value[:, -1:]
    return sums
