"""Matrix products: fully connected layers, and 1x1 convolutions of stride 1, which are the same over all pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqc.ir import Value
from sqc.schedules.epilogue import Epilogue
from sqc.schedules.epilogue_values import epilogue_of
from sqc.schedules.indexed_product import IndexedProduct, Pixels, paying_groups
from sqc.schedules.intrinsics import dot
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.microkernel import Tile, pack_weights, round_up
from sqc.schedules.packed_product import PackedProduct, fits_packed
from sqc.schedules.target import Target
from sqc.schedules.tile_product import COLUMNS, ROWS, TileProduct

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function


@dataclass(frozen=True)
class MatrixProduct:
    """The first ``depth`` of ``x[rows, stride]`` u8 times ``w[columns, depth]`` s8, plus bias, and an epilogue."""

    rows: int
    columns: int
    depth: int
    stride: int
    epilogue: Epilogue

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import product_tiles

        return product_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, start_sums, te
        from sqc.schedules.microkernel import schedule_tiles, stage_scope

        product = dot(target)
        tile = tile or self.tiles(target)[0]
        rows, columns = round_up(self.rows, tile.block), round_up(self.columns, tile.parts * tile.columns)
        depth = round_up(self.depth, product.depth)
        steps = depth // product.depth
        x = te.placeholder((self.rows, self.stride), "uint8", name="x")
        w = te.placeholder((columns // 16, steps, 16, product.depth), "int8", name="w")
        bias = te.placeholder((columns,), "int32", name="bias")
        parameters = te.placeholder((max(1, self.epilogue.parameter_count),), "int32", name="parameters")
        inputs = self.epilogue.inputs((self.rows, self.columns), target)

        def read(m: Expr, k: Expr) -> Expr:
            value = x(te.min(m, self.rows - 1) if rows > self.rows else m, k)
            return value if depth == self.depth else te.if_then_else(k < self.depth, value, te.const(0, "uint8"))

        staged = product.widens or depth != self.depth
        if staged:
            stage = te.compute((rows, depth), lambda m, k: read(m, k).astype(product.element), name="stage")
        source = stage if staged else read
        k, j = te.reduce_axis((0, steps), "k"), te.reduce_axis((0, product.depth), "j")
        acc = te.compute(
            (rows, columns),
            lambda m, n: te.sum(
                source(m, k * product.depth + j).astype("int32") * w(n // 16, k, n % 16, j).astype("int32"), [k, j]
            ),
            name="acc",
        )
        out = te.compute(
            (self.rows, self.columns),
            lambda m, n: inputs.apply(acc(m, n), (m, n), parameters),
            name="out",
        )
        func = function([x, *inputs.operands, w, bias, *inputs.constants, parameters, out])
        sch = Schedule(start_sums(func, "acc", "bias"))
        scope = stage_scope(tile.block * depth * np.dtype(product.element).itemsize) if staged else None
        lanes = self.epilogue.lanes(tile.columns, target)
        return schedule_tiles(sch, tile, product, scope, lanes, by_parts=self.columns > self.rows)

    def pack(self, w: np.ndarray, target: Target) -> list[np.ndarray]:
        """Weights ``[columns, depth]`` as the kernel reads them."""
        return [pack_weights(w, dot(target))]


def used_depth(w: np.ndarray | None, stride: int, multiple: int) -> int:
    """How many inputs weights ``[O, stride]`` multiply, without those behind that padding brought.

    A multiple of ``multiple``, unless it is all of them; all where the weights are not known.
    """
    if w is None:
        return stride
    used = np.flatnonzero(w.reshape(-1, stride).any(axis=0))
    return min(stride, round_up(int(used[-1]) + 1 if len(used) else 1, multiple))


def lower_fully_connected(pattern: Pattern, target: Target) -> Kernel:
    """A kernel for ``qfully_connected``."""
    x, w, _ = pattern.anchor.operands
    rows, stride = x.type.shape
    return _lower(pattern, target, rows, stride, w.type.shape[0])


def lower_pointwise(pattern: Pattern, target: Target) -> Kernel:
    """A kernel for a 1x1 ``qconv2d`` of stride 1 without padding or groups."""
    x, w, _ = pattern.anchor.operands
    *pixels, stride = x.type.shape
    return _lower(pattern, target, math.prod(pixels), stride, w.type.shape[0])


def _lower(pattern: Pattern, target: Target, rows: int, stride: int, columns: int) -> Kernel:
    epilogue, values = epilogue_of(pattern)
    x, w, bias = (pattern.operand[value] for value in pattern.anchor.operands)
    known = pattern.constants.get(w)
    depth = used_depth(known, stride, dot(target).depth)

    problem: MatrixProduct | TileProduct | IndexedProduct | PackedProduct = MatrixProduct(
        rows, columns, depth, stride, epilogue
    )
    if target.isa == "amx" and rows >= ROWS and columns >= COLUMNS:
        problem = TileProduct(rows, columns, depth, stride, epilogue)
    elif known is not None:
        packs = fits_packed(known)
        groups = paying_groups(known.reshape(columns, stride)[:, :depth], target, packs)
        if groups is not None:
            problem = IndexedProduct(rows, Pixels(), columns, stride, groups, epilogue)
        elif packs:
            problem = PackedProduct(rows, columns, depth, stride, epilogue)

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        packed = problem.pack(constants[w].reshape(columns, stride)[:, :depth], target)
        return [*packed, *values.behind_weights(constants, bias)]

    return Kernel(problem, target, (x, *values.activations), pattern.result, pack)
