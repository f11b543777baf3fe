"""A bounded sample of the calibration inputs, the same whatever order and shards they came in.

Kept are the samples whose bytes have the smallest digests (a bottom-k sample): digests are as good as random, so the
choice is fair, and it follows from the set of samples alone, so merging is exact, associative and commutative. Equal
samples count once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sqc.errors import CalibrationError

KEPT_SAMPLES = 128
KEPT_BYTES = 64 << 20
_UNBOUNDED = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Reservoir:
    """At most `capacity` samples by ascending digest, each `{input: array}` with one or more rows along axis 0."""

    samples: dict[bytes, dict[str, NDArray[Any]]] = field(default_factory=dict)
    capacity: int = _UNBOUNDED

    @staticmethod
    def of(inputs: Mapping[str, NDArray[Any]], keep: int = KEPT_SAMPLES, unit: int = 1) -> Reservoir:
        """Keep `keep` of the rows in `inputs`, {input: array with one row a sample}, within `KEPT_BYTES`.

        Rows that belong together, as in a model of fixed batch, are `unit` at a time. Raises CalibrationError if `keep`
        is negative.
        """
        if keep < 0:
            raise CalibrationError(f"cannot keep {keep} samples of the inputs; 0 keeps none")
        rows = min(map(len, inputs.values()), default=0)
        starts = range(0, rows, unit)
        unit_bytes = sum(array[:unit].nbytes for array in inputs.values())
        capacity = min(-(-keep // unit), KEPT_BYTES // max(1, unit_bytes)) if rows else _UNBOUNDED
        if capacity == 0:
            return Reservoir({}, 0)
        pieces = ({name: inputs[name][i : i + unit] for name in sorted(inputs)} for i in starts)
        digests = {_digest(piece): piece for piece in pieces}
        kept = {key: {name: array.copy() for name, array in digests[key].items()} for key in sorted(digests)[:capacity]}
        return Reservoir(kept, capacity)

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

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What a file holds of it."""
        inputs = self.arrays()
        return {
            "kept": np.array([len(self.samples), self.capacity], np.int64),
            "kept.names": np.frombuffer("\0".join(inputs).encode(), np.uint8),
            **{f"kept.{i}": array for i, array in enumerate(inputs.values())},
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Reservoir:
        """Read what `to_arrays` gave. Raises ValueError or KeyError for anything else."""
        count, capacity = arrays["kept"].tolist()
        names = arrays["kept.names"].tobytes().decode().split("\0") if count else []
        parts = {name: np.split(arrays[f"kept.{i}"], count) for i, name in enumerate(names)}
        pieces = [{name: part[i] for name, part in parts.items()} for i in range(count)]
        samples = {_digest(piece): piece for piece in pieces}
        if len(samples) != count or count > capacity or list(samples) != sorted(samples):
            raise ValueError("the samples kept are not in their order")
        return Reservoir(samples, capacity)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reservoir):
            return NotImplemented
        return self.capacity == other.capacity and list(self.samples) == list(other.samples)

    def __repr__(self) -> str:
        return f"Reservoir({len(self.samples)} samples)"


def _digest(sample: Mapping[str, NDArray[Any]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in sample.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _signature(sample: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"'{name}' {array.dtype.name}{list(array.shape)}" for name, array in sample.items())
