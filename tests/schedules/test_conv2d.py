"""Convolutions are bit-exact for any shape, on both instruction sets."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from sqc.schedules import Target
from sqc.schedules.depthwise_groups import DepthwiseGroups
from tests.schedules.cases import Case, check
from tests.targets import TARGETS


@dataclass(frozen=True)
class Shape:
    x: tuple[int, int, int, int]
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1


SHAPES = [
    Shape((1, 8, 8, 16), 16, pads=(1, 1, 1, 1)),
    Shape((2, 7, 9, 13), 20, pads=(1, 0, 2, 1), strides=(2, 1)),
    Shape((1, 15, 15, 4), 32, (7, 7), strides=(2, 2), pads=(3, 3, 3, 3)),
    Shape((1, 9, 11, 3), 16, strides=(2, 2), pads=(0, 0, 1, 1)),
    Shape((1, 12, 12, 16), 16),
    Shape((3, 5, 5, 32), 48, (1, 1), strides=(2, 2)),
    Shape((1, 10, 10, 8), 40, (3, 2), dilations=(2, 3), pads=(2, 1, 2, 2)),
    Shape((1, 6, 6, 64), 64, groups=4, pads=(1, 1, 1, 1)),
    Shape((1, 6, 6, 32), 32, groups=8, pads=(1, 1, 1, 1)),
    Shape((2, 17, 19, 54), 192, groups=6, strides=(2, 1), pads=(1, 0, 0, 0), dilations=(2, 1)),
    Shape((1, 5, 7, 9), 6, groups=3, pads=(1, 1, 1, 1)),
    Shape((1, 5, 4, 130), 17, (1, 3), pads=(0, 1, 0, 1)),
    Shape((1, 1, 40, 8), 16, (1, 5), pads=(0, 2, 0, 2)),
    Shape((1, 2, 2, 16), 16, (3, 3), pads=(1, 1, 1, 1)),
    Shape((2, 3, 5, 20), 24, (1, 1)),
    Shape((1, 8, 8, 16), 16, pads=(1, 1, 1, 1), groups=16),
    Shape((2, 7, 9, 32), 32, pads=(1, 0, 1, 1), groups=32, strides=(2, 2)),
    Shape((1, 9, 8, 20), 20, (5, 5), pads=(2, 2, 2, 2), groups=20),
    Shape((1, 9, 10, 48), 48, (4, 3), groups=48, dilations=(1, 2)),
    Shape((1, 6, 6, 16), 16, groups=16),
    Shape((1, 1, 50, 16), 16, (1, 7), groups=16, pads=(0, 3, 0, 3)),
    Shape((1, 9, 8, 64), 64, groups=64, pads=(1, 1, 1, 1)),
    Shape((2, 9, 9, 144), 144, groups=144, pads=(0, 0, 1, 1), strides=(2, 2)),
    Shape((1, 7, 6, 100), 100, (5, 5), groups=100, pads=(2, 2, 2, 2)),
    Shape((1, 8, 9, 128), 128, (7, 2), groups=128, dilations=(1, 2)),
    Shape((1, 6, 40, 65), 65, (2, 3), groups=65, strides=(1, 3), dilations=(2, 1)),
    # Neighbouring pixels joined.
    Shape((1, 9, 12, 96), 96, groups=96, pads=(1, 1, 1, 1)),
    Shape((2, 8, 16, 144), 144, groups=144, pads=(0, 0, 1, 1), strides=(2, 2)),
    Shape((1, 7, 8, 24), 24, (5, 5), groups=24, pads=(2, 2, 2, 2)),
    Shape((1, 6, 12, 32), 32, (3, 3), groups=32, pads=(0, 2, 1, 2), strides=(1, 3), dilations=(1, 2)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_requantized(target: str, shape: Shape) -> None:
    case = Case(seed=shape.outputs)
    depth = shape.x[3] // shape.groups
    acc = case.emit(
        "qconv2d",
        case.u8(*shape.x),
        case.s8(shape.outputs, depth, *shape.kernel),
        case.bias(shape.outputs),
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        groups=shape.groups,
        layout="NHWC",
    )
    case.requantize(acc, 9000 * (depth * shape.kernel[0] * shape.kernel[1]) ** 0.5)
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "limits", [{}, {"lo": 20, "hi": 190}, {"dtype": "int8", "zero_point": -7, "lo": -128, "hi": 127}]
)
def test_depthwise_by_groups(target: str, limits: dict[str, Any]) -> None:
    """Sums in another order than channels, rounded off, clamped, and looked up in a table."""
    case = Case()
    acc = case.emit(
        "qconv2d",
        case.u8(1, 6, 5, 128),
        case.s8(128, 1, 3, 3),
        case.bias(128),
        pads=(1, 1, 1, 1),
        groups=128,
        layout="NHWC",
    )
    y = case.requantize(acc, 27000, **limits)
    if "dtype" not in limits:
        case.lookup(y)
    kernel = check(case, target)
    assert isinstance(kernel.problem, DepthwiseGroups) == Target.parse(target).has_vnni


@pytest.mark.parametrize(
    ("x", "kernel", "stride", "by_groups"),
    [
        ((2, 9, 9, 192), 3, 2, True),  # all numbers of a group stay in registers
        ((2, 8, 8, 192), 3, 1, False),
        ((1, 8, 8, 240), 5, 1, True),  # its weights alone would fill a first cache
        ((1, 8, 8, 128), 5, 1, False),
        ((1, 5, 7, 64), 5, 1, True),  # one group, and a row of results that don't exist
        ((1, 5, 300, 64), 5, 1, False),  # too many of them
    ],
)
def test_depthwise_group_by_group(x: tuple[int, ...], kernel: int, stride: int, by_groups: bool) -> None:
    case, channels, edge = Case(), x[3], kernel // 2
    acc = case.emit(
        "qconv2d",
        case.u8(*x),
        case.s8(channels, 1, kernel, kernel),
        case.bias(channels),
        pads=(edge,) * 4,
        strides=(stride, stride),
        groups=channels,
        layout="NHWC",
    )
    case.lookup(case.requantize(acc, 9000 * kernel))
    target = Target.parse("avx512vnni-emulated")
    problem = check(case, target.name).problem
    assert isinstance(problem, DepthwiseGroups)
    assert problem.by_groups(problem.tiles(target)[0], target) == by_groups


@pytest.mark.parametrize("target", TARGETS)
def test_depthwise_sums_that_may_be_large(target: str) -> None:
    """Weights or multipliers that nobody knows leave sums to the kernel that clamps before it rounds."""
    case = Case()
    x, w, bias = case.u8(1, 6, 5, 64), case.s8(64, 1, 3, 3), case.bias(64)
    acc = case.emit("qconv2d", x, w, bias, pads=(1, 1, 1, 1), groups=64, layout="NHWC")
    case.emit("requantize", acc, case.multiplier(1e6, 64), scale=0.125, zero_point=3)
    assert not isinstance(check(case, target).problem, DepthwiseGroups)


@pytest.mark.parametrize("target", TARGETS)
def test_staging_too_large_for_the_stack(target: str) -> None:
    case = Case()
    x, weights = case.u8(1, 3, 300, 1024), case.s8(16, 1024, 3, 3)
    acc = case.emit("qconv2d", x, weights, case.bias(16), pads=(1, 1, 1, 1), layout="NHWC")
    case.requantize(acc, 9e5)
    check(case, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(25))
def test_random_shapes(target: str, seed: int) -> None:
    rng = random.Random(seed)
    case = Case(seed)
    kernel, strides, dilations = ((rng.choice((1, 1, 2, 3, 5)), rng.choice((1, 2, 3))) for _ in range(3))
    dilations = (min(dilations[0], 2), min(dilations[1], 2))
    depth, outputs, groups = rng.randint(1, 130), rng.randint(1, 130), 1
    if seed % 3 == 1:
        groups = outputs = depth
        depth = 1
    elif seed % 3 == 2:
        groups, depth = rng.randint(2, 6), rng.randint(1, 20)
        outputs = groups * rng.choice((1, 7, 16, 32))
    size = [(k - 1) * d + rng.randint(1, 20) for k, d in zip(kernel, dilations, strict=True)]
    acc = case.emit(
        "qconv2d",
        case.u8(rng.randint(1, 3), *size, depth * groups),
        case.s8(outputs, depth, *kernel),
        case.bias(outputs),
        strides=strides,
        pads=tuple(rng.choice((0, rng.randint(0, 2))) for _ in range(4)),
        dilations=dilations,
        groups=groups,
        layout="NHWC",
    )
    y = case.requantize(acc, 9000 * (depth * kernel[0] * kernel[1]) ** 0.5, case.u8(*acc.type.shape))
    if seed % 2:
        case.lookup(y)
    check(case, target)
