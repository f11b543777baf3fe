"""Every tile that a problem admits may stand in a record, so each must give the reference's bits."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from sqc.ir import evaluate_op
from sqc.schedules import Target, Tunable, lower
from tests.schedules.cases import Case, run_kernel
from tests.targets import TARGETS

SAMPLES = 6


def product() -> Case:
    case = Case()
    acc = case.emit("qfully_connected", case.u8(37, 21), case.s8(80, 21), case.bias(80))
    case.requantize(acc, 5e4)
    return case


def packed_product() -> Case:
    case = Case()
    acc = case.emit("qfully_connected", case.u8(37, 21), case.s4(80, 21), case.bias(80))
    case.requantize(acc, 3e3)
    return case


def convolution() -> Case:
    case = Case()
    x = case.u8(2, 9, 11, 20)
    acc = case.emit("qconv2d", x, case.s8(48, 20, 3, 3), case.bias(48), pads=(1, 1, 1, 1), layout="NHWC")
    case.requantize(acc, 7e4)
    return case


def depthwise(channels: int = 96) -> Case:
    case = Case()
    x = case.u8(1, 13, 17, channels)
    acc = case.emit(
        "qconv2d", x, case.s8(channels, 1, 3, 3), case.bias(channels),
        pads=(1, 1, 1, 1), strides=(2, 1), groups=channels, layout="NHWC",
    )  # fmt: skip
    case.requantize(acc, 2e4)
    return case


@pytest.mark.slow
@pytest.mark.parametrize("build", [product, packed_product, convolution, depthwise], ids=lambda build: build.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_any_tile_gives_the_same_bits(target: str, build: Callable[[], Case]) -> None:
    case = build()
    op, machine = case.op(), Target.parse(target)
    expected = evaluate_op(op, [case.arrays[value] for value in op.operands])
    kernel = lower(op, machine, case.arrays)
    if not isinstance(kernel.problem, Tunable):  # an AMX product, of which there is one
        assert machine.name.startswith("amx")
        np.testing.assert_array_equal(run_kernel(kernel, case.arrays), expected)
        return
    tiles = kernel.problem.tiles(machine)
    assert len(set(tiles)) == len(tiles)
    for tile in random.Random(0).sample(tiles, min(SAMPLES, len(tiles))):
        tiled = lower(op, machine, case.arrays, {kernel.workload: tile})
        assert tiled.tile == tile
        np.testing.assert_array_equal(run_kernel(tiled, case.arrays), expected, err_msg=str(tile))
