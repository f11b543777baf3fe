"""Random shapes, quantization parameters and constants, drawn so that extremes are common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from sqc.ir import Value

Shape = tuple[int, ...]
Item = TypeVar("Item")

CHANNELS = (*range(1, 131), *range(1, 36), 16, 32, 48, 64, 96, 128)
_LIMIT = 2**31 - 1


class Draws:
    """A source of random parts. Equal seeds give equal draws."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """A whole number in ``[low, high]``."""
        return int(self.random.integers(low, high + 1))

    def one(self, items: Sequence[Item]) -> Item:
        return items[self.whole(0, len(items) - 1)]

    def channels(self) -> int:
        return self.one(CHANNELS)

    def pixels(self) -> Shape:
        """Height and width; sometimes a line, sometimes enough for several threads."""
        if self.chance(0.1):
            return self.one([(1, self.whole(1, 40)), (self.whole(1, 40), 1)])
        most = 40 if self.chance(0.1) else 17
        return (self.whole(1, most), self.whole(1, most))

    def qparams(self) -> dict[str, float | int]:
        """A scale from tiny to huge and a zero point that is often an end of the range."""
        exponent = self.random.uniform(-6, 0) if self.chance(0.8) else self.random.uniform(-20, 12)
        zero_point = self.one([0, 255, 128, self.whole(0, 255)])
        return {"scale": float(np.float32(2.0**exponent * 1.1)), "zero_point": zero_point}

    def clamps(self) -> dict[str, int]:
        if self.chance(0.5):
            return {}
        lo, hi = sorted((self.whole(0, 255), self.whole(0, 255)))
        return {"lo": lo, "hi": hi}

    def table(self) -> np.ndarray:
        return self.random.integers(0, 256, 256).astype(np.uint8)

    def weights(self, shape: Shape) -> tuple[np.ndarray, np.ndarray, float]:
        """Weights, a bias that keeps the accumulators in 32 bits, sometimes only just, and about how large they get."""
        if self.chance(0.15):
            w = self.random.choice([-128, 127], shape).astype(np.int8)
        else:
            w = self.random.integers(-128, 128, shape).astype(np.int8)
        if self.chance(0.15):
            w = self.blocks_of_zeros(w)
        room = _LIMIT - 255 * np.abs(w.astype(np.int64)).reshape(shape[0], -1).sum(1)
        spread = 75.0 * 147.0 * float(np.sqrt(np.prod(shape[1:])))
        if self.chance(0.2):
            bias = room * self.random.choice([-1, 1], shape[0])
            spread = self.one([spread, 2.0**31])
        else:
            bias = self.random.integers(-(2**15), 2**15, shape[0])
        return w, bias.astype(np.int32), spread

    def blocks_of_zeros(self, w: np.ndarray) -> np.ndarray:
        """Weights of which blocks of 16 outputs by 4 inputs are zero, and the others perhaps small."""
        outputs, inputs = -(-w.shape[0] // 16), -(-w.shape[1] // 4)
        kept = self.random.random((outputs, inputs)) < self.one([0.1, 0.25, 0.7, 1.0])
        mask = np.repeat(np.repeat(kept, 16, axis=0), 4, axis=1)[: w.shape[0], : w.shape[1]]
        w = np.where(mask.reshape(*mask.shape, *[1] * (w.ndim - 2)), w, 0)
        return np.asarray(w >> self.one([0, 0, 1]), np.int8)

    def multipliers(self, spread: float, shape: Shape) -> np.ndarray:
        """Multipliers that bring values of about ``spread`` into the range of a byte, or far beyond or below it.

        Some are the largest and smallest normal numbers: sums of such terms overflow, and cancel to NaN.
        """
        exponents = self.random.uniform(-3, 1, shape) if self.chance(0.8) else self.random.uniform(-20, 12, shape)
        multipliers = np.asarray(150.0 / spread * 2.0**exponents, np.float32)
        if self.chance(0.2):  # few decimal digits bring results to ties
            multipliers = np.vectorize(lambda m: np.float32(f"{m:.1g}"), otypes=[np.float32])(multipliers)
        if self.chance(0.05):
            extreme = self.random.choice(np.array([3e38, 1.2e-38], np.float32), shape)
            multipliers = np.where(self.random.random(shape) < 0.3, extreme, multipliers).astype(np.float32)
        return multipliers

    def window(self, x: Value, most: int = 5) -> dict[str, object] | None:
        """Attributes of a window over NHWC ``x``, or None if what was drawn does not fit."""
        _, height, width, _ = x.type.shape
        kernel = (self.whole(1, most), self.whole(1, most))
        dilations = (self.whole(1, 3), self.whole(1, 3)) if self.chance(0.25) else (1, 1)
        pads = tuple(self.whole(0, kernel[i % 2] - 1) for i in range(4)) if self.chance(0.7) else (0, 0, 0, 0)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if spans[0] > height + pads[0] + pads[2] or spans[1] > width + pads[1] + pads[3]:
            return None
        return {
            "kernel": kernel, "strides": (self.whole(1, 3), self.whole(1, 3)), "pads": pads, "dilations": dilations,
            "layout": "NHWC",
        }  # fmt: skip
