"""The model's tiles keep what kernels rely on, for any shape."""

from __future__ import annotations

import random

import pytest

from sqc.schedules import Target, lower
from sqc.schedules.conv2d import Convolution
from sqc.schedules.fully_connected import MatrixProduct
from sqc.schedules.intrinsics import LANES
from sqc.schedules.microkernel import STACK_BYTES, round_up
from tests.schedules.cases import Case

TARGETS = ["x86-64-v3", "znver4", "znver5"]


@pytest.mark.parametrize("target", TARGETS)
def test_matrix_tiles(target: str) -> None:
    random.seed(0)
    machine = Target.parse(target)
    for _ in range(40):
        rows, depth, columns = (random.choice((1, random.randint(1, 400), 16 * random.randint(1, 80))) for _ in "mkn")
        case = Case()
        case.emit("qfully_connected", case.u8(rows, depth), case.s8(columns, depth), case.bias(columns))
        problem = lower(case.op(), machine).problem
        assert isinstance(problem, MatrixProduct)
        tile = problem.tiles(machine)[0]
        assert tile.block % tile.rows == 0
        assert round_up(columns, LANES) % (tile.parts * tile.columns) == 0
        assert tile.rows * tile.vectors * LANES * 4 <= (machine.registers - 2) * machine.vector_bytes


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [7, 14, 31, 56, 112])
def test_convolution_tiles(target: str, size: int) -> None:
    machine = Target.parse(target)
    case = Case()
    x = case.u8(1, size, size, 64)
    case.emit("qconv2d", x, case.s8(64, 64, 3, 3), case.bias(64), pads=(1, 1, 1, 1), layout="NHWC")
    problem = lower(case.op(), machine).problem
    assert isinstance(problem, Convolution)
    tile = problem.tiles(machine)[0]
    whole = round_up(size * size, tile.rows)
    assert tile.block == whole or tile.block % size == 0
    assert problem.stage_bytes(tile.block, machine) <= STACK_BYTES
