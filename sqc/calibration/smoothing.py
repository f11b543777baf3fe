"""Even out the input channels of dense layers by SmoothQuant's formula.

Xiao et al. 2022, arXiv:2211.10438: channel j of the inputs is divided by `s_j = max|x_j|^a / max|w_j|^(1 - a)` and the
weights that read it are multiplied by it. So channels with outliers no longer set the step of all others; a tells how
much of their range moves into the weights. It is searched by the error of the layers' outputs, with both rounded; so is
whether the weights count in the formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram
from sqc.calibration.qparams import choose_qparams
from sqc.calibration.ranges import choose_range
from sqc.calibration.weights import choose_weight_scales, largest_level

Floats = NDArray[np.float64]

ALPHAS = (0.2, 0.4, 0.6, 0.8)
"""What is tried for a."""

LARGEST_FACTOR = 2.0**12

ADAPTIVELY_ROUNDED = 0.5
"""About the share of the noise of weights that adaptive rounding leaves."""

_RANGE = "p99.99"
"""About what the searches of least error choose, in a hundredth of their time."""

_GAIN = 0.9
"""At most this share of the error has to be left, or channels stay as they are."""


@dataclass(frozen=True)
class Reader:
    """A dense layer that reads the channels.

    Some rows of its inputs, [G, R, K] for G groups, its weights [G, N, K], and the number of the channel that each
    input belongs to, [G, K].
    """

    rows: NDArray[np.float32]
    weights: NDArray[np.float32]
    channels: NDArray[np.intp]

    @cached_property
    def outputs(self) -> NDArray[np.float32]:
        """[G, R, N], without a bias."""
        return np.asarray(self.rows @ self.weights.swapaxes(1, 2))

    @cached_property
    def signal(self) -> float:
        """The variance of the outputs, summed over all; above 0."""
        return _variance(self.outputs) or float(np.finfo(np.float64).tiny)


def smoothing_factors(largest_inputs: Floats, largest_weights: Floats, alpha: float) -> Floats:
    """`1 / s` for each channel, from the largest magnitudes [C] of inputs and weights; 1 where either is zero.

    The largest factor that counts, of the channel with the largest input, is 1.
    """
    known = (largest_inputs > 0) & (largest_weights > 0)
    if not known.any():
        return np.ones(len(known))
    s = np.where(known, largest_inputs, 1.0) ** alpha / np.where(known, largest_weights, 1.0) ** (1 - alpha)
    return np.where(known, s[np.where(known, largest_inputs, -1.0).argmax()] / s, 1.0)


def smooth(readers: Sequence[Reader], largest_inputs: Floats, room: Floats, weight_noise: float = 1.0) -> Floats | None:
    """Factors [C] for the channels that layers read; None to leave them, as of a single row.

    `largest_inputs` [2, C] are the largest magnitudes in either half of the samples, on whatever scale all channels
    share. A factor may go from 1 to `room` [C] where that is finite, which is where a clip stands behind a channel. Of
    the noise of weights rounded to the nearest, the share `weight_noise` counts. Factors and ranges of one half of the
    samples are judged on the rows of the other.
    """
    if min(reader.rows.shape[1] for reader in readers) < 2:
        return None
    seen = largest_weights(readers, len(room))
    bounds = np.where(np.isfinite(room), 1.0, 1 / LARGEST_FACTOR), np.minimum(room, LARGEST_FACTOR)

    def factors(largest: Floats, weights: Floats, alpha: float) -> Floats:
        return np.clip(smoothing_factors(largest, weights, alpha), *bounds)

    def error(halves: Sequence[Floats]) -> float:
        return sum(
            smoothing_error(reader, of_half, half, weight_noise)
            for reader in readers
            for half, of_half in enumerate(halves)
        )

    formulas = [(weights, alpha) for weights in (seen, np.sign(seen)) for alpha in ALPHAS] + [(seen, 1.0)]
    errors = [error([factors(largest, *formula) for largest in largest_inputs]) for formula in formulas]
    best = int(np.argmin(errors))
    if errors[best] >= _GAIN * error([np.ones(len(room))] * 2):
        return None
    return factors(largest_inputs.max(axis=0), *formulas[best])


def largest_weights(readers: Sequence[Reader], channels: int) -> Floats:
    """[C]: the largest magnitude of the weights that read each channel, as a share of its layer's largest."""
    largest = np.zeros(channels)
    for reader in readers:
        found = np.abs(reader.weights).max(axis=1).astype(np.float64)
        np.maximum.at(largest, reader.channels, found / max(found.max(), np.finfo(np.float64).tiny))
    return largest


def smoothing_error(reader: Reader, factors: Floats, half: int, weight_noise: float = 1.0) -> float:
    """The noise over signal of a layer's outputs when inputs times factors [C] and weights over them are rounded.

    But for the mean error of each output, which its bias takes up. The range of one half of the rows, the first (0) or
    the second (1), serves the other.
    """
    shares = factors[reader.channels].astype(np.float32)[:, None, :]
    scaled, turned = reader.rows * shares, reader.weights / shares
    scales = choose_weight_scales(turned.reshape(-1, turned.shape[-1])).reshape(*turned.shape[:2], 1)
    limit = largest_level(8)
    rounded = np.clip(np.rint(turned / scales), -limit, limit) * scales
    weights = (turned + np.float32(math.sqrt(weight_noise)) * (rounded - turned)).swapaxes(1, 2)
    middle = scaled.shape[1] // 2
    parts = slice(middle), slice(middle, None)
    chosen, judged = parts[half], parts[1 - half]
    scale, zero_point = choose_qparams(*choose_range(Histogram.of(scaled[:, chosen]), _RANGE))
    levels = np.clip(np.rint(scaled[:, judged] / np.float32(scale)), -zero_point, 255 - zero_point)
    change = (levels * np.float32(scale)) @ weights - reader.outputs[:, judged]
    return _variance(change) / reader.signal


def _variance(outputs: NDArray[np.float32]) -> float:
    """That of each output [G, R, N] over the rows, summed."""
    return float(outputs.var(axis=1, dtype=np.float64).sum())
