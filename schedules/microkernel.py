"""The register tile shared by matrix products and convolutions: rows x vectors of accumulators over a reduction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.schedules.intrinsics import LANES, Dot

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function, Schedule

STACK_BYTES = 256 * 1024
"""The most that a kernel puts on a thread's stack."""

STREAM_AHEAD = 1024
"""How far ahead of each vector of weights to ask for the next ones where they are read once."""

PREFETCH_TILES = 32
"""Where at most so many tiles use the same weights, all their products ask for the next ones."""

SHARED_BYTES = 8192
"""Where more do, weights of at least so many bytes are worth asking for; the arrival of fewer does not show."""


@dataclass(frozen=True)
class Tile:
    """How a matrix of ``rows x channels`` accumulators is cut.

    ``rows x vectors`` accumulator vectors are held in registers; ``block`` rows (a multiple of ``rows``) share staged
    activations in cache; the channels are split in ``parts``; a thread takes one part of one block at a time.
    """

    rows: int
    vectors: int
    block: int
    parts: int = 1

    def __str__(self) -> str:
        parts = f", {self.parts} parts" if self.parts > 1 else ""
        return f"{self.rows}x{self.vectors}, blocks of {self.block} rows{parts}"

    @property
    def columns(self) -> int:
        """Channels of a register tile."""
        return self.vectors * LANES


def round_up(value: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``value``."""
    return -(-value // multiple) * multiple


def vector_lanes(extent: int, most: int = 32) -> int:
    """The largest power of two that divides ``extent``, at most ``most``."""
    return math.gcd(extent, most)


def pack_weights(w: np.ndarray, dot: Dot) -> np.ndarray:
    """Weights ``[O, ..., C]`` as ``[O/16][...][C/depth][16][depth]``, filled up with zeros."""
    outputs, *kernel, channels = w.shape
    o, c = round_up(outputs, LANES), round_up(channels, dot.depth)
    full = np.zeros((o, *kernel, c), w.dtype)
    full[:outputs, ..., :channels] = w
    split = full.reshape(o // LANES, LANES, *kernel, c // dot.depth, dot.depth)
    return np.ascontiguousarray(np.moveaxis(split, 1, -2))


def pack_bias(bias: np.ndarray) -> np.ndarray:
    """A bias ``[O]``, filled up to sixteen with zeros."""
    return np.pad(bias, (0, -len(bias) % LANES))


def stage_scope(size: int) -> str:
    """Where ``size`` bytes of staged activations go: on the stack, or into a workspace if they are too many."""
    return "local" if size <= STACK_BYTES else "global"


def schedule_tiles(
    sch: Schedule,
    tile: Tile,
    dot: Dot,
    stage: str | None,
    lanes: int,
    axes: int = 2,
    prepare: Callable[[Schedule, Any], None] | None = None,
    *,
    by_parts: bool = False,
) -> Function:
    """Schedule the blocks ``acc`` and ``out``, of ``lanes`` (and ``stage``, in the scope given, or None without it).

    ``acc`` has the axes (any number of leading axes, rows, channels, reductions ..., depth of the dot product), its
    rows being a multiple of ``tile.block`` and its channels of ``tile.parts * tile.columns``. ``out`` has the same
    spatial axes with any smaller extents, its rows among the last ``axes``, and is computed by ``lanes``. ``stage``
    gives ``acc`` its activations, ``[..., channels]``. ``prepare`` schedules what else is computed once a task, whose
    loop it gets. ``by_parts``: tasks go through all blocks with one part of the channels before they take the next.
    """
    from sqc.schedules._tvm import PANEL_BYTES, SHARED_PANEL_BYTES, STREAM_BYTES, TASK_BLOCKS

    acc, out = sch.get_sblock("acc"), sch.get_sblock("out")
    loops = sch.get_loops(acc)
    spatial = len(sch.get(out).iter_vars)
    *lead, m, o = loops[:spatial]
    inner = 2 if dot.packed else 1
    reductions, products = loops[spatial:-inner], loops[-inner:]
    steps = math.prod(sch.get(loop).extent.value for loop in reductions)
    block, row_tile, row = sch.split(m, [None, tile.block // tile.rows, tile.rows])
    part, column_tile, vector, lane = sch.split(o, [tile.parts, None, tile.vectors, LANES])
    outer = (part, *lead, block) if by_parts else (*lead, block, part)
    sch.reorder(*outer, column_tile, row_tile, *reductions, row, vector, lane, *products)
    panels = tile.parts * sch.get(column_tile).extent.value
    blocks = math.prod(sch.get(loop).extent.value for loop in (*lead, block)) if by_parts else 1
    task = sch.fuse(*outer)
    sch.reverse_compute_at(out, row_tile, preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    schedule_output(sch, axes, lanes)
    if stage:
        schedule_stage(sch, task, stage)
    if sch.get(task).extent.value > 1:
        sch.parallel(task)
    if prepare:
        prepare(sch, task)
    # Where the last tile is cut short, the tiles before it need no tests.
    sch.annotate(column_tile, "pragma_loop_partition_hint", 1)
    schedule_start(sch, sch.decompose_reduction(acc, reductions[0]), 3)
    sch.unroll(row)
    sch.unroll(vector)
    sch.tensorize(lane, dot.register(stage or "global"))
    func = sch.mod["main"]
    if blocks > 1:
        func = func.with_attr(TASK_BLOCKS, blocks)
    panel = steps * tile.columns * dot.weight_bytes
    if tile.block == tile.rows:
        func = func.with_attr(STREAM_BYTES, STREAM_AHEAD)
    elif tile.block // tile.rows <= PREFETCH_TILES:
        func = func.with_attr(PANEL_BYTES, panel)
    elif panels > 1 and panel >= SHARED_BYTES:
        func = func.with_attr(SHARED_PANEL_BYTES, panel)
    return func


def schedule_output(sch: Schedule, axes: int, lanes: int) -> None:
    """Unroll and vectorize the innermost ``axes`` loops (the last over channels) of ``out``."""
    *outer, channel = sch.get_loops(sch.get_sblock("out"))[-axes:]
    vector, lane = sch.split(channel, [None, lanes])
    for loop in (*outer, vector):
        sch.unroll(loop)
    sch.vectorize(lane)


def schedule_start(sch: Schedule, init: Any, axes: int) -> None:
    """Unroll and vectorize the innermost ``axes`` loops of ``init``, which fills accumulators with their biases."""
    *outer, lane = sch.get_loops(init)[-axes:]
    for loop in outer:
        sch.unroll(loop)
    sch.vectorize(lane)


def schedule_stage(sch: Schedule, task: Any, scope: str, most: int = 32, pixel: int | None = None) -> None:
    """Compute ``stage`` once a task, in vectors of at most ``most`` channels.

    Its last axis is over the channels of a pixel; or over pixels of ``pixel`` channels each.
    """
    stage = sch.get_sblock("stage")
    sch.compute_at(stage, task, preserve_unit_loops=True)
    sch.set_scope(stage, 0, scope)
    *_, column, channel = sch.get_loops(stage)
    if pixel:
        column, channel = sch.split(channel, [None, pixel])
    # Where only the first and last columns are padding, those between are copied without a test.
    sch.annotate(column, "pragma_loop_partition_hint", 1)
    extent = sch.get(channel).extent.value
    # Long rows of few channels end with a part of a vector.
    lanes = vector_lanes(extent, most) if extent % LANES == 0 or extent < 4 * LANES else 2 * LANES
    chunk, vector = sch.split(channel, [None, lanes])
    sch.annotate(chunk, "pragma_loop_partition_hint", 1)
    sch.vectorize(vector)
