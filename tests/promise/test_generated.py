"""The promise on generated graphs: the compiled library equals the numpy reference bit for bit.

``python -m tests.promise.harness --seeds 0:1000`` checks more of them and counts what they hold.
"""

from __future__ import annotations

import pytest

from sqc.schedules import Target
from tests.promise.harness import check, settings

NATIVE = Target.parse("native").name


@pytest.mark.parametrize("seed", range(56))
def test_compiled_graphs_equal_the_reference(seed: int) -> None:
    target, threads = settings(seed)
    assert check(seed, target, threads) == []


@pytest.mark.parametrize("seed", range(56, 64))
def test_compiled_graphs_equal_the_reference_on_this_machine(seed: int) -> None:
    assert check(seed, NATIVE, 1 + seed % 2) == []
