"""How far outputs are from those of the float network, as noise over signal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sqc.accuracy.running import Chunk

_FLOOR = 0.01
"""Elements weaker than this share of the mean power count as if they had it, lest they outshout all others."""


class Yardstick:
    """The float network's outputs, chunk by chunk, and what noise in them is measured by.

    Every element of an output counts by its own power over the samples, so that a head which gives few elements or
    small ones is not drowned by the others. ``axes`` names for an output the axis along which a common shift does not
    matter, since a softmax follows.
    """

    def __init__(
        self, axes: Mapping[str, int | None], chunks: Sequence[Chunk], outputs: Sequence[Mapping[str, np.ndarray]]
    ) -> None:
        self._axes = axes
        self._chunks = chunks
        self.references = [self._centred(chunk, output) for chunk, output in zip(chunks, outputs, strict=True)]
        self._weights: dict[str, np.ndarray] = {}
        for name in axes:
            power = np.sum([np.square(part[name], dtype=np.float64).sum(axis=0) for part in self.references], axis=0)
            power = np.maximum(power, max(_FLOOR * power.mean(), np.finfo(np.float64).tiny))
            self._weights[name] = 1.0 / (power * power.size)

    def noise(self, index: int, outputs: Mapping[str, np.ndarray]) -> float:
        """The part of chunk ``index`` in noise over signal, the mean over all elements and outputs."""
        centred, reference = self._centred(self._chunks[index], outputs), self.references[index]
        parts = [
            float((np.square(centred[name] - reference[name], dtype=np.float64).sum(axis=0) * weights).sum())
            for name, weights in self._weights.items()
        ]
        return float(np.mean(parts))

    def _centred(self, chunk: Chunk, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = {name: chunk.real(outputs[name]) for name in self._axes}
        return {
            name: array if (axis := self._axes[name]) is None else array - array.mean(axis=axis, keepdims=True)
            for name, array in arrays.items()
        }


def decibels(ratio: float) -> float:
    """Signal over noise in decibels, from noise over signal."""
    if ratio <= 0.0:
        return math.inf
    return -10.0 * math.log10(ratio) if ratio < math.inf else -math.inf
