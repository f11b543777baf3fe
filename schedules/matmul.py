"""Integer products of two computed operands: the second one is packed inside the kernel, then tiled like weights.

With ``b' = b - 128``, which is s8 as the dot products take it, and ``z' = z_b - 128``:

    sum (a - z_a) (b - z_b)  =  sum a b'  -  z_a (sum b' - K z')  -  z' sum a

Sums are over the depth K. The last two terms are computed where zero points call for them, one a row and one a column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.ir import Value
from sqc.ops.products import permutations, product_shapes
from sqc.schedules.epilogue import Epilogue
from sqc.schedules.epilogue_values import epilogue_of
from sqc.schedules.intrinsics import LANES, Dot, dot
from sqc.schedules.kernel import Kernel, Pattern
from sqc.schedules.microkernel import Tile, round_up, stage_scope
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Schedule

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """What ``qmatmul`` computes of ``a`` and ``b``, their axes permuted, with an epilogue.

    ``a_centered`` tells that the zero point of ``a`` is 0, ``b_centered`` that that of ``b`` is 128; neither if they
    are ``given`` at run time.
    """

    a: Shape
    b: Shape
    perm_a: Shape
    perm_b: Shape
    perm_y: Shape
    a_centered: bool
    b_centered: bool
    epilogue: Epilogue
    given: bool = False

    @property
    def shape(self) -> Shape:
        """The shape of the product before its axes are permuted."""
        permutations = {"perm_a": self.perm_a, "perm_b": self.perm_b}
        return product_shapes(self.a, self.b, permutations)[2]

    @property
    def depth(self) -> int:
        return self.a[self.perm_a[-1]]

    def stages(self, target: Target) -> bool:
        """Whether rows of ``a`` have to be brought into a form that dot products read."""
        product = dot(target)
        return product.widens or self.depth % product.depth != 0 or self.perm_a[-1] != len(self.a) - 1

    def tiles(self, target: Target) -> list[Tile]:
        from sqc.schedules.tiling import product_tiles

        return product_tiles(self, target)

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        from sqc.schedules._tvm import Schedule, function, te
        from sqc.schedules.microkernel import schedule_tiles
        from sqc.schedules.views import View, transpose

        product = dot(target)
        tile = tile or self.tiles(target)[0]
        *lead, m, n = self.shape
        rows, columns = round_up(m, tile.block), round_up(n, tile.parts * tile.columns)
        steps = -(-self.depth // product.depth)
        inputs = self.epilogue.inputs(self.epilogue.shape, target)
        parameters = te.placeholder((2 + self.epilogue.parameter_count,), "int32", name="parameters")
        a, b = (te.placeholder(shape, "uint8", name=name) for shape, name in ((self.a, "a"), (self.b, "b")))
        zeros = [te.placeholder((1,), "uint8", name=name) for name in ("z_a", "z_b")] if self.given else []
        minus_a, minus_b = parameters(0), parameters(1)
        if zeros:
            minus_a, minus_b = 0 - zeros[0](0).astype("int32"), 128 - zeros[1](0).astype("int32")
        matrices = transpose(View.of(a, self.a, "uint8"), self.perm_a).broadcast((*lead, m, self.depth))
        others = transpose(View.of(b, self.b, "uint8"), self.perm_b).broadcast((*lead, self.depth, n))

        def repeated(i: Expr) -> Expr:
            return te.min(i, m - 1) if rows > m else i

        def row(batch: Sequence[Expr], i: Expr, k: Expr) -> Expr:
            value = matrices((*batch, repeated(i), k))
            inside = self.depth % product.depth == 0
            return value if inside else te.if_then_else(k < self.depth, value, te.const(0, "uint8"))

        def rebased(batch: Sequence[Expr], k: Expr, j: Expr) -> Expr:
            value = (others((*batch, k, j)) ^ te.const(128, "uint8")).astype("int8")
            checks = [k < self.depth] if self.depth % product.depth else []
            checks += [j < n] if n < columns else []
            return te.if_then_else(te.all(*checks), value, te.const(0, "int8")) if checks else value

        pack = te.compute(
            (*lead, columns // LANES, steps, LANES, product.depth),
            lambda *at: rebased(at[:-4], at[-3] * product.depth + at[-1], at[-4] * LANES + at[-2]),
            name="pack",
        )
        starts: list[Callable[[Sequence[Expr]], Expr]] = []
        if not self.a_centered:
            ones = te.compute((product.depth,), lambda _: te.const(1, product.element), name="ones")
            k, j = te.reduce_axis((0, steps), "k"), te.reduce_axis((0, product.depth), "j")
            column_sums = te.compute(
                (*lead, columns),
                lambda *at: te.sum(
                    ones(j).astype("int32") * pack(*at[:-1], at[-1] // LANES, k, at[-1] % LANES, j).astype("int32"),
                    [k, j],
                ),
                name="column_sums",
            )
            starts.append(lambda at: minus_a * (column_sums(*at[:-2], at[-1]) + minus_b * self.depth))
        if not self.b_centered:
            e = te.reduce_axis((0, self.depth), "e")
            row_sums = te.compute(
                (*lead, rows),
                lambda *at: te.sum(matrices((*at[:-1], repeated(at[-1]), e)).astype("int32"), [e]),
                name="row_sums",
            )
            starts.append(lambda at: minus_b * row_sums(*at[:-1]))
        source, staged = row, self.stages(target)
        if staged:
            stage = te.compute(
                (*lead, rows, steps * product.depth),
                lambda *at: row(at[:-2], at[-2], at[-1]).astype(product.element),
                name="stage",
            )

            def source(batch: Sequence[Expr], i: Expr, k: Expr) -> Expr:
                return stage(*batch, i, k)

        k, j = te.reduce_axis((0, steps), "k"), te.reduce_axis((0, product.depth), "j")

        def element(*at: Expr) -> Expr:
            x = source(at[:-2], at[-2], k * product.depth + j)
            y = pack(*at[:-2], at[-1] // LANES, k, at[-1] % LANES, j)
            term = x.astype("int32") * y.astype("int32")
            return te.sum(term + sum((start(at) for start in starts[1:]), starts[0](at)) if starts else term, [k, j])

        acc = te.compute((*lead, rows, columns), element, name="acc")
        back = [self.perm_y.index(axis) for axis in range(len(self.perm_y))]

        def result(*at: Expr) -> Expr:
            return inputs.apply(acc(*(at[position] for position in back)), at, parameters, 2)

        out = te.compute(self.epilogue.shape, result, name="out")
        sch = Schedule(function([a, b, *zeros, *inputs.operands, *inputs.constants, parameters, out]))
        size = tile.block * steps * product.depth * np.dtype(product.element).itemsize
        scope = stage_scope(size) if staged else None
        lanes = self.epilogue.lanes(tile.columns, target)
        axes = len(self.shape) - self.perm_y.index(len(self.shape) - 2)
        return schedule_tiles(
            sch, tile, product, scope, lanes, axes, lambda sch, task: self._prepare(sch, task, product)
        )

    def _prepare(self, sch: Schedule, task: Any, product: Dot) -> None:
        """Pack and sum once a task."""
        from sqc.schedules._tvm import start_from_terms
        from sqc.schedules.microkernel import schedule_start

        rows = [] if self.b_centered else ["row_sums"]
        columns = [] if self.a_centered else ["column_sums", "ones"]
        for name in (*rows, *columns, "pack"):
            sch.compute_at(sch.get_sblock(name), task, preserve_unit_loops=True)
        for name in (*rows, *columns):
            sch.set_scope(sch.get_sblock(name), 0, "local")
        if columns:
            sums = sch.get_sblock("column_sums")
            *_, column, k, j = sch.get_loops(sums)
            vector, lane = sch.split(column, [None, LANES])
            sch.reorder(vector, k, lane, j)
            schedule_start(sch, sch.decompose_reduction(sums, k), 1)
            sch.tensorize(lane, product.register("local"))
        if rows or columns:
            start_from_terms(sch, "acc")


def lower_product(pattern: Pattern, target: Target) -> Kernel:
    """A kernel for ``qmatmul``."""
    op = pattern.anchor
    a, b, *given = op.operands
    epilogue, values = epilogue_of(pattern)
    zero_points = -a.type.zero_point, 128 - b.type.zero_point
    a_centered, b_centered = (z == 0 and not given for z in zero_points)
    problem = Product(
        a.type.shape, b.type.shape, *permutations(op), a_centered, b_centered, epilogue, given=bool(given)
    )

    def pack(constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        return [*values.pack(constants), np.array((*zero_points, *values.parameters), np.int32)]

    activations = (*(pattern.operand[value] for value in op.operands), *values.activations)
    return Kernel(problem, target, activations, pattern.result, pack)
