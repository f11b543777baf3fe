"""Accuracy of classifiers, and how often two of them agree."""

from __future__ import annotations

import numpy as np


def top1(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of scores [n, classes] whose largest entry is at the label [n]."""
    return float(np.mean(scores.reshape(len(scores), -1).argmax(axis=1) == labels[: len(scores)]))


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """The share of rows in which two score arrays [n, classes] have their largest entry at the same place."""
    rows = len(first)
    return float(np.mean(first.reshape(rows, -1).argmax(axis=1) == second.reshape(rows, -1).argmax(axis=1)))


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    """The root mean square of the difference over that of the reference: for outputs that are no classes."""
    difference = value.astype(np.float64) - reference.astype(np.float64)
    return float(np.sqrt(np.mean(difference**2) / max(np.mean(reference.astype(np.float64) ** 2), 1e-30)))
