"""Data as {input: array of samples along the first axis}, cut into pieces that a model takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def whole_pieces(data: Mapping[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """Pieces of exactly ``size`` rows, as views; a remainder is left out."""
    starts = range(0, min(map(len, data.values())) - size + 1, size)
    return [{name: array[start : start + size] for name, array in data.items()} for start in starts]


def filled_up(piece: Mapping[str, np.ndarray], missing: int) -> dict[str, np.ndarray]:
    """A piece with ``missing`` copies of its last row behind it, to run it where a number of rows is fixed."""
    if not missing:
        return dict(piece)
    return {name: np.concatenate([array, *[array[-1:]] * missing]) for name, array in piece.items()}
