"""Histograms to search: small arbitrary ones, and those of typical data."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from sqc.calibration import Grid, Histogram

grids = st.builds(Grid, st.sampled_from([2, 3, 4, 8]), st.booleans(), st.booleans())


@st.composite
def small_histograms(draw: st.DrawFn) -> Histogram:
    low_bin, high_bin = sorted(draw(st.tuples(st.integers(-7, 7), st.integers(-7, 7))))
    counts = draw(st.lists(st.integers(0, 30), min_size=high_bin - low_bin + 1, max_size=high_bin - low_bin + 1))
    counts[0], counts[-1] = counts[0] + 1, counts[-1] + 1
    fractions = sorted(draw(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 0.875])] * 2)))
    if low_bin != high_bin:
        fractions = draw(st.permutations(fractions))
    exponent = draw(st.integers(-3, 3))
    first, last = min(low_bin, 0), max(high_bin, -1)
    padded = [0] * (low_bin - first) + counts + [0] * (last - high_bin)
    minimum, maximum = low_bin + fractions[0], high_bin + fractions[1]
    return Histogram(exponent, first, np.array(padded), math.ldexp(minimum, exponent), math.ldexp(maximum, exponent))


def sample(kind: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(20_000)
    return {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "relu6": np.clip(normal * 4, 0, 6),
        "negative": -np.abs(normal) - 0.5,
        "shifted": normal + 3,
        "heavy": rng.standard_t(2, 20_000),
        "two points": np.where(normal > 1, 3.0, -1.0),
    }[kind].astype(np.float32)


KINDS = ["normal", "relu", "relu6", "negative", "shifted", "heavy", "two points"]
