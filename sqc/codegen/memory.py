"""The static arena: an offset for every buffer, shared by buffers whose live ranges don't meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 64
ROUNDS = 60
PLACEMENTS = 6000
"""For each of the orders that the planner starts from: how often it tries, and how many buffers it places at most."""


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

    Buffers get their places one after the other, largest first (greedy by size, as in Pisarchyk & Lee, "Efficient
    Memory Management for Deep Neural Net Inference", 2020). As long as some stick out over the lower bound, those get
    their places earlier the next time ("squeaky wheel" optimization, Joslin & Clements, 1999); the best plan counts.
    """
    bound = lower_bound(buffers)
    orders = (
        sorted(buffers, key=lambda item: (-item.size, item.first, item.name)),
        sorted(buffers, key=lambda item: (item.first, -item.size, item.name)),
    )
    best, size = _place(orders[0])
    for order in orders:
        for _ in range(min(ROUNDS, PLACEMENTS // (len(buffers) or 1))):
            if size <= bound:
                return best, size
            offsets, total = _place(order)
            if total < size:
                best, size = offsets, total
            order = sorted(order, key=lambda item: offsets[item.name] + item.size <= bound)
    return best, size


def _place(order: Iterable[Buffer]) -> tuple[dict[str, int], int]:
    """Every buffer at the lowest offset where it fits between those before it that it meets; the size of it all."""
    offsets: dict[str, int] = {}
    placed: list[tuple[int, Buffer]] = []
    for buffer in order:
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
