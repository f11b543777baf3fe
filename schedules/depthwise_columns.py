"""Columns of a depthwise convolution's inputs: which outputs are computed from one, and weights arranged so."""

from __future__ import annotations

import numpy as np

from sqc.schedules.conv2d import Window
from sqc.schedules.intrinsics import Column
from sqc.schedules.microkernel import round_up


def shared_rows(window: Window, format: Column) -> int:
    """How many neighbouring rows of outputs are computed from one column of inputs.

    A column is filled up to whole dot products; where outputs further down see inputs of it alone, it serves them too,
    with weights shifted down and zeros above.
    """
    if window.dilations[0] > 1 or window.output[0] == 1:
        return 1
    height = window.kernel[0]
    return (-height % format.depth) // window.strides[0] + 1


def column_taps(window: Window, format: Column) -> int:
    """The inputs of a column: all that the outputs computed from it see."""
    return (shared_rows(window, format) - 1) * window.strides[0] + window.kernel[0]


def pack_rows(w: np.ndarray, window: Window, format: Column) -> np.ndarray:
    """Weights ``[C, kh, kw]`` as ``[C][rows][kw][taps]``, filled up with zeros.

    ``rows`` is :func:`shared_rows`, ``taps`` :func:`column_taps`, filled up to whole dot products.
    """
    rows, taps = shared_rows(window, format), round_up(column_taps(window, format), format.depth)
    channels, kh, kw = w.shape
    full = np.zeros((channels, rows, kw, taps), format.element)
    for row in range(rows):
        first = row * window.strides[0]
        full[:, row, :, first : first + kh] = w.swapaxes(1, 2)
    return full
