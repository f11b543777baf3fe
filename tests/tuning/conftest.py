"""A small op to tune."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.ir import Quantization, TensorType
from sqc.lowering import lower
from sqc.schedules import Target
from sqc.tuning.task import Task


@pytest.fixture
def task() -> Task:
    """A matrix product of 48 rows, 64 columns and depth 32."""
    return make_task("native")


def make_task(target: str) -> Task:
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (64, 32)).astype(np.int8)
    bias = rng.integers(-5000, 5000, 64).astype(np.int32)
    x = TensorType((48, 32), "uint8", Quantization.per_tensor(0.125, 7))
    lowered = lower("qfully_connected", x, weights, bias, target=target)
    return Task(lowered.op, lowered.constants, Target.parse(target))
