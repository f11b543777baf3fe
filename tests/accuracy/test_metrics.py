"""Accuracy and agreement."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.accuracy.metrics import agreement, relative_error, top1

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
