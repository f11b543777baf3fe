"""A product with a float of an accumulator that is a float already, and needs no conversion to become one.

An s32 that starts at the bits of 2**23 as a float, and stays below those of 2**24, has the bits of a float that grows
by one with every one that is added. So one FMA multiplies an accumulator whose sum starts there, and takes off what
the start has brought. That is rounded where the reference has an exact number, so for each channel a start is searched
for which it comes so close that all accumulators which can occur get the level that the reference gives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

BITS = 0x4B000000
"""Those of the float 2**23."""
FIRST = 1 << 23
ATTEMPTS = tuple(1 << power for power in range(9, 20, 2))
"""How many starts are compared, until one serves."""
AT_ONCE = 1 << 18
"""Numbers that an array holds in between."""


@dataclass(frozen=True)
class Affine:
    """``rint(f32(x * multiplier + offset))`` is ``rint(f32(acc) * multiplier)``, clamped, for each channel.

    ``x`` is the float32 whose bits are ``acc + start``. Arrays ``[C]`` of float32 and int64.
    """

    multipliers: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class Levels:
    """The reference: ``clamp(rint(f32(acc) * multiplier), lo, hi)``, with ``multipliers`` float32[C]."""

    multipliers: np.ndarray
    lo: int
    hi: int

    def of(self, sums: np.ndarray) -> np.ndarray:
        """The levels of accumulators ``[C, n]``, as float32."""
        return self.rounded(sums.astype(np.float32) * self.multipliers[:, None])

    def rounded(self, products: np.ndarray) -> np.ndarray:
        """The levels of products, float32."""
        levels: np.ndarray = np.clip(np.rint(products), np.float32(self.lo), np.float32(self.hi))
        return levels

    def some(self, channels: np.ndarray) -> Levels:
        """Those of some channels."""
        return replace(self, multipliers=self.multipliers[channels])


def fit(least: np.ndarray, most: np.ndarray, levels: Levels) -> Affine | None:
    """What gives the ``levels`` of accumulators from ``least[C]`` to ``most[C]``; None if some channel finds nothing.

    Levels rise with accumulators, in the reference as here. So they agree everywhere if they do at both ends, and at
    the accumulators before and after every rise.
    """
    multipliers = levels.multipliers.astype(np.float64)
    room = FIRST - 1 - (most - least)
    if not (np.isfinite(multipliers).all() and (multipliers > 0).all() and (room >= 0).all()):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # multipliers of channels without weights may be anything
        return _searched(least, most, room, levels, multipliers)


def _searched(
    least: np.ndarray, most: np.ndarray, room: np.ndarray, levels: Levels, multipliers: np.ndarray
) -> Affine | None:
    sums = _steps(least, most, levels)
    wanted = levels.of(sums)
    shifts = np.full(len(least), -1, np.int64)
    for count in ATTEMPTS:
        left = np.flatnonzero(shifts < 0)
        for part in np.array_split(left, max(1, len(left) * count // AT_ONCE)):
            for found in _closest(FIRST - least[part], room[part], multipliers[part], count):
                starts = FIRST - least[part] + found
                served = _agrees(starts, sums[part], wanted[part], levels.some(part)) & (shifts[part] < 0)
                shifts[part[served]] = found[served]
        if (shifts >= 0).all():
            starts = FIRST - least + shifts
            return Affine(levels.multipliers, _offsets(starts, multipliers), starts + (BITS - FIRST))
    return None


def _offsets(starts: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    offsets: np.ndarray = (-starts * multipliers).astype(np.float32)
    return offsets


def _closest(starts: np.ndarray, room: np.ndarray, multipliers: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """By how much to shift ``starts``, below ``count``, so that offsets are next to exact: from above, from below."""
    shifts = np.arange(min(count, int(room.max(initial=0)) + 1))
    exact = (starts[:, None] + shifts) * multipliers[:, None]
    error = exact.astype(np.float32) - exact
    error[shifts > room[:, None]] = np.inf
    for side in (error, -error):
        yield np.argmin(np.where(side >= 0, side, np.inf), axis=1)


def _steps(least: np.ndarray, most: np.ndarray, levels: Levels) -> np.ndarray:
    """Accumulators ``[C, n]``: the ends, and those before and after every rise of the level."""
    targets = np.arange(levels.lo + 1, levels.hi + 1, dtype=np.float32)
    first, last = least[:, None].astype(np.float64), most[:, None].astype(np.float64)
    guess = np.clip(np.ceil((targets - 0.5) / levels.multipliers.astype(np.float64)[:, None]), first, last)
    # Sums and products are rounded to 24 bits, so the first sum that reaches a level may be one nearby.
    reach = 2 + np.ceil(np.abs(guess) * 2.0**-22)
    below, above = np.maximum(guess - reach, first), np.minimum(guess + reach, last)
    while (below < above).any():
        middle = np.floor((below + above) / 2)
        reached = levels.of(middle) >= targets
        below, above = np.where(reached, below, middle + 1), np.where(reached, middle, above)
    return np.concatenate([first, last, above, np.maximum(above - 1, first)], axis=1)


def _agrees(starts: np.ndarray, sums: np.ndarray, wanted: np.ndarray, levels: Levels) -> np.ndarray:
    """Whether the sums of each channel get the levels ``wanted``, computed as kernels do."""
    multipliers = levels.multipliers.astype(np.float64)
    # Products and offsets are multiples of one number, 2**50 times that at most: float64 is exact, float32 rounds once.
    total = (sums + starts[:, None]) * multipliers[:, None] + _offsets(starts, multipliers)[:, None]
    agrees: np.ndarray = (levels.rounded(total.astype(np.float32)) == wanted).all(axis=1)
    return agrees
