"""Even out the input channels of fully connected layers by SmoothQuant's formula.

Xiao et al. 2022, arXiv:2211.10438: channel j of the inputs is divided by `s_j = max|x_j|^a / max|w_j|^(1 - a)` and the
weights that read it are multiplied by it. So channels with outliers no longer set the step of all others; a tells how
much of their range moves into the weights. It is searched by the error of the layers' outputs, with both rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram
from sqc.calibration.qparams import choose_qparams
from sqc.calibration.ranges import DEFAULT_SEARCH, choose_range
from sqc.calibration.weights import choose_weight_scales, largest_level

Floats = NDArray[np.float64]

ALPHAS = tuple(step / 20 for step in range(4, 20))
"""What is tried for a."""

_GAIN = 0.9
"""At most this share of the error has to be left, or channels stay as they are."""


def smoothing_factors(largest_inputs: Floats, largest_weights: Floats, alpha: float) -> Floats:
    """`1 / s` for each channel, from the largest magnitudes [C] of inputs and weights; 1 where either is zero.

    The largest factor that counts, of the channel with the largest input, is 1.
    """
    known = (largest_inputs > 0) & (largest_weights > 0)
    if not known.any():
        return np.ones(len(known))
    s = np.where(known, largest_inputs, 1.0) ** alpha / np.where(known, largest_weights, 1.0) ** (1 - alpha)
    return np.where(known, s[np.where(known, largest_inputs, -1.0).argmax()] / s, 1.0)


def smooth(inputs: NDArray[np.float32], weights: Sequence[NDArray[np.float32]]) -> Floats | None:
    """Factors [C] for the channels of inputs [R, C] that layers of weights [N, C] read; None to leave them.

    Ranges are chosen on one half of the rows, and a on the other, each in turn.
    """
    rows, joined = inputs.astype(np.float64), np.concatenate(weights).astype(np.float64)
    largest_inputs, largest_weights = np.abs(rows).max(axis=0), np.abs(joined).max(axis=0)
    left = smoothing_error(rows, joined, np.ones(rows.shape[1]))
    candidates = [smoothing_factors(largest_inputs, largest_weights, alpha) for alpha in ALPHAS]
    errors = [smoothing_error(rows, joined, factors) for factors in candidates]
    best = int(np.argmin(errors))
    return candidates[best] if errors[best] < _GAIN * left else None


def smoothing_error(rows: Floats, weights: Floats, factors: Floats) -> float:
    """The mean square error of `rows @ weights.T` when `rows * factors` and `weights / factors` are rounded.

    But for the mean error of each output, which its bias takes up. The range of one half of the rows serves the other.
    """
    scaled = rows * factors
    turned = (weights / factors).astype(np.float32)
    scales = choose_weight_scales(turned).astype(np.float64)[:, None]
    limit = largest_level(8)
    rounded = np.clip(np.rint(turned / scales), -limit, limit) * scales
    half = len(rows) // 2
    errors = []
    for chosen, judged in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        histogram = Histogram.of(scaled[chosen].astype(np.float32))
        scale, zero_point = choose_qparams(*choose_range(histogram, DEFAULT_SEARCH))
        levels = np.clip(np.rint(scaled[judged] / scale), -zero_point, 255 - zero_point) * scale
        change = levels @ rounded.T - rows[judged] @ weights.T
        errors.append(float(np.square(change - change.mean(axis=0)).mean()))
    return sum(errors) / 2
