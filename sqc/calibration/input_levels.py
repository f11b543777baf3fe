"""Factors and shifts that bring the channels of an input to levels, from the numbers seen.

Bytes that were scaled and shifted, a channel each, lie on a grid: a channel's numbers are `low + k * step`. Its steps
become levels, so that rounding changes nothing. Numbers on no grid get the range with the least squared error, channel
by channel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.histogram import Histogram
from sqc.calibration.qparams import choose_qparams
from sqc.calibration.ranges import DEFAULT_SEARCH, choose_range

Floats = NDArray[np.float64]

_LAST = 255
_LOOKED_AT = 1 << 18
"""How many numbers of a channel are looked at."""

_TOLERANCE = 0.02
"""How far from a grid, in steps, numbers may be that were rounded to float32 on their way."""

_GAIN = 0.8
"""At most this share of the error has to be left, or an input stays as it is."""


def input_levels(
    channels: NDArray[np.float32], weights: Floats, scale: float, zero_point: int
) -> tuple[Floats, Floats] | None:
    """Factors and shifts [C] for numbers [C, R] of C channels: `x * factors + shifts` lies within 0 .. 255, mostly.

    None where rounding with `scale` and `zero_point` does as well. What counts is the variance of each channel's error,
    times `weights` [C]: a constant part is made up for by biases.
    """
    values = channels[:, :: max(1, channels.shape[1] // _LOOKED_AT)].astype(np.float64)
    pairs = [_grid(x, row) or _range(row) for x, row in zip(channels, values, strict=True)]
    factors, shifts = (np.array(numbers) for numbers in zip(*pairs, strict=True))
    levels = np.clip(np.rint(values * factors[:, None] + shifts[:, None]), 0, _LAST)
    left = (levels - shifts[:, None]) / factors[:, None] - values
    plain = np.clip(np.rint(values / scale), -zero_point, _LAST - zero_point) * scale - values
    before, behind = weights @ plain.var(axis=1), weights @ left.var(axis=1)
    # Rounding makes errors of a twelfth of a squared step; where there are next to none, levels are exact already.
    if behind > _GAIN * before or before < 0.001 * scale**2 * weights.sum():
        return None
    return factors, shifts


def _grid(x: NDArray[np.float32], values: Floats) -> tuple[float, float] | None:
    """The factor and the shift of a channel whose numbers lie on a grid of at most 256; unused levels on both sides."""
    known = np.unique(values)
    low, high = float(x.min()), float(x.max())
    if len(known) < 2:
        return None
    steps = np.rint((high - low) / np.diff(known).min())
    if not 1 <= steps <= _LAST:
        return None
    factor = steps / (high - low)
    places = (known - low) * factor
    if np.abs(places - np.rint(places)).max() > _TOLERANCE:
        return None
    return factor, (_LAST - steps) // 2 - low * factor


def _range(values: Floats) -> tuple[float, float]:
    """Those of the range with the least squared error; zero is a level."""
    scale, zero_point = choose_qparams(*choose_range(Histogram.of(values.astype(np.float32)), DEFAULT_SEARCH))
    return 1 / scale, float(zero_point)
