"""A calibration after channels were scaled: what was not scaled is as before, what was lacks no extreme."""

from __future__ import annotations

import numpy as np

from sqc.calibration.calibration import Calibration
from sqc.calibration.rescaled import rescaled
from sqc.calibration.statistics import Statistics
from sqc.calibration.tensor import TensorStatistics


def calibration(**values: np.ndarray) -> Calibration:
    tensors = {name: TensorStatistics.of(x, len(x), channel_axis=1, name=name) for name, x in values.items()}
    return Calibration(Statistics(tensors, samples=len(next(iter(values.values())))))


def test_scaled_tensors_keep_the_extremes_of_all_samples() -> None:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((50, 3)).astype(np.float32) for _ in range(2))
    scale = np.array([1.0, 4.0, 2.0])
    known = calibration(a=a, b=b)
    found = rescaled(known, calibration(a=(a * scale).astype(np.float32)[:5], b=b[:5]), {"a": scale})
    assert found.histogram("b") == known.histogram("b")
    assert found.histogram("a").minimum == np.float32((a * scale).min())
    assert found.histogram("a").maximum == np.float32((a * scale).max())
    assert found.histogram("a").total == 5 * 3 + 2 * 3
    assert found.samples == known.samples
