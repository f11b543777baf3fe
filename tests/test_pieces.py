"""Data cut into pieces, and filled up."""

from __future__ import annotations

import numpy as np
import pytest

from sqc.accuracy.running import chunks
from sqc.pieces import whole_pieces


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 5), (2, [2, 2]), (5, [5]), (6, [])])
def test_whole_pieces(size: int, sizes: list[int]) -> None:
    pieces = whole_pieces({"x": np.arange(10).reshape(5, 2)}, size)
    assert [len(piece["x"]) for piece in pieces] == sizes


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_last_chunk_is_filled_up(size: int) -> None:
    inputs = np.arange(10, dtype=np.float32).reshape(5, 2)
    parts = list(chunks({"x": inputs}, size))
    assert {len(part.inputs["x"]) for part in parts} == {size}
    results = [part.real(part.inputs["x"] * 2) for part in parts]
    np.testing.assert_array_equal(np.concatenate(results), inputs * 2)
