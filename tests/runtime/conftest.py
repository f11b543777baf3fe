"""Fixtures that build and load small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.library import write_library
from sqc.codegen.plan import Plan
from sqc.runtime import Model, load
from tests.runtime.models import BATCH


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Model]:
    """Writes a plan to a file of its own and loads it."""
    count = 0

    def make(plan: Plan, threads: int | None = 1) -> Model:
        nonlocal count
        count += 1
        path = tmp_path / f"model{count}.so"
        write_library(plan, path)
        return load(path, threads)

    return make


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, BATCH, dtype=np.uint8)
