"""Products of computed operands are bit-exact for any shape and order of axes, on every instruction set."""

from __future__ import annotations

import pytest

from tests.schedules.cases import Case, check
from tests.schedules.harness import check as check_float
from tests.targets import TARGETS

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((16, 32), (32, 16)),
    ((2, 3, 24, 32), (2, 3, 32, 48)),
    ((3, 7, 13), (3, 13, 10)),
    ((1, 5), (5, 1)),
    ((2, 1, 9, 20), (4, 20, 17)),
    ((40, 129), (2, 129, 33)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("zero_points", [(0, 128), (3, 128), (0, 9), (255, 0)])
def test_requantized(target: str, a: tuple[int, ...], b: tuple[int, ...], zero_points: tuple[int, int]) -> None:
    case = Case(seed=a[-1])
    acc = case.emit("qmatmul", *(case.u8(*shape, zero_point=z) for shape, z in zip((a, b), zero_points, strict=True)))
    case.emit("requantize", acc, case.multiplier(60 / (9000 * a[-1] ** 0.5)), scale=0.125, zero_point=7)
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_zero_points_at_run_time(target: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    case = Case()
    case.emit("qmatmul", case.u8(*a), case.u8(*b), case.u8(), case.u8(1))
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
def test_more_rows_than_the_stack_holds(target: str) -> None:
    case = Case()
    case.requantize(case.emit("qmatmul", case.u8(1332, 129), case.u8(129, 17)), 1e5)
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
def test_attention(target: str) -> None:
    case = Case()
    q, k, v = (case.u8(20, 3, 32) for _ in range(3))
    case.emit("qmatmul", q, k, perm_a=(1, 0, 2), perm_b=(1, 2, 0))
    check(case, target)
    case = Case()
    weights, v = case.u8(3, 20, 20, zero_point=0), case.u8(20, 3, 32)
    acc = case.emit("qmatmul", weights, v, perm_b=(1, 0, 2), perm_y=(1, 0, 2))
    case.requantize(acc, 40000, case.u8(20, 3, 32))
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
def test_rows_that_are_no_rows_in_memory(target: str) -> None:
    case = Case()
    case.emit("qmatmul", case.u8(32, 5, 2), case.u8(2, 24, 32), perm_a=(2, 1, 0), perm_b=(0, 2, 1), perm_y=(1, 0, 2))
    check(case, target)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_float(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_float(lambda case: case.emit("matmul", case.floats(a), case.floats(b)), tolerance=1e-5)


def test_float_attention() -> None:
    perms = {"perm_a": (1, 0, 2), "perm_b": (1, 2, 0)}
    check_float(
        lambda case: case.emit("matmul", case.floats((20, 3, 32)), case.floats((20, 3, 32)), **perms), tolerance=1e-5
    )
    perms = {"perm_b": (1, 0, 2), "perm_y": (1, 0, 2)}
    check_float(
        lambda case: case.emit("matmul", case.floats((3, 20, 20)), case.floats((20, 3, 32)), **perms), tolerance=1e-5
    )
