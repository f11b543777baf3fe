"""Epilogues that are computed among the products of the next tile give the bits that they give after their own."""

from __future__ import annotations

import random

import pytest

from sqc.schedules import Target, Tunable, lower
from sqc.schedules._tvm import OVERLAPS, assembly
from sqc.schedules.epilogue import Epilogue
from tests.schedules.cases import Case, check
from tests.targets import TARGETS


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epilogues overlap on every target, and whatever they compute."""
    monkeypatch.setattr(Epilogue, "overlaps", lambda epilogue, target: True)


def residual(seed: int, x: tuple[int, int, int, int], outputs: int, kernel: int, *, table: bool = False) -> Case:
    """A convolution to which something is added."""
    case, edge = Case(seed), kernel // 2
    acc = case.emit(
        "qconv2d",
        case.u8(*x),
        case.s8(outputs, x[3], kernel, kernel),
        case.bias(outputs),
        pads=(edge,) * 4,
        layout="NHWC",
    )
    y = case.requantize(acc, 9000 * (x[3] * kernel**2) ** 0.5, case.u8(*acc.type.shape))
    if table:
        case.lookup(y)
    return case


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("x", "outputs", "kernel"),
    [
        ((1, 8, 8, 64), 64, 1),
        ((2, 7, 7, 200), 128, 1),
        ((1, 9, 9, 40), 50, 1),  # the last tile is cut short
        ((1, 6, 8, 16), 32, 3),
        ((1, 1, 5, 64), 64, 1),
    ],
)
@pytest.mark.usefixtures("everywhere")
def test_residuals(target: str, x: tuple[int, int, int, int], outputs: int, kernel: int) -> None:
    scheduled = check(residual(1, x, outputs, kernel), target).scheduled
    assert target == "amx-emulated" or scheduled.attrs[OVERLAPS]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("everywhere")
def test_random_shapes_and_tiles(seed: int) -> None:
    rng = random.Random(seed)
    kernel, target = rng.choice((1, 1, 3)), Target.parse("avx512vnni-emulated")
    x = (rng.randint(1, 2), rng.randint(1, 12), rng.randint(1, 12), 4 * rng.randint(1, 60 // kernel))
    case = residual(seed, x, rng.randint(1, 80), kernel, table=seed % 3 == 0)
    problem = lower(case.op(), target, case.arrays).problem
    assert isinstance(problem, Tunable)
    for tile in rng.sample(problem.tiles(target), 3):
        check(case, target.name, tile)


@pytest.mark.parametrize(("target", "overlaps"), [("znver5", True), ("znver4", False)])
def test_results_come_before_the_last_products(target: str, overlaps: bool) -> None:
    case = residual(0, (1, 14, 14, 128), 128, 1)
    kernel = lower(case.op(), Target.parse(target), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert (text.index("vpackuswb") < text.rindex("vpdpbusd")) == overlaps


def test_single_terms_stay_behind_their_own_products() -> None:
    case = Case()
    acc = case.emit("qconv2d", case.u8(1, 14, 14, 128), case.s8(128, 128, 1, 1), case.bias(128), layout="NHWC")
    case.requantize(acc, 1e5)
    kernel = lower(case.op(), Target.parse("znver5"), case.arrays)
    text = assembly(kernel.scheduled, kernel.target)
    assert text.index("vpackuswb") > text.rindex("vpdpbusd")
