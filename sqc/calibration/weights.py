"""Scales of weights: symmetric levels, chosen from the values themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sqc.calibration.percentile import percentage
from sqc.calibration.qparams import DEGENERATE_SCALE, SMALLEST_NORMAL, check_bits, next_power_of_two
from sqc.calibration.ranges import did_you_mean
from sqc.errors import CalibrationError

_INT32_MAX = 2**31 - 1
# A channel weaker than the strongest one by more than float32's own precision cannot be told from zero beside it.
_WEAKEST_CHANNEL = 2.0**-24
_CUTS = np.arange(128, 15, -1) / 128  # shares of the largest magnitude at which weights may be clipped
_HALVINGS = np.ldexp(1.0, -np.arange(8))
_BLOCK = 1 << 15  # weights handled at a time: the temporaries stay in the cache

WEIGHT_SEARCHES = ("minmax", "l1", "l2")
"""What weights can be searched by; beside them there is `p` with a percentage, as in p99.9."""


def choose_weight_scales(
    weights: NDArray[np.float32],
    axis: int | None = 0,
    bits: int = 8,
    bias: NDArray[np.float32] | None = None,
    input_scale: float | None = None,
    search: str = "minmax",
    groups: int | None = None,
    power_of_two: bool = False,
) -> NDArray[np.float32]:
    """Symmetric scales of weights with the levels `-n .. n`, n = 2**(bits - 1) - 1.

    There is a scale for each index of `axis`, or one (`axis=None`). With `groups`, each of that many equal runs of
    indices shares its scale; one group is the whole tensor. Searches, for the magnitudes |w| of all weights that share:

    - `minmax`: `max|w| / n`, which clips nothing;
    - `l2`, `l1`: of the scales `k/128 * max|w| / n`, k from 128 down to 16, the first with the least sum of
      `(w - s * clamp(rint(w / s), -n, n))**2`, or of the absolute differences;
    - `p99.9` or another percentage above 50: the least `|w| / n` that clips no more than the rest of the weights.

    `power_of_two` rounds scales up to powers of two; `l1` and `l2` then try that of `minmax` and 7 halvings of it.

    Channels of zeros, or nearly so, get a scale that is safe to divide and multiply by. With `bias` (one value a
    channel) and `input_scale`, a scale is also raised until the folded bias and the accumulator fit 32 bits, as far
    as a scale can do that: `|b_q| + 510 * sum|w_q| <= 2**31 - 1`.

    Returns float32, one value a channel. Raises CalibrationError for weights that are not finite, an unknown search, or
    groups that do not divide the channels.
    """
    check_bits(bits)
    check_weight_search(search)
    if not np.isfinite(weights).all():
        raise CalibrationError("weights hold NaN or infinite values; mend the model before quantizing it")
    if weights.size == 0:
        return np.full(1 if axis is None else weights.shape[axis], DEGENERATE_SCALE, np.float32)
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    sharing = 1 if groups is None else _sharing(len(rows), groups)
    magnitudes = np.abs(rows.astype(np.float64))
    limit = largest_level(bits)
    scales = _search(magnitudes.reshape(len(rows) // sharing, -1), search, limit, power_of_two)
    scales = np.maximum(scales, scales.max(initial=0.0) * _WEAKEST_CHANNEL)
    scales = np.where(scales < SMALLEST_NORMAL, 0.125 if power_of_two else DEGENERATE_SCALE, scales)
    scales = np.repeat(scales, sharing)
    if bias is not None and input_scale is not None:
        # 255 * sum|w_q| bounds the products, and again the zero point's share of the folded bias.
        levels = np.minimum(np.rint(magnitudes / scales[:, None]), limit)
        room = np.maximum(_INT32_MAX - 1 - 510 * levels.sum(axis=1), 2.0**24)
        least = np.abs(bias.astype(np.float64)) / (input_scale * room) * (1 + 2.0**-20)
        scales = np.maximum(scales, np.repeat(least.reshape(-1, sharing).max(axis=1, initial=0.0), sharing))
        scales = next_power_of_two(scales) if power_of_two else scales
    return np.asarray(scales, np.float32)


def fits_accumulator(
    levels: NDArray[np.float64], scales: NDArray[np.float64], bias: NDArray[np.float64], input_scale: float
) -> NDArray[np.bool_]:
    """For each channel of levels [N, K] whether `|b_q| + 510 * sum|w_q| <= 2**31 - 1` (see `choose_weight_scales`)."""
    bound = np.abs(bias) / (input_scale * scales) + 1 + 510 * np.abs(levels).sum(axis=1)
    return np.asarray(bound <= _INT32_MAX)


def largest_level(bits: int) -> int:
    """The largest level of weights; its negative is the least."""
    return int(2 ** (bits - 1)) - 1


def check_weight_search(name: str) -> None:
    """Raises CalibrationError if weights cannot be searched by that name."""
    if name not in WEIGHT_SEARCHES:
        if not name.startswith("p"):
            near = did_you_mean(name, (*WEIGHT_SEARCHES, "p99.9"))
            raise CalibrationError(f"there is no search '{name}' for weights{near}")
        percentage(name[1:])


def _sharing(channels: int, groups: int) -> int:
    if groups < 1 or channels % groups:
        raise CalibrationError(f"{channels} channels cannot share scales in {groups} equal groups")
    return channels // groups


def _search(magnitudes: NDArray[np.float64], search: str, limit: int, power_of_two: bool) -> NDArray[np.float64]:
    """The scale of each row [R, K], a float32 value."""
    largest = magnitudes.max(axis=1, initial=0.0)
    if search.startswith("p"):
        rank = -int(-percentage(search[1:]) * magnitudes.shape[1] // 1) - 1
        kept = np.partition(magnitudes, rank, axis=1)[:, rank] if magnitudes.shape[1] else largest
        largest = np.where(kept > 0, kept, largest)
    scales = largest / limit
    if power_of_two:
        scales = next_power_of_two(scales)
    scales = _float32(scales)
    if search not in ("l1", "l2"):
        return scales
    shares: NDArray[np.float64] = _HALVINGS if power_of_two else _CUTS
    rows = max(1, _BLOCK // max(1, magnitudes.shape[1]))
    blocks = range(0, len(magnitudes), rows)
    chosen = [_least_error(magnitudes[i : i + rows], scales[i : i + rows], shares, limit, search) for i in blocks]
    return np.concatenate(chosen) if chosen else scales


def _least_error(
    magnitudes: NDArray[np.float64],
    scales: NDArray[np.float64],
    shares: NDArray[np.float64],
    limit: int,
    search: str,
) -> NDArray[np.float64]:
    best, least = scales, np.full(scales.shape, np.inf)
    work = np.empty_like(magnitudes)
    for share in shares:
        scale = _float32(scales * share)
        scale = np.where(scale < SMALLEST_NORMAL, scales, scale)
        column = np.where(scale < SMALLEST_NORMAL, 1.0, scale)[:, None]
        np.divide(magnitudes, column, out=work)
        np.rint(work, out=work)
        np.minimum(work, limit, out=work)
        work *= column
        work -= magnitudes
        error = np.abs(work).sum(axis=1) if search == "l1" else np.einsum("rk,rk->r", work, work)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best


def _float32(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(under="ignore"):
        return scales.astype(np.float32).astype(np.float64)
