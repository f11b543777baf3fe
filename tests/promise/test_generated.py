"""The promise on generated graphs: the compiled library equals the numpy reference bit for bit."""

from __future__ import annotations

import pytest

from sqc.schedules import Target
from tests.promise.generator import generate
from tests.promise.harness import mismatches

TARGETS = [name for name in ("native", "x86-64-v3", "avx512vnni-emulated") if Target.parse(name).runs_here()]


@pytest.mark.parametrize("seed", range(24))
def test_compiled_graphs_equal_the_reference(seed: int) -> None:
    target = TARGETS[seed % len(TARGETS)]
    assert mismatches(generate(seed), seed, target, threads=1 + seed % 2) == []
