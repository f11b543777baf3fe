"""Kernels that reach a core's limits: products from registers, bytes read, cycles. They compute nothing of use.

Their arguments are the parameters of the scheduled functions, in order; their work is repeated within one call, so that
calls are long enough to time. Where ``threads`` is more than one, as many tasks do the same side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqc.schedules.intrinsics import LANES, dot
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function, Schedule

STEPS = 64
"""Steps over activations that stay in the first cache."""

STREAMS = 8
"""Vectors of sixteen 32-bit numbers that are summed side by side, to hide the latency of the addition."""


@dataclass(frozen=True)
class ProductLimit:
    """Multiply-accumulates into registers, by the instructions of the target's own kernels (in float: by FMA).

    Arguments: activations ``[STEPS, rows, depth]``, weights ``[vectors * 16, depth]``, accumulators ``[threads, rows,
    vectors * 16]``.
    """

    precision: Literal["int8", "float32"]
    threads: int
    repeats: int

    def tile(self, target: Target) -> tuple[int, int]:
        """Rows and vectors of accumulators, as measured best: many, but the weights must stay in registers too."""
        if target.vector_bytes == 64:
            return 8, 3
        return (4, 1) if self.precision == "int8" else (6, 1)

    def operands(self, target: Target) -> tuple[tuple[tuple[int, ...], str], tuple[tuple[int, ...], str]]:
        """Shape and element type of activations and weights."""
        rows, vectors = self.tile(target)
        depth, x, w = 1, "float32", "float32"
        if self.precision == "int8":
            product = dot(target)
            depth, x, w = product.depth, product.element, "int8"
        return ((STEPS, rows, depth), x), ((vectors * LANES, depth), w)

    def results(self, target: Target) -> int:
        """Bytes of the accumulators."""
        rows, vectors = self.tile(target)
        return self.threads * rows * vectors * LANES * 4

    def work(self, target: Target) -> int:
        """Multiply-accumulates of one call."""
        rows, vectors = self.tile(target)
        depth = self.operands(target)[1][0][1]
        return self.threads * self.repeats * STEPS * rows * vectors * LANES * depth

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te

        rows, vectors = self.tile(target)
        (x_shape, x_type), (w_shape, w_type) = self.operands(target)
        x = te.placeholder(x_shape, x_type, name="x")
        w = te.placeholder(w_shape, w_type, name="w")
        sums = "int32" if self.precision == "int8" else "float32"
        again, k = te.reduce_axis((0, self.repeats), "again"), te.reduce_axis((0, STEPS), "k")
        j = te.reduce_axis((0, x_shape[2]), "j")
        shape = (self.threads, rows, vectors * LANES)
        # Activations change from step to step, lest a product be computed once and for all.
        acc = te.compute(
            shape,
            lambda t, m, n: te.sum(x[k, m, j].astype(sums) * w[n, j].astype(sums), [again, k, j]),
            name="acc",
        )
        out = te.compute(shape, lambda *index: acc(*index), name="out")
        sch = Schedule(function([x, w, out]))
        t, m, n, again_loop, k_loop, j_loop = sch.get_loops(sch.get_sblock("acc"))
        vector, lane = sch.split(n, [vectors, LANES])
        sch.reorder(t, again_loop, k_loop, m, vector, lane, j_loop)
        if self.precision == "float32":
            sch.vectorize(lane)
        _sum_in_registers(sch, t, again_loop, [m, vector])
        if self.precision == "int8":
            sch.tensorize(lane, dot(target).register("global"))
        return sch.mod["main"]


@dataclass(frozen=True)
class ReadLimit:
    """Reading ``size`` bytes, a multiple of ``UNIT`` for each thread, again and again.

    Arguments: the bytes, sums of ``threads * UNIT`` bytes.
    """

    UNIT = STREAMS * LANES * 4

    size: int
    threads: int
    repeats: int

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te

        chunks = self.size // (self.UNIT * self.threads)
        x = te.placeholder((self.threads, chunks, STREAMS, LANES), "int32", name="x")
        again, k = te.reduce_axis((0, self.repeats), "again"), te.reduce_axis((0, chunks), "k")
        shape = (self.threads, STREAMS, LANES)
        acc = te.compute(shape, lambda t, m, n: te.sum(x[t, k, m, n], [again, k]), name="acc")
        out = te.compute(shape, lambda *index: acc(*index), name="out")
        sch = Schedule(function([x, out]))
        t, m, lane, again_loop, k_loop = sch.get_loops(sch.get_sblock("acc"))
        sch.reorder(t, again_loop, k_loop, m, lane)
        sch.vectorize(lane)
        _sum_in_registers(sch, t, again_loop, [m])
        return sch.mod["main"]


@dataclass(frozen=True)
class ClockLimit:
    """A chain of ``steps`` multiplications and exclusive ors, each of which waits for the one before.

    Argument: one 32-bit number.
    """

    CYCLES_A_STEP = 4
    """A multiplication takes three cycles, on Intel's processors since Nehalem and on AMD's since the first Zen."""

    steps: int

    def schedule(self, target: Target) -> Function:
        from sqc.schedules._tvm import Schedule, function, te

        mix = te.comm_reducer(lambda x, y: (x * x) ^ y, lambda dtype: te.const(0, dtype), name="mix")
        k = te.reduce_axis((0, self.steps), "k")
        out = te.compute((1,), lambda i: mix(k.var, k), name="out")
        return Schedule(function([out])).mod["main"]


def _sum_in_registers(sch: Schedule, thread: object, reduction: object, unrolled: list[object]) -> None:
    """Keep ``acc`` in registers from the first step of ``reduction`` to the end of a ``thread``."""
    from sqc.schedules.microkernel import schedule_output, schedule_start

    acc, out = sch.get_sblock("acc"), sch.get_sblock("out")
    sch.reverse_compute_at(out, thread, preserve_unit_loops=True)
    sch.set_scope(acc, 0, "local")
    schedule_output(sch, 2, LANES)
    if sch.get(thread).extent.value > 1:
        sch.parallel(thread)
    schedule_start(sch, sch.decompose_reduction(acc, reduction), len(unrolled) + 1)
    for loop in unrolled:
        sch.unroll(loop)
