"""A seed's graph with inputs and right answers, and how what compiled code gives differs from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

import sqc
from sqc.codegen import stages
from sqc.ir import Graph, TensorType, rebatch, same_bits, verify
from sqc.ops.samples import samples_are_independent
from sqc.runtime import Model
from tests.promise.bounds import guarded
from tests.promise.generator import generate, inputs
from tests.promise.kernels import Arrays, Setting, fuse, load_kernels, reference
from tests.promise.regions import exact_values

BATCHES, SAMPLES = (2, 1), 3
"""What a graph of independent samples is compiled for, and how many it is run on."""

TOLERANCE = 1e-5
"""How far floats may be from the reference, in terms of its largest magnitude."""


@dataclass(frozen=True)
class Sample:
    """The graph of a seed, and inputs for as many samples as it is run on."""

    seed: int
    graph: Graph
    arrays: Arrays

    @staticmethod
    def of(seed: int) -> Sample:
        graph = generate(seed)
        samples = SAMPLES if samples_are_independent(graph) else 1
        return Sample(seed, graph, inputs(rebatch(graph, samples) if graph.dynamic_batch else graph, seed))

    @cached_property
    def whole(self) -> Graph:
        """The graph at the batch size of the inputs."""
        batch = len(self.arrays[self.graph.inputs[0].name]) if self.graph.dynamic_batch else 0
        return rebatch(self.graph, batch) if batch else self.graph

    @cached_property
    def expected(self) -> dict[str, np.ndarray]:
        verify(self.graph)
        return reference(self.whole, self.arrays)

    def differing(self, setting: Setting) -> list[str]:
        """The outputs that are not right when compiled so, by one thread or by two."""
        model = self._load(setting)
        exact = exact_values(self.whole)
        near = {name for name, value in self.whole.outputs.items() if value not in exact}
        first = run_guarded(model, self.whole, self.arrays, at_end=True)
        found = [name for name in differing(self.expected, first) if name not in near]
        found += [name for name in sorted(near) if not close(self.expected[name], first[name])]
        model.threads = 2
        second = run_guarded(model, self.whole, self.arrays, at_end=False)
        return list(dict.fromkeys([*found, *(f"{name} by two threads" for name in differing(first, second))]))

    def _load(self, setting: Setting) -> Model:
        if not setting.padded:
            return load_kernels(fuse(self.whole, padded=False), setting)
        batch = BATCHES if self.whole is not self.graph else 1
        with cut_anywhere(self.seed):
            return sqc.compile(self.graph, target=setting.target, batch=batch).load(1)


@contextmanager
def cut_anywhere(seed: int) -> Iterator[None]:
    """Compute batches sample by sample up to some op, whether that pays or not."""

    def savings(variant: stages.Variant) -> Iterator[tuple[int, int, int]]:
        order = np.random.default_rng(seed).permutation(len(variant.graph.ops) - 1)
        return ((saved, variant.samples, int(i) + 1) for saved, i in enumerate(order) if variant.samples > 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "savings", savings)
        yield


def run_guarded(model: Model, graph: Graph, arrays: Arrays, at_end: bool) -> dict[str, np.ndarray]:
    """Run on arrays that end, or begin, at pages nobody may touch."""
    given = [_copied(arrays[value.name], at_end) for value in graph.inputs]
    results = {name: guarded(value.type, at_end) for name, value in graph.outputs.items()}
    model(*given, out=list(results.values()) if len(results) > 1 else next(iter(results.values())))
    return results


def _copied(array: np.ndarray, at_end: bool) -> np.ndarray:
    copy = guarded(TensorType(array.shape, array.dtype.name), at_end)
    copy[...] = array
    return copy


def differing(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> list[str]:
    """The names of arrays that differ in any bit."""
    return [name for name, array in expected.items() if not same_bits(actual[name], array)]


def close(expected: np.ndarray, actual: np.ndarray) -> bool:
    """Whether floats are within ``TOLERANCE``, infinite or no numbers at the same places."""
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], actual[~finite], equal_nan=True):
        return False
    room = TOLERANCE * np.abs(expected[finite]).max(initial=np.finfo(np.float32).tiny)
    return bool((np.abs(expected[finite].astype(np.float64) - actual[finite]) <= room).all())


def mismatches(graph: Graph, arrays: Arrays, target: str) -> list[str]:
    """The outputs of the compiled graph that differ from the reference in any bit."""
    verify(graph)
    return differing(reference(graph, arrays), sqc.compile(graph, target=target).load(1).run(arrays))
