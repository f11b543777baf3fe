"""Quantization by ranges found at run time gives the reference's bits, and a row's result is its own."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.ir import Value
from tests.schedules import cases
from tests.schedules.harness import Case, check
from tests.targets import TARGETS

SHAPES = [(3, 16), (2, 5, 37), (1, 1), (7, 200), (40,), (200, 500)]


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_parameters(shape: tuple[int, ...], per_row: bool) -> None:
    check(lambda case: case.emit("dynamic_parameters", case.floats(shape), per_row=per_row))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, 3e38])
def test_parameters_of_special_numbers(special: float) -> None:
    def build(case: Case) -> Value:
        rows = case.floats((4, 20))
        case.arrays[rows][0] = special
        case.arrays[rows][1, 3] = special
        case.arrays[rows][2] = 5.0
        case.arrays[rows][3] = -abs(case.arrays[rows][3])
        return case.emit("dynamic_parameters", rows)

    check(build)


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_quantize(shape: tuple[int, ...], per_row: bool) -> None:
    def build(case: Case) -> Value:
        x = case.floats(shape, spread=1.0)
        case.arrays[x].reshape(-1)[:1] = np.nan
        pairs = case.value(np.array([0.01, 128], np.float32) * np.ones((*shape[:-1], 2) if per_row else 2, np.float32))
        return case.emit("dynamic_quantize", x, pairs)

    check(build)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 16, 2), (5, 24, 32), (20, 33, 17)])
@pytest.mark.parametrize("per_row", [True, False])
def test_fully_connected(target: str, bias: bool, rows: int, depth: int, columns: int, per_row: bool) -> None:
    case = Case()
    w = case.s8(columns, depth)
    start = case.value(np.zeros(columns, np.int32))
    acc = case.emit("qfully_connected", case.u8(rows, depth), w, start)
    pairs = np.stack([case.rng.uniform(0.01, 1, rows), case.rng.integers(0, 256, rows)], axis=1).astype(np.float32)
    sums = case.value(case.arrays[w].sum(axis=1, dtype=np.int32))
    columns_of = [sums, case.multiplier(0.1, columns), *([case.multiplier(3.0, columns)] if bias else [])]
    case.emit("dynamic_dequantize", acc, case.value(pairs if per_row else pairs[0]), *columns_of)
    cases.check(case, target)
