"""The promise on generated graphs: the compiled library equals the numpy reference bit for bit."""

from __future__ import annotations

import pytest

from sqc.schedules import Target
from tests.promise.harness import check, settings

NATIVE = Target.parse("native").name


@pytest.mark.parametrize("seed", range(20))
def test_compiled_graphs_equal_the_reference(seed: int) -> None:
    target, threads = settings(seed)
    assert check(seed, target, threads) == []


@pytest.mark.parametrize("seed", range(20, 28))
def test_compiled_graphs_equal_the_reference_on_this_machine(seed: int) -> None:
    assert check(seed, NATIVE, 1 + seed % 2) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(28, 200))
def test_many_compiled_graphs_equal_the_reference(seed: int) -> None:
    test_compiled_graphs_equal_the_reference(seed)
