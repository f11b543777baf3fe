"""Accuracy of classifiers, and how often two of them agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Scores float[batch, ...] of a batch of inputs [batch, ...]."""


def scores(predict: Predict, inputs: np.ndarray, batch: int = 1, limit: int | None = None) -> np.ndarray:
    """Run ``predict`` over ``inputs`` [n, ...] in batches of exactly ``batch``; the last one is filled up.

    Returns the scores of all n inputs (of the first ``limit``), joined along the first axis.
    """
    inputs = inputs[:limit]
    parts: list[np.ndarray] = []
    for start in range(0, len(inputs), batch):
        part = inputs[start : start + batch]
        missing = batch - len(part)
        if missing:
            part = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        parts.append(np.array(predict(part))[: batch - missing])
    return np.concatenate(parts)


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
