"""The range of each tensor in each batch, in the order of the batches, for range choices that look at their course."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sqc.errors import CalibrationError

_NOTHING = np.zeros((0, 2), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class BatchRanges:
    """`{tensor: float32 [batches, 2]}` with minimum and maximum; `inf` and `-inf` of no values.

    `keys` names the batches, ascending: the number of each in its data, and a digest of its content. So the order does
    not depend on who saw which batch, batches of other data may have the same numbers, and a batch that comes twice is
    noticed.
    """

    keys: tuple[tuple[int, bytes], ...] = ()
    ranges: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @staticmethod
    def of(number: int, digest: bytes, extremes: Mapping[str, tuple[float, float]]) -> BatchRanges:
        """Of one batch, from `{tensor: (minimum, maximum)}`."""
        ranges = {name: np.array([extreme], np.float32) for name, extreme in extremes.items()}
        return BatchRanges(((number, digest),), ranges)

    def merge(self, other: BatchRanges) -> BatchRanges:
        """Of the batches of both. Raises CalibrationError if they have a batch in common."""
        if common := set(self.keys) & set(other.keys):
            numbers = sorted(number for number, _ in common)
            some = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            raise CalibrationError(
                f"the statistics to merge overlap: {len(numbers)} batches (number {some}, counted from 0) are in both "
                "and would count twice; merge shards that differ"
            )
        keys = [*self.keys, *other.keys]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        names = self.ranges.keys() | other.ranges.keys()
        both = {name: np.concatenate([self.of_tensor(name), other.of_tensor(name)]) for name in sorted(names)}
        return BatchRanges(tuple(keys[i] for i in order), {name: ranges[order] for name, ranges in both.items()})

    def of_tensor(self, name: str) -> NDArray[np.float32]:
        """float32 [batches, 2] of one tensor."""
        return self.ranges.get(name, _NOTHING)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchRanges):
            return NotImplemented
        return (
            self.keys == other.keys
            and self.ranges.keys() == other.ranges.keys()
            and all(np.array_equal(ranges, other.ranges[name]) for name, ranges in self.ranges.items())
        )
