"""In which stages a batch is computed: what would not stay in a core's cache, for some samples at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest

from sqc.codegen.views import copy_bare_outputs, views_of
from sqc.ir import Graph, Op, rebatch, split

CACHE = 1 << 20
"""Bytes that stay in a core's cache of second level."""
CALL = 1 << 15
"""What one more call of a kernel costs, in bytes that come from beyond that cache."""
TRIES = 16
"""How many cuts are tried for one that leaves every value where it is expected."""


@dataclass(frozen=True)
class Stage:
    """A part of a model, computed in so many ``rounds``, each for the next samples of the batch."""

    graph: Graph
    rounds: int = 1


@dataclass(frozen=True)
class Variant:
    """A model at one batch size; ``samples`` is that size if no result of a sample depends on others, else 0."""

    graph: Graph
    samples: int = 0

    @staticmethod
    def of(graph: Graph, samples: int = 0) -> Variant:
        """With a buffer for each output."""
        return Variant(copy_bare_outputs(graph), samples)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The whole model, or its first ops in several rounds, so that kernels find in the cache what others wrote.

        Early layers have most activations and least weights: rounds save activations the way to a farther cache and
        back, but read weights once each.
        """
        for _, rounds, count in nlargest(TRIES, savings(self)):
            head, tail = split(self.graph, count)
            head = rebatch(head, self.samples // rounds)
            if _computes_outputs(head) and _computes_outputs(tail):
                return Stage(head, rounds), Stage(tail)
        return (Stage(self.graph),)


def savings(variant: Variant) -> Iterator[tuple[int, int, int]]:
    """How many bytes do not come from beyond the cache if so many rounds are made of so many ops."""
    free = views_of(variant.graph).free
    ends = [i for i, op in enumerate(variant.graph.ops, 1) if op.result not in free]
    traffic = [_traffic(variant.graph.ops[end - 1], variant.graph) for end in ends]
    for rounds in (n for n in range(2, variant.samples + 1) if variant.samples % n == 0):
        saved = 0
        for end, (activations, constants) in zip(ends[:-1], traffic[:-1], strict=True):
            saved += _beyond(activations) - rounds * _beyond(activations // rounds)
            saved -= (rounds - 1) * (constants + CALL)
            if saved > 0:
                yield saved, rounds, end


def _computes_outputs(part: Graph) -> bool:
    """Whether no output of a stage lies within another value, where neither the next stage nor the caller finds it."""
    views = views_of(part)
    return all(views.origin(value) == value for value in part.outputs.values())


def _traffic(op: Op, graph: Graph) -> tuple[int, int]:
    """The bytes of an op's activations and of its constants."""
    sizes = {value: value.type.bytes for value in (*op.operands, *op.results)}
    constants = sum(size for value, size in sizes.items() if value in graph.constants)
    return sum(sizes.values()) - constants, constants


def _beyond(size: int) -> int:
    return max(0, size - CACHE)
