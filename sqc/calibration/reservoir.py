"""A bounded sample of the calibration inputs, the same whatever order and shards they came in.

Kept are the samples whose bytes have the smallest digests (a bottom-k sample): digests are as good as random, so the
choice is fair, and it follows from the set of samples alone, so merging is exact, associative and commutative. Equal
samples count once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sqc.errors import CalibrationError

Sample: TypeAlias = Mapping[str, NDArray[Any]]
"""`{input: array}`, with one row along axis 0, or a whole batch of a model that fixes its batch."""

KEPT_SAMPLES = 128
KEPT_BYTES = 64 << 20
_UNBOUNDED = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Reservoir:
    """At most `capacity` samples, by ascending digest."""

    samples: dict[bytes, Sample] = field(default_factory=dict)
    capacity: int = _UNBOUNDED

    @staticmethod
    def of(samples: Sequence[tuple[bytes, Sample]], keep: int = KEPT_SAMPLES) -> Reservoir:
        """Keep those of `samples` (see `digested`) that come first, `keep` rows or few more, within `KEPT_BYTES`."""
        if not samples:
            return Reservoir()
        arrays = samples[0][1].values()
        rows, size = min(map(len, arrays)), sum(array.nbytes for array in arrays)
        capacity = min(-(-keep // max(1, rows)), KEPT_BYTES // max(1, size))
        first = sorted(dict(samples).items(), key=lambda sample: sample[0])[:capacity]
        return Reservoir({digest: {name: x.copy() for name, x in sample.items()} for digest, sample in first}, capacity)

    def merge(self, other: Reservoir) -> Reservoir:
        """What is kept of both sets of samples, under the smaller of the two capacities.

        Raises CalibrationError if the inputs differ in name, type or shape.
        """
        for mine, theirs in zip(list(self.samples.values())[:1], other.samples.values(), strict=False):
            if _signature(mine) != _signature(theirs):
                raise CalibrationError(
                    "the statistics to merge are of different models: their inputs are "
                    f"{_signature(mine)} and {_signature(theirs)}; merge shards of one model"
                )
        capacity = min(self.capacity, other.capacity)
        both = {**self.samples, **other.samples}
        return Reservoir({key: both[key] for key in sorted(both)[:capacity]}, capacity)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`{input: array with all rows kept}`, in the order of the digests; empty if none are kept."""
        samples = list(self.samples.values())
        return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]} if samples else {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reservoir):
            return NotImplemented
        return self.capacity == other.capacity and list(self.samples) == list(other.samples)

    def __repr__(self) -> str:
        return f"Reservoir({len(self.samples)} samples)"


def digested(inputs: Mapping[str, NDArray[Any]], rows: int = 1) -> list[tuple[bytes, Sample]]:
    """Each sample in `inputs`, `rows` rows along axis 0 of each of them, behind a digest of its bytes (16 bytes)."""
    names = sorted(inputs)
    starts = range(0, min(map(len, inputs.values()), default=0), rows)
    samples = [{name: np.ascontiguousarray(inputs[name][start : start + rows]) for name in names} for start in starts]
    return [(digest_of(array.data for array in sample.values()), sample) for sample in samples]


def digest_of(parts: Iterable[bytes | memoryview]) -> bytes:
    """16 bytes that differ where these bytes, all together, differ."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _signature(sample: Sample) -> str:
    return ", ".join(f"'{name}' {array.dtype.name}{list(array.shape)}" for name, array in sample.items())
