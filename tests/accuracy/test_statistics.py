"""Tests of significance, beside counting by hand and beside scipy."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.accuracy.statistics import disagreement, mcnemar


def test_disagreement_is_never_zero() -> None:
    assert disagreement(0, 449) == 0.5 / 450
    assert disagreement(9, 99) == 0.095


def right(*flags: int) -> np.ndarray:
    return np.array(flags, bool)


def test_inputs_on_which_both_fare_alike_say_nothing() -> None:
    assert mcnemar(right(1, 1, 0, 0), right(1, 1, 0, 0)) == 1.0
    first, second = right(1, 1, 1, 1, 1, 1, 0), right(0, 0, 0, 0, 0, 0, 0)
    assert mcnemar(first, second) == 2 / 2**6
    assert mcnemar(np.append(first, right(1, 0)), np.append(second, right(1, 0))) == 2 / 2**6


@pytest.mark.parametrize(("one", "other"), [(1, 0), (3, 3), (5, 9), (2, 17), (140, 200), (600, 700)])
def test_equals_the_binomial_test(one: int, other: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    first = np.repeat([True, False, True], [one, other, 7])
    second = np.repeat([False, True, True], [one, other, 7])
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(one, one + other).pvalue, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)
