"""How the axes of a value lie in memory: permutations, and reshapes of permuted tensors.

A ``Permutation`` ``p`` says that axis ``i`` of the value as the model sees it is axis ``p[i]`` of the tensor that holds
it: ``value == held.transpose(p)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Permutation: TypeAlias = tuple[int, ...]


def identity(rank: int) -> Permutation:
    return tuple(range(rank))


def channels_last(rank: int) -> Permutation:
    """Axis 1 moved to the end: (0, 3, 1, 2) for NCHW held as NHWC."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 1 else identity(rank)


def inverse(perm: Sequence[int]) -> Permutation:
    """The axes of the value in the order in which they are held."""
    return tuple(sorted(range(len(perm)), key=lambda axis: perm[axis]))


def held_shape(shape: Sequence[int], perm: Sequence[int]) -> tuple[int, ...]:
    """The shape of the tensor that holds a value of ``shape``."""
    return tuple(shape[axis] for axis in inverse(perm))


def long_axes(shape: Sequence[int], perm: Sequence[int]) -> list[int]:
    """The axes of extent other than 1, in the order in which they are held: all that tells two placements apart."""
    return [axis for axis in inverse(perm) if shape[axis] != 1]


@dataclass(frozen=True, slots=True)
class ReshapePlan:
    """A reshape as one of held tensors: the operand must be held as ``before``, the result is held as ``after``."""

    before: Permutation
    after: Permutation


def plan_reshape(shape: Sequence[int], perm: Permutation, result: Sequence[int]) -> ReshapePlan:
    """How to reshape a value of ``shape``, held as ``perm``, to ``result``, with as few transposes as possible.

    If the axes that the reshape splits or merges lie side by side, the operand stays as it is. Else an image (rank 4)
    becomes channels-last if one transpose reaches that, and everything else is brought into the model's own order.
    """
    blocks = _blocks(shape, result)
    free = _reorder(long_axes(shape, perm), [before for before, _ in blocks], [after for _, after in blocks])
    if free is not None:
        return ReshapePlan(perm, _placement(result, free))
    if len(result) == 4:
        wanted = channels_last(4)
        order = _reorder(long_axes(result, wanted), [after for _, after in blocks], [before for before, _ in blocks])
        if order is not None:
            return ReshapePlan(_placement(shape, order), wanted)
    return ReshapePlan(identity(len(shape)), identity(len(result)))


def _blocks(shape: Sequence[int], result: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The least groups of axes that a reshape maps to each other, without axes of extent 1."""
    left = [axis for axis, extent in enumerate(shape) if extent != 1]
    right = [axis for axis, extent in enumerate(result) if extent != 1]
    blocks: list[tuple[list[int], list[int]]] = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = shape[a[0]], result[b[0]]
        while size_a != size_b:
            if size_a < size_b:
                a.append(left.pop(0))
                size_a *= shape[a[-1]]
            else:
                b.append(right.pop(0))
                size_b *= result[b[-1]]
        blocks.append((a, b))
    return blocks


def _reorder(order: list[int], blocks: list[list[int]], images: list[list[int]]) -> list[int] | None:
    """``order``, made of whole blocks, with each block replaced by its image; None if a block is torn apart."""
    by_start = {block[0]: (block, image) for block, image in zip(blocks, images, strict=True)}
    result: list[int] = []
    at = 0
    while at < len(order):
        block, image = by_start.get(order[at], ([], []))
        if not block or order[at : at + len(block)] != block:
            return None
        result += image
        at += len(block)
    return result


def _placement(shape: Sequence[int], order: list[int]) -> Permutation:
    """A permutation that holds the long axes of ``shape`` in ``order``; channels-last if that is one."""
    for candidate in (channels_last(len(shape)), identity(len(shape))):
        if long_axes(shape, candidate) == order:
            return candidate
    short = [axis for axis, extent in enumerate(shape) if extent == 1]
    # The leading axis holds the samples, which are told apart by it.
    return inverse([0, *short, *order[1:]] if order[:1] == [0] else [*short, *order])
