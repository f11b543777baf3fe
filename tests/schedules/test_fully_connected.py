"""Matrix products are bit-exact for any shape, on each instruction set."""

from __future__ import annotations

import pytest

from sqc.schedules import Kernel, Target, lower
from sqc.schedules.fully_connected import MatrixProduct
from sqc.schedules.packed_product import PackedProduct
from tests.schedules.cases import Case, check
from tests.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape", [(1, 64, 16), (4, 16, 32), (7, 13, 10), (1, 129, 100), (130, 40, 48), (17, 129, 100), (3, 1, 1), (1, 4, 1)]
)
def test_requantized(target: str, shape: tuple[int, int, int]) -> None:
    rows, depth, columns = shape
    case = Case(seed=rows)
    acc = case.emit("qfully_connected", case.u8(rows, depth), case.s8(columns, depth), case.bias(columns))
    case.requantize(acc, 9000 * depth**0.5)
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("depth", "used"), [(32, 24), (32, 21), (16, 1), (16, 0), (6, 5)])
def test_inputs_that_only_fill_up_are_left_out(target: str, depth: int, used: int) -> None:
    case = Case(used)
    weights = case.s8(32, depth)
    case.arrays[weights][:, used:] = 0
    acc = case.emit("qfully_connected", case.u8(9, depth), weights, case.bias(32))
    case.requantize(acc, 9000 * max(1, used) ** 0.5)
    check(case, target)
    problem = lower(case.op(), Target.parse(target), case.arrays).problem
    assert isinstance(problem, MatrixProduct if used else PackedProduct)
    assert used <= problem.depth < max(used, 1) + 4 and problem.stride == depth


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("columns", [17, 25, 31, 33, 41, 73])
def test_results_end_within_a_vector(target: str, columns: int) -> None:
    """Not a byte is written behind the last one of a row, nor behind that of all."""
    case = Case()
    acc = case.emit("qfully_connected", case.u8(28, 89), case.s8(columns, 89), case.bias(columns))
    case.requantize(acc, 9000 * 89**0.5)
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
def test_accumulators(target: str) -> None:
    case = Case()
    case.emit("qfully_connected", case.u8(5, 33), case.s8(24, 33), case.bias(24))
    check(case, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("columns", [64, 24])
def test_residual_and_lookup(target: str, columns: int) -> None:
    case = Case(columns)
    acc = case.emit("qfully_connected", case.u8(9, 32), case.s8(columns, 32), case.bias(columns))
    y = case.requantize(acc, 50000, case.u8(9, columns), case.u8(columns), lo=20, hi=200)
    case.requantize(
        case.lookup(y), 60, case.u8(9, columns), case.u8(9, 1), zero_point=-3, dtype="int8", lo=-128, hi=100
    )
    check(case, target)


def test_equal_structure_shares_code() -> None:
    def kernel(seed: int, columns: int) -> Kernel:
        case = Case(seed)
        acc = case.emit("qfully_connected", case.u8(4, 8), case.s8(columns, 8), case.bias(columns))
        case.requantize(acc, 1.0)
        return lower(case.op(), Target.parse("x86-64-v3"), case.arrays)

    assert kernel(1, 16).key == kernel(2, 16).key != kernel(1, 32).key
    assert kernel(1, 16).object("k") == kernel(2, 16).object("k")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("deviation", "zero_point"), [(1e-20, 0), (1e-20, 255), (1e3, 128), (1e12, 7)])
def test_far_beyond_the_limits(target: str, deviation: float, zero_point: int) -> None:
    case = Case()
    acc = case.emit("qfully_connected", case.u8(5, 24), case.s8(32, 24), case.bias(32))
    case.requantize(acc, deviation, zero_point=zero_point)
    check(case, target)
