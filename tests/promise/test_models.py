"""Random float models all the way: calibrated on compiled kernels, quantized, compiled, compared with the reference."""

from __future__ import annotations

import numpy as np
import pytest

import sqc
from sqc.ir import Graph, same_bits
from tests.float_graphs import STEPS, Grower, random_inputs
from tests.promise.kernels import Setting, reference
from tests.promise.regions import exact_region


def model(seed: int) -> Graph:
    """A float model of four to ten steps."""
    random = np.random.default_rng(seed)
    grower = Grower(seed, dynamic_batch=True)
    for name in random.choice(STEPS, int(random.integers(4, 11))):
        grower.step(str(name))
    return grower.finish()


def close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=1e-5 * max(1e-30, float(np.abs(array).max())))


def check(seed: int) -> None:
    target, threads = Setting.of(seed).target, 1 + seed % 2
    graph = model(seed)
    arrays = random_inputs(graph, seed)
    close(sqc.compile(graph, target=target).run(arrays), reference(graph, arrays))
    batches = [random_inputs(graph, 1000 * seed + i) for i in range(3)]
    quantized = sqc.quantize(graph, sqc.calibrate(graph, batches, target=target))
    exact = exact_region(quantized)
    if exact.outputs:
        actual = sqc.compile(exact, target=target).load(threads).run(arrays)
        expected = reference(exact, arrays)
        assert [name for name, array in expected.items() if not same_bits(actual[name], array)] == []


@pytest.mark.parametrize("seed", range(10))
def test_quantized_models_equal_the_reference(seed: int) -> None:
    check(seed)
