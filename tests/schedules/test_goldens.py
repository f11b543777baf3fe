"""The scheduled TensorIR of one kernel a family, as text in ``goldens``, so that a change of a schedule shows.

``pytest --update-goldens`` rewrites the texts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sqc.ir import Value
from sqc.schedules import Target, lower
from tests.schedules.harness import Build, Case

HERE = Path(__file__).parent / "goldens"
TARGET = Target.parse("cascadelake")


def fully_connected(case: Case) -> Value:
    acc = case.emit("qfully_connected", case.u8(4, 64), case.s8(32, 64), case.bias(32))
    return case.requantize(acc, 10000.0)


def convolution(case: Case) -> Value:
    x, w = case.u8(1, 6, 6, 16), case.s8(32, 16, 3, 3)
    acc = case.emit("qconv2d", x, w, case.bias(32), pads=(1, 1, 1, 1), layout="NHWC")
    return case.lookup(case.requantize(acc, 10000.0, case.u8(1, 6, 6, 32)))


def depthwise(case: Case) -> Value:
    x, w = case.u8(1, 6, 6, 16), case.s8(16, 1, 3, 3)
    acc = case.emit("qconv2d", x, w, case.bias(16), pads=(1, 1, 1, 1), groups=16, layout="NHWC")
    return case.requantize(acc, 10000.0)


def depthwise_groups(case: Case) -> Value:
    x, w = case.u8(1, 6, 6, 64), case.s8(64, 1, 3, 3)
    acc = case.emit("qconv2d", x, w, case.bias(64), pads=(1, 1, 1, 1), groups=64, layout="NHWC")
    return case.requantize(acc, 10000.0)


def margins(case: Case) -> Value:
    acc = case.emit("qconv2d", case.u8(1, 4, 4, 16), case.s8(32, 16, 1, 1), case.bias(32), layout="NHWC")
    y = case.requantize(acc, 10000.0)
    return case.emit("pad", y, pads=(0, 1, 1, 0, 0, 1, 1, 0), value=9.0)


def entry(case: Case) -> Value:
    x = case.emit("quantize", case.floats((1, 3, 6, 8)), scale=0.125, zero_point=9)
    x = case.emit("transpose", x, perm=(0, 2, 3, 1))
    return case.emit("pad", x, pads=(0, 0, 0, 0, 0, 0, 0, 1), value=9.0)


def addition(case: Case) -> Value:
    return case.sum([case.u8(1, 4, 4, 16), case.u8(1, 4, 4, 16)], [0.3, 0.7])


def concat(case: Case) -> Value:
    return case.emit("concat", case.u8(1, 2, 2, 16, zero_point=3), case.u8(1, 2, 2, 32, zero_point=3), axis=3)


def sum_pool(case: Case) -> Value:
    x = case.u8(1, 6, 6, 16)
    acc = case.emit("qsum_pool", x, kernel=(2, 2), strides=(2, 2), pads=(0, 0, 1, 1), layout="NHWC")
    return case.requantize(acc, 500.0)


def max_pool(case: Case) -> Value:
    return case.emit("max_pool", case.u8(1, 6, 6, 16), kernel=(3, 3), pads=(1, 1, 1, 1), layout="NHWC")


def mean(case: Case) -> Value:
    acc = case.emit("qreduce_sum", case.u8(1, 4, 4, 16), axes=(1, 2), keepdims=True)
    return case.requantize(acc, 1000.0)


def softmax(case: Case) -> Value:
    return case.emit("softmax", case.floats((2, 10)), axis=1)


def float_convolution(case: Case) -> Value:
    x, w, b = case.floats((1, 6, 6, 16)), case.floats((16, 16, 3, 3)), case.floats((16,))
    return case.emit("conv2d", x, w, b, pads=(1, 1, 1, 1), layout="NHWC")


FAMILIES: dict[str, Build] = {
    build.__name__: build
    for build in (
        fully_connected, convolution, depthwise, depthwise_groups, margins, entry, addition, concat, sum_pool, max_pool,
        mean, softmax, float_convolution,
    )
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_scheduled_text(family: str, request: pytest.FixtureRequest) -> None:
    case = Case()
    with np.errstate(all="ignore"):
        FAMILIES[family](case)
    text = f"{lower(case.op(), TARGET, case.arrays).scheduled}\n"
    path = HERE / f"{family}.txt"
    if request.config.getoption("--update-goldens"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == FAMILIES.keys()
