"""Transposes of bytes by tiles give every byte its place, and are taken where they can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqc.errors import CompileError
from sqc.schedules import Target, lower
from sqc.schedules.chain import Chain
from sqc.schedules.transposition import Transposition
from tests.schedules.cases import Case, check
from tests.targets import TARGETS

MOVES = {
    "whole tiles": ((64, 48), (1, 0)),
    "nothing but one tile": ((16, 16), (1, 0)),
    "tiles and more": ((3, 41, 50), (0, 2, 1)),
    "an axis between the rows": ((33, 3, 50), (2, 1, 0)),
    "an axis between the columns": ((40, 3, 20), (2, 1, 0)),
    "an axis behind the rows": ((3, 40, 50), (2, 0, 1)),
    "channels first": ((2, 19, 17, 24), (0, 3, 1, 2)),
    "channels last": ((2, 24, 19, 17), (0, 2, 3, 1)),
    "two of each": ((49, 2, 58), (0, 2, 1)),
    "four of each": ((3, 50, 4, 64), (0, 1, 3, 2)),
    "eight of each": ((9, 8, 33), (0, 2, 1)),
    "in two": ((49, 58, 2), (0, 2, 1)),
    "in four": ((40, 64, 4), (0, 2, 1)),
    "in eight, at their ends": ((40, 3, 37, 8), (0, 1, 3, 2)),
    "few rows of one tile and more": ((4, 40), (1, 0)),
    "parallel": ((2, 128, 56, 56), (0, 2, 3, 1)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("move", MOVES)
def test_every_byte_has_its_place(move: str, target: str) -> None:
    shape, perm = MOVES[move]
    case = Case()
    case.emit("transpose", case.u8(*shape), perm=perm)
    assert isinstance(check(case, target).problem, Transposition)


def test_reshapes_around_transposes() -> None:
    case = Case()
    x = case.emit("reshape", case.u8(2, 24, 48), shape=(2, 24, 6, 8))
    x = case.emit("transpose", x, perm=(0, 2, 3, 1))
    case.emit("reshape", x, shape=(-1, 24))
    assert check(case, "x86-64-v3").problem == Transposition((2, 24, 48), (0, 2, 1), "uint8")


@pytest.mark.parametrize(
    ("shape", "perm"),
    [
        ((64, 3), (1, 0)),
        ((3, 64), (1, 0)),
        ((8, 8), (1, 0)),
        ((4, 3, 64), (2, 1, 0)),
        ((20, 30, 40), (1, 0, 2)),
        ((16, 2, 3, 4, 16), (4, 3, 2, 1, 0)),
    ],
    ids=["three columns", "three rows", "too small", "few rows, apart", "the last axis stays", "entangled"],
)
def test_other_kernels_do_the_rest(shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    case = Case()
    case.emit("transpose", case.u8(*shape), perm=perm)
    assert not isinstance(check(case, "x86-64-v3").problem, Transposition)


def test_rows_that_stay_whole_are_copied() -> None:
    case = Case()
    x = case.emit("transpose", case.u8(1, 4, 6, 5, 7), perm=(0, 2, 1, 3, 4))
    case.emit("reshape", x, shape=(1, 24, 5, 7))
    problem = check(case, "x86-64-v3").problem
    assert isinstance(problem, Chain)
    (step,) = problem.steps
    assert (step.shape, step["perm"]) == ((6, 4, 35), (1, 0, 2))


def test_nothing_to_move() -> None:
    case = Case()
    case.emit("transpose", case.u8(0, 64, 32), perm=(0, 2, 1))
    with pytest.raises(CompileError, match="empty array"):
        lower(case.op(), Target.parse("x86-64-v3"))


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_order(data: st.DataObject) -> None:
    case = Case()
    rank = data.draw(st.integers(2, 4))
    shape = data.draw(
        st.lists(st.integers(1, 40), min_size=rank, max_size=rank).filter(lambda s: math.prod(s) < 60_000)
    )
    x = case.emit("transpose", case.u8(*shape), perm=tuple(data.draw(st.permutations(range(rank)))))
    if data.draw(st.booleans()):
        x = case.emit("reshape", x, shape=(-1, x.type.shape[-1]))
        case.emit("transpose", x, perm=(1, 0))
    check(case, "x86-64-v3")


def test_axes_that_stay_together_are_one() -> None:
    case = Case()
    case.emit("transpose", case.u8(1, 24, 19, 17), perm=(0, 2, 3, 1))
    problem = lower(case.op(), Target.parse("x86-64-v3"), case.arrays).problem
    assert problem == Transposition((24, 19 * 17), (1, 0), "uint8")
