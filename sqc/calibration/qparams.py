"""From a range of real numbers to a scale and a zero point: `real = scale * (q - zero_point)`.

Zero is exactly representable under all parameters chosen here, and scales are positive, normal float32 values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sqc.errors import CalibrationError

# Of a range without extent any scale serves; this one keeps multipliers derived from it far from over- and underflow.
DEGENERATE_SCALE = float(np.float32(0.1))
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Grid:
    """What levels a tensor may have, before its range sets their scale. Raises CalibrationError for unknown `bits`.

    There are `2**bits` levels (`bits` 2 to 8), counted from 0; zero is one of them. `symmetric` puts zero at the middle
    level wherever data have both signs. `power_of_two` rounds scales up to powers of two.
    """

    bits: int = 8
    symmetric: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits)

    @property
    def steps(self) -> int:
        """The last level."""
        return int(2**self.bits) - 1

    def parameters(
        self, low: NDArray[np.float64] | np.float64, high: NDArray[np.float64] | np.float64
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scales (float32 values) and zero points for many ranges at once; each is widened to hold zero.

        The zero point is rounded (ties to even) from the exact range, not from the rounded scale, so that scaling a
        range by a power of two never moves it; scales of powers of two are exact themselves.
        """
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        half = 2 ** (self.bits - 1)
        span = high - low
        centred = self.symmetric & (low < 0) & (high > 0)
        exact = np.where(centred, np.maximum(-low / half, high / (half - 1)), span / self.steps)
        if self.power_of_two:
            exact = next_power_of_two(exact)
        with np.errstate(under="ignore"):
            rounded = exact.astype(np.float32).astype(np.float64)
        degenerate = rounded < SMALLEST_NORMAL
        scale = np.where(degenerate, 0.125 if self.power_of_two else DEGENERATE_SCALE, rounded)
        if self.power_of_two:
            position = np.minimum(np.rint(-low / np.where(degenerate, np.inf, exact)), self.steps)
        else:
            position = np.rint(-low * self.steps / np.where(degenerate, np.inf, span))
        return scale, np.where(centred, half, position).astype(np.int64)


def next_power_of_two(scale: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """The smallest power of two that is not below each positive number; 0 stays 0."""
    mantissa, exponent = np.frexp(scale)
    powers: NDArray[np.float64] = np.ldexp(np.ceil(2 * mantissa) / 2, exponent)
    return powers


def choose_qparams(
    minimum: float,
    maximum: float,
    dtype: str = "uint8",
    symmetric: bool = False,
    bits: int = 8,
    power_of_two: bool = False,
) -> tuple[float, int]:
    """Scale (exactly a float32) and zero point of a tensor with values in [minimum, maximum].

    The range is widened to hold zero. `symmetric` puts zero at the middle level and leaves both signs the same step;
    data of one sign keep all levels of uint8, since zero then sits at their end. `bits` (2 to 8) narrows the levels:
    0 .. 2**bits - 1 for uint8, -2**(bits - 1) .. 2**(bits - 1) - 1 for int8. `power_of_two` rounds the scale up to a
    power of two.

    Raises CalibrationError for a range that is empty or not finite, or for unknown `dtype` or `bits`.
    """
    if not (-_LARGEST <= minimum <= maximum <= _LARGEST):
        raise CalibrationError(
            f"[{minimum}, {maximum}] is no range to quantize; it must be finite in float32 and not empty"
        )
    grid = Grid(bits, symmetric, power_of_two)
    if dtype not in ("uint8", "int8"):
        raise CalibrationError(f"cannot quantize to '{dtype}'; choose uint8 or int8")
    if dtype == "int8" and symmetric:
        # A signed type has zero at its middle whatever the signs of the data.
        minimum, maximum = symmetric_range(minimum, maximum, bits)
    scale, zero_point = grid.parameters(np.float64(minimum), np.float64(maximum))
    if dtype == "uint8":
        return float(scale), int(zero_point)
    return float(scale), 0 if symmetric else int(zero_point) - 2 ** (bits - 1)


def symmetric_range(minimum: float, maximum: float, bits: int = 8) -> tuple[float, float]:
    """The smallest range around [minimum, maximum] with zero at the middle level; empty if both are zero."""
    half = 2 ** (bits - 1)
    step = max(-minimum / half, maximum / (half - 1), 0.0)
    return -half * step, (half - 1) * step


def check_bits(bits: int) -> None:
    """Raises CalibrationError unless 2 <= bits <= 8."""
    if not 2 <= bits <= 8:
        raise CalibrationError(f"cannot quantize to {bits} bits; choose 2 to 8")
