"""Accuracy and agreement."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.accuracy.metrics import agreement, relative_error, scores, top1

SCORES = np.array([[0, 1, 0], [3, 1, 2], [0, 0, 5], [1, 0, 0]], np.float32)


def test_top1() -> None:
    assert top1(SCORES, np.array([1, 0, 2, 2])) == 0.75
    assert top1(SCORES[:2], np.array([1, 1, 2, 2])) == 0.5


def test_agreement() -> None:
    assert agreement(SCORES, SCORES * 2) == 1.0
    assert agreement(SCORES, SCORES[[0, 3, 1, 2]]) == 0.5


def test_relative_error() -> None:
    assert relative_error(SCORES, SCORES) == 0
    assert relative_error(SCORES * np.float32(1.5), SCORES) == pytest.approx(0.5)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_scores_fill_up_the_last_batch(batch: int) -> None:
    inputs = np.arange(10, dtype=np.float32).reshape(5, 2)
    seen: list[int] = []

    def predict(x: np.ndarray) -> np.ndarray:
        seen.append(len(x))
        return x * 2

    np.testing.assert_array_equal(scores(predict, inputs, batch), inputs * 2)
    assert set(seen) == {batch}


def test_scores_of_the_first() -> None:
    inputs = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert len(scores(lambda x: x, inputs, limit=3)) == 3
