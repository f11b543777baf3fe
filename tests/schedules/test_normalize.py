"""Normalization and softmax of levels."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.errors import CompileError
from sqc.schedules import lower
from tests.targets import TARGETS

from . import cases
from .harness import NATIVE, Build, Case, check


def normalize(shape: tuple[int, ...], axes: tuple[int, ...], parameters: tuple[int, ...]) -> Build:
    def build(case: Case) -> object:
        gamma, beta = (case.floats(parameters, spread) for spread in (40, 20))
        return case.emit(
            "qnormalize", case.bytes(shape), gamma, beta, axes=axes, epsilon=1e-3, scale=0.25, zero_point=100, lo=20
        )

    return build  # type: ignore[return-value]


def softmax(shape: tuple[int, ...], axis: int, scale: float) -> Build:
    def build(case: Case) -> object:
        exponentials = np.rint(2.0**23 * np.exp(-scale * np.arange(256))).astype(np.int32)
        table = case.value(exponentials)
        return case.emit("qsoftmax", case.bytes(shape), table, axis=axis, scale=1 / 256, zero_point=3)

    return build  # type: ignore[return-value]


CASES: dict[str, Build] = {
    "layer": normalize((3, 5, 384), (2,), (384,)),
    "layer-odd": normalize((2, 3, 37), (2,), (37,)),
    "layer-short": normalize((2, 3, 7), (1, 2), (3, 7)),
    "layer-of-one": normalize((2, 1), (1,), (1,)),
    "layer-long": normalize((1, 40_000), (1,), (1,)),
    "channels": normalize((2, 12, 5, 6), (1,), (12, 1, 1)),
    "instance": normalize((2, 5, 6, 24), (1, 2), (24,)),
    "instance-odd": normalize((2, 5, 6, 13), (1, 2), (13,)),
    "instance-channels-first": normalize((2, 6, 5, 7), (2, 3), (6, 1, 1)),
    "group": normalize((2, 4, 4, 3, 32), (1, 2, 4), (3, 32)),
    "group-odd": normalize((1, 3, 3, 2, 19), (1, 2, 4), (2, 19)),
    "whole": normalize((2, 3, 4), (0, 1, 2), (4,)),
    "softmax": softmax((3, 1000), 1, 0.05),
    "softmax-scores": softmax((2, 3, 50, 64), 3, 0.1),
    "softmax-vectors": softmax((2, 5, 96), 2, 0.1),
    "softmax-one-vector": softmax((7, 16), 1, 0.1),
    "softmax-of-channels": softmax((2, 5, 3, 32), 1, 0.05),
    "softmax-middle": softmax((2, 21, 6, 8), 1, 0.02),
    "softmax-one": softmax((4, 1), 1, 0.1),
    "softmax-flat": softmax((2, 300), -1, 1e-6),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_reference(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("softmax")])
def test_softmax_on_each_target(name: str, target: str) -> None:
    """Exponentials come from tables of bytes on some."""
    case = Case()
    CASES[name](case)
    cases.check(case, target)


def test_exponentials_that_no_kernel_holds_are_refused() -> None:
    case = Case()
    table = case.value(np.full(256, 2**23 + 1, np.int32))
    case.emit("qsoftmax", case.bytes((2, 16)), table, axis=1, scale=1 / 256, zero_point=3)
    with pytest.raises(CompileError, match="exponentials"):
        lower(case.op(), NATIVE).pack(case.arrays)


def test_scattered_axes_are_refused() -> None:
    case = Case()
    normalize((2, 3, 4, 5), (0, 2), (4, 5))(case)
    with pytest.raises(CompileError, match="transpose"):
        lower(case.op(), NATIVE)
