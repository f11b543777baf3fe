"""A small op to tune."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sqc
from sqc.ir import Quantization, TensorType
from sqc.lowering import lower
from sqc.schedules import Target
from sqc.tuning.task import Task
from tests.cli.conftest import DIGITS
from tests.cli.conftest import calibration_file as calibration_file


@pytest.fixture
def integer_graph(calibration_file: Path) -> sqc.ir.Graph:
    """The digits model, quantized."""
    graph = sqc.import_onnx(DIGITS)
    return sqc.quantize(graph, sqc.calibrate(graph, [np.load(calibration_file)["image"]]))


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
