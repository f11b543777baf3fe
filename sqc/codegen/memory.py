"""The static arena: an offset for every buffer, shared by buffers whose live ranges don't meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that hold a value from step ``first`` (that writes it) to step ``last`` (that reads it last)."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether some step needs both."""
        return self.first <= other.last and other.first <= self.last


def plan_arena(buffers: Sequence[Buffer]) -> tuple[Mapping[str, int], int]:
    """Offsets by name, aligned to ``ALIGNMENT``, and the size of the arena in bytes.

    Largest first, each at the lowest offset where it fits between the already placed buffers that it meets
    (greedy by size, as in Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
    """
    offsets: dict[str, int] = {}
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda item: (-item.size, item.first, item.name)):
        offset = 0
        for start, other in sorted(((at, b) for at, b in placed if b.meets(buffer)), key=lambda item: item[0]):
            if offset + buffer.size <= start:
                break
            offset = max(offset, _align(start + other.size))
        offsets[buffer.name] = offset
        placed.append((offset, buffer))
    return offsets, max((_align(at + buffer.size) for at, buffer in placed), default=0)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """The largest sum of sizes that any one step needs: no plan can be smaller."""
    steps = {buffer.first for buffer in buffers} | {buffer.last for buffer in buffers}
    return max(
        (sum(_align(b.size) for b in buffers if b.first <= step <= b.last) for step in steps),
        default=0,
    )


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
