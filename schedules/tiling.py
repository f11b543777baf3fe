"""The model that picks tiles without tuning."""

from __future__ import annotations

from sqc.schedules.conv2d import Convolution
from sqc.schedules.depthwise import Depthwise
from sqc.schedules.microkernel import Tile, round_up
from sqc.schedules.target import Target


def matrix_tile(rows: int, columns: int, depth: int, target: Target) -> Tile:
    """The tile of a matrix product."""
    r = min(4, rows)
    v = 1
    return Tile(r, v, round_up(min(rows, 64), r), 1)


def convolution_tile(problem: Convolution, target: Target) -> Tile:
    """The tile of a convolution."""
    oh, ow = problem.window.output
    rows = min(4, oh * ow)
    block = round_up(oh * ow, rows)
    return Tile(rows, 1, block, 1)


def depthwise_tile(problem: Depthwise, target: Target) -> Tile:
    """The tile of a depthwise convolution: ``rows`` pixels of a row, ``block`` rows of pixels."""
    oh, ow = problem.window.output
    return Tile(min(4, ow), 1, min(oh, 4), 1)
