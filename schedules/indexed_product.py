"""Products over lists of groups of four neighbouring activations, a list for every sixteen columns.

Rows are those of a matrix, or the pixels of a convolution, whose groups lie where its taps do.

A group whose weights are all zero is left out of the list. A group is listed twice where its weights are the sum of two
parts: on processors without VNNI that keeps sums of two products within the 16 bits of ``vpmaddubsw``, so that bytes
need not be widened before they are multiplied. The sums are the same integers either way.

Measured on Zen 4, against products that take all activations in order, over four shapes of 1 to 196 rows: with 75 % of
the groups zero 1.8 to 2.4 times as quick by AVX-512 VNNI, with 90 % 2.3 to 3.9 times; with none zero and no pair split
1.1 to 1.4 times by AVX2 and 1.1 to 1.3 times by AVX-512BW, but slower with half of the groups listed twice.

On Emerald Rapids, 3x3 convolutions of 16 to 512 channels: with 75 % of the groups zero 2.4 to 3 times as quick by
AVX-512 VNNI, 2.1 to 3 times by AVX2; with no pair split 1.0 to 1.5 times by AVX2 and 1.3 to 1.5 times by AVX-512BW, but
0.8 to 1.1 times with a quarter to half of the groups listed twice, as weights of eight bits take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.schedules.epilogue import Epilogue
from sqc.schedules.intrinsics import LANES, listed_dot
from sqc.schedules.microkernel import Tile, pack_weights, round_up
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function

GROUP = 4
MOST = 128
"""What the weights of one sign of a pair may add up to: ``255 * 128`` fits into 16 bits."""


@dataclass(frozen=True)
class Pixels:
    """The rows of an image of activations: ``extents`` (down, to the right), each ``steps`` activations after another.

    A row of a matrix is an image of one pixel.
    """

    extents: tuple[int, int] = (1, 1)
    steps: tuple[int, int] = (0, 0)

    def start(self, row: Expr) -> tuple[Expr, Expr]:
        """The image that a row belongs to, and where in it its activations start."""
        (height, width), (down, right) = self.extents, self.steps
        pixel = row % (height * width)
        return row // (height * width), pixel // width * down + pixel % width * right


@dataclass(frozen=True)
class IndexedProduct:
    """``x[images, stride]`` u8 times ``w[columns, ...]`` s8, plus bias, and an epilogue; a list has ``groups``."""

    images: int
    pixels: Pixels
    columns: int
    stride: int
    groups: int
    epilogue: Epilogue

    @property
    def rows(self) -> int:
        """Of the product: all pixels of all images."""
        return self.images * math.prod(self.pixels.extents)

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import product_tiles

        return product_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, hide_reads, start_sums, te
        from sqc.schedules.microkernel import schedule_tiles

        tile = tile or self.tiles(target)[0]
        rows, columns = round_up(self.rows, tile.block), round_up(self.columns, tile.parts * tile.columns)
        last = self.rows - 1
        x = te.placeholder((self.images, self.stride), "uint8", name="x")
        starts = te.placeholder((columns // LANES, self.groups), "int32", name="starts")
        w = te.placeholder((columns // LANES, self.groups, LANES, GROUP), "int8", name="w")
        bias = te.placeholder((columns,), "int32", name="bias")
        parameters = te.placeholder((max(1, self.epilogue.parameter_count),), "int32", name="parameters")
        inputs = self.epilogue.inputs((self.rows, self.columns), target)

        g, j = te.reduce_axis((0, self.groups), "g"), te.reduce_axis((0, GROUP), "j")

        def activation(m: Expr, n: Expr) -> Expr:
            image, start = self.pixels.start(te.min(m, last) if rows > self.rows else m)
            return x(image, start + starts(n // LANES, g) + j).astype("int32")

        acc = te.compute(
            (rows, columns),
            lambda m, n: te.sum(activation(m, n) * w(n // LANES, g, n % LANES, j).astype("int32"), [g, j]),
            name="acc",
        )
        out = te.compute(
            (self.rows, self.columns),
            lambda m, n: inputs.apply(acc(m, n), (m, n), parameters),
            name="out",
        )
        func = function([x, *inputs.operands, starts, w, bias, *inputs.constants, parameters, out])
        sch = Schedule(hide_reads(start_sums(func, "acc", "bias"), "acc", "starts"))
        return schedule_tiles(sch, tile, listed_dot(target), None, self.epilogue.lanes(tile.columns, target))

    def pack(self, w: np.ndarray, target: Target) -> list[np.ndarray]:
        """The lists of weights ``[columns, depth]``, which are those that the problem was made for."""
        starts, weights = list_groups(w, target)
        assert starts.shape[1] == self.groups
        return [starts, weights]


def paying_groups(w: np.ndarray, target: Target, packs: bool) -> int | None:
    """How many groups the lists of weights ``[columns, ...]`` have; None if taking all in order is as quick.

    ``packs``: the alternative are weights of four bits.
    """
    most = 0.5 if packs else 1.2 if listed_dot(target).saturates else 0.85
    depth = math.prod(w.shape[1:])
    if depth < GROUP or np.count_nonzero(w) > most * w.size:
        return None
    groups: int = list_groups(w.reshape(-1, depth), target)[0].shape[1]
    return groups if groups * GROUP <= most * depth else None


def list_groups(w: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The lists of weights ``w[columns, depth]``: where groups start, s32 ``[lists, groups]``, and weights, s8
    ``[lists, groups, 16, 4]``. Short lists are filled up with zeros.
    """
    dot, depth = listed_dot(target), w.shape[1]
    packed = pack_weights(w, dot)
    places = np.arange(packed.shape[1], dtype=np.int32) * GROUP
    if beyond := -depth % GROUP:
        # The last group starts earlier instead of ending beyond the activations.
        packed[:, -1] = np.roll(packed[:, -1], beyond, axis=-1)
        places[-1] -= beyond
    lists = []
    for panel in packed:
        kept = np.flatnonzero(panel.any(axis=(1, 2)))
        groups = panel[kept]
        if dot.saturates:
            groups, rest = split_pairs(groups)
            again = np.flatnonzero(rest.any(axis=(1, 2)))
            kept, groups = np.concatenate([kept, kept[again]]), np.concatenate([groups, rest[again]])
        lists.append((kept, groups))
    longest = max(1, *(len(kept) for kept, _ in lists))
    starts = np.zeros((len(lists), longest), np.int32)
    weights = np.zeros((len(lists), longest, LANES, GROUP), np.int8)
    for i, (kept, groups) in enumerate(lists):
        starts[i, : len(kept)] = places[kept]
        weights[i, : len(kept)] = groups
    return starts, weights


def split_pairs(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights s8 as the sum of two, in each of which no neighbouring pair adds up to more than ``MOST``, by sign.

    Where a pair does, its larger weight moves to the second part.
    """
    pairs = w.reshape(*w.shape[:-1], w.shape[-1] // 2, 2).astype(np.int16)
    positive, negative = pairs.clip(min=0).sum(axis=-1), -pairs.clip(max=0).sum(axis=-1)
    beyond = np.maximum(positive, negative) > MOST
    second = np.abs(pairs[..., 1]) > np.abs(pairs[..., 0])
    moved = np.stack([beyond & ~second, beyond & second], axis=-1)
    rest = np.where(moved, pairs, 0)
    return (pairs - rest).astype(np.int8).reshape(w.shape), rest.astype(np.int8).reshape(w.shape)
