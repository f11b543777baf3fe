"""Results between margins are bit-exact, whatever kernel computes them; and what is around them is filled."""

from __future__ import annotations

import pytest

from sqc.errors import CompileError
from sqc.schedules import Target, lower
from sqc.schedules.margins import Margins
from tests.schedules.cases import Case, check
from tests.targets import TARGETS

IMAGES = {
    "pointwise": ((1, 9, 7, 16), 32, (1, 1), 1),
    "pointwise of a batch": ((3, 12, 28, 20), 96, (1, 1), 1),
    "few pixels": ((2, 1, 3, 40), 17, (1, 1), 1),
    "convolution": ((2, 7, 9, 16), 48, (3, 3), 1),
    "grouped": ((1, 6, 6, 64), 64, (3, 3), 4),
    "depthwise": ((2, 9, 8, 20), 20, (5, 5), 20),
    "groups of channels": ((1, 6, 5, 128), 128, (3, 3), 128),
    "joined pixels": ((2, 8, 12, 96), 96, (3, 3), 96),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 3, 0)], ids=str)
@pytest.mark.parametrize("image", IMAGES)
def test_margins(image: str, pads: tuple[int, int, int, int], target: str) -> None:
    shape, outputs, (height, width), groups = IMAGES[image]
    top, left, bottom, right = pads
    case = Case(seed=outputs)
    x, depth = case.u8(*shape), shape[3] // groups
    around = (height // 2, width // 2, height // 2, width // 2)
    weights, bias = case.s8(outputs, depth, height, width), case.bias(outputs)
    acc = case.emit("qconv2d", x, weights, bias, pads=around, groups=groups, layout="NHWC")
    y = case.requantize(acc, 9000 * (depth * height * width) ** 0.5)
    case.emit("pad", y, pads=(0, top, left, 0, 0, bottom, right, 0), value=211.0)
    kernel = check(case, target)
    assert kernel.margins == Margins(y.type.shape, (top, left), (bottom, right), 211)


def test_channels_have_no_margins() -> None:
    case = Case()
    acc = case.emit("qconv2d", case.u8(1, 4, 4, 16), case.s8(16, 16, 1, 1), case.bias(16), layout="NHWC")
    case.emit("pad", case.requantize(acc, 36000.0), pads=(0, 1, 1, 0, 0, 1, 1, 4), value=3.0)
    with pytest.raises(CompileError, match="pads more than height and width"):
        lower(case.op(), Target.parse("x86-64-v3"))


def test_no_margins() -> None:
    case = Case()
    acc = case.emit("qconv2d", case.u8(1, 4, 4, 16), case.s8(16, 16, 1, 1), case.bias(16), layout="NHWC")
    case.emit("pad", case.requantize(acc, 36000.0), pads=(0,) * 8, value=3.0)
    assert check(case, "x86-64-v3").margins is None
