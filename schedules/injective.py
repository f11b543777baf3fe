"""Kernels of chains: every element of the result is one expression, computed in vectors along the last axis.

The formulas are those of ``sqc/NUMERICS.md``; one function a family, from views of operands to a view of the result.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from sqc.schedules._tvm import Schedule, fence, function, loops_from_zero, rounded, te, tirx
from sqc.schedules.axes import ELEMENTWISE, PARALLEL_CYCLES, POOLS, REDUCTIONS, boundaries, cycles, has_loops
from sqc.schedules.chain import Chain, Numbers, Step
from sqc.schedules.epilogue import rescaled, saturated, weighted_sum
from sqc.schedules.functions import (
    BINARY,
    COMPARISONS,
    UNARY,
    bind,
    constant,
    evaluate_binary,
    evaluate_unary,
    quotient,
)
from sqc.schedules.recurrent import FORMULAS as CELL_FORMULAS
from sqc.schedules.target import Target
from sqc.schedules.views import (
    Index,
    Shape,
    View,
    concatenate,
    gather,
    interpolate,
    pad,
    reshape,
    strided_slice,
    transpose,
)
from sqc.schedules.windows import pool, reduction, schedule_reduction

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Tensor

TASKS = 16
"""Iterations that are shared among threads, if there are so many."""

PACKED = 64
"""Results that one saturating pack holds; see :mod:`sqc.schedules.intrinsics.packs`."""

Formula: TypeAlias = Callable[[Step, Sequence[View], Numbers], View]


def _rounded(t: Expr, numbers: Numbers, dtype: str) -> Expr:
    """Round, clamp so that NaN becomes the lower limit, convert, and shift by the zero point."""
    low, high = (numbers.integer(i).astype("float32") for i in (1, 2))
    t = te.min(te.max(te.round(t), low), high)
    return (t.astype("int32") + numbers.integer(0)).astype(dtype)


def _quantize(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    (x,) = sources
    if not step["reciprocal"]:
        return View(x.shape, step.dtype, lambda i: _rounded(x.read(i) / numbers.scale(0), numbers, step.dtype))
    scale, reciprocal, low, high = map(numbers.scale, range(4))

    def read(index: Index) -> Expr:
        # Between what the least and the largest level stand for there are no infinities, and no level beyond.
        level = quotient(te.min(te.max(x.read(index), low), high), scale, reciprocal)
        return (rounded(level) + numbers.integer(0)).astype(step.dtype)

    return View(x.shape, step.dtype, read)


def _dequantize(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    x, *multiplier = sources

    def read(index: Index) -> Expr:
        value = x.read(index).astype("int32")
        if multiplier:
            return fence(value.astype("float32") * multiplier[0].broadcast(x.shape)(index))
        entry = 0 if step["axis"] is None else index[step["axis"]]
        return fence((value - numbers.integer(entry)).astype("float32") * numbers.scale(entry))

    return View(x.shape, "float32", read)


def _requantize(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    count = len(sources) // 2
    terms = [source.broadcast(step.shape) for source in sources[:count]]
    multipliers = [source.broadcast(step.shape) for source in sources[count:]]

    def read(index: Index) -> Expr:
        zeros = [
            None if source.dtype == "int32" else numbers.integer(3 + i) for i, source in enumerate(sources[:count])
        ]
        total = weighted_sum([term(index) for term in terms], zeros, [m(index) for m in multipliers])
        if not step["moderate"]:
            return _rounded(total, numbers, step.dtype)
        zero_point = numbers.integer(0)
        limits = [] if step["full"] else [zero_point + numbers.integer(i) for i in (1, 2)]
        return saturated(total, zero_point, limits, step.dtype)

    return View(step.shape, step.dtype, read)


def _row(pairs: View, index: Index) -> Index:
    """Which of ``pairs`` belongs to an element."""
    return [0 if extent == 1 else i for i, extent in zip(index, pairs.shape[:-1], strict=False)]


def _dynamic_quantize(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    x, pairs = sources

    def read(index: Index) -> Expr:
        row = _row(pairs, index)
        t = te.round(x.read(index) / pairs.read([*row, 0])) + pairs.read([*row, 1])
        return te.min(te.max(t, constant(0.0)), constant(255.0)).astype("int32").astype("uint8")

    return View(x.shape, "uint8", read)


def _dynamic_dequantize(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    acc, pairs, *constants = sources

    def read(index: Index) -> Expr:
        row = _row(pairs, index)
        pair = pairs.read([*row, 0]), pairs.read([*row, 1])
        return rescaled(acc.read(index), pair, [item.read(index[-1:]) for item in constants])

    return View(acc.shape, "float32", read)


def _center(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    acc, zero_point, sums = (source.broadcast(step.shape) for source in sources)
    return View(step.shape, "int32", lambda i: acc(i) - zero_point(i).astype("int32") * sums(i))


def _lookup(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    x, table = sources
    return View(x.shape, "uint8", lambda index: table.read([x.read(index).astype("int32")]))


def _qmul(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    reads = [source.broadcast(step.shape) for source in sources]

    def read(index: Index) -> Expr:
        a, b = (read(index).astype("int32") - numbers.integer(i) for i, read in enumerate(reads))
        return a * b

    return View(step.shape, "int32", read)


def _qprelu(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    x, above, below = (source.broadcast(step.shape) for source in sources)

    def read(index: Index) -> Expr:
        def product(centred: Expr) -> Expr:
            factor = tirx.Select(centred < 0, below(index), above(index))
            return fence(centred.astype("float32") * factor)

        return _rounded(bind(x(index).astype("int32") - numbers.integer(3), product), numbers, step.dtype)

    return View(step.shape, step.dtype, read)


def _unary(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    (x,) = sources
    attributes = dict(step.attributes)
    return View(x.shape, "float32", lambda index: evaluate_unary(step.kind, x.read(index), attributes))


def _binary(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    a, b = (source.broadcast(step.shape) for source in sources)
    return View(step.shape, "float32", lambda index: evaluate_binary(step.kind, a(index), b(index)))


def _comparison(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    a, b = (source.broadcast(step.shape) for source in sources)

    def read(index: Index) -> Expr:
        return tirx.Select(COMPARISONS[step.kind](a(index), b(index)), constant(1.0), constant(0.0))

    return View(step.shape, "float32", read)


def _where(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    condition, x, y = (source.broadcast(step.shape) for source in sources)

    def read(index: Index) -> Expr:
        return tirx.Select(tirx.EQ(condition(index), constant(0.0)), y(index), x(index))

    return View(step.shape, "float32", read)


def _batch_norm(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    x, *parameters = sources
    axis = step["axis"] % len(x.shape)

    def read(index: Index) -> Expr:
        gamma, beta, mean, variance = (parameter.read([index[axis]]) for parameter in parameters)
        deviation = te.sqrt(variance + constant(step["epsilon"]))
        return fence(gamma * ((x.read(index) - mean) / deviation)) + beta

    return View(x.shape, "float32", read)


def _slice(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    (x,) = sources
    starts, steps = [0] * len(x.shape), [1] * len(x.shape)
    for axis, start, stride in zip(step["axes"], step["starts"], step["steps"], strict=True):
        starts[axis], steps[axis] = start, stride
    return strided_slice(x, step.shape, starts, steps)


def _gather(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    x, indices = sources
    return gather(x, indices, step["axis"] % len(x.shape), step.shape)


def _interpolate(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    levels, *tables = sources
    dtype = levels.dtype
    x = levels
    if step.kind == "qinterpolate":
        dtype = "int16" if step["narrow"] else "int32"
        zero_point = numbers.integer(0).astype(dtype)
        x = View(levels.shape, dtype, lambda index: levels.read(index).astype(dtype) - zero_point)
    for axis, places, weights in zip(step["axes"], tables[::2], tables[1::2], strict=True):
        x = interpolate(x, places, weights.cast(dtype), axis)
    return x.cast(step.dtype)


def _pad(step: Step, sources: Sequence[View], numbers: Numbers) -> View:
    (x,) = sources
    rank = len(x.shape)
    value = numbers.scale(0) if step.dtype == "float32" else numbers.integer(0).astype(step.dtype)
    return pad(x, step["pads"][:rank], step["pads"][rank:], value)


FORMULAS: dict[str, Formula] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "requantize": _requantize,
    "dynamic_quantize": _dynamic_quantize,
    "dynamic_dequantize": _dynamic_dequantize,
    "center": _center,
    "lookup": _lookup,
    "qmul": _qmul,
    "qprelu": _qprelu,
    "batch_norm": _batch_norm,
    "copy": lambda step, sources, numbers: sources[0],
    "reshape": lambda step, sources, numbers: reshape(sources[0], step.shape),
    "transpose": lambda step, sources, numbers: transpose(sources[0], step["perm"]),
    "slice": _slice,
    "gather": _gather,
    "interpolate": _interpolate,
    "qinterpolate": _interpolate,
    "pad": _pad,
    "concat": lambda step, sources, numbers: concatenate(sources, step["axis"] % len(step.shape)),
    **CELL_FORMULAS,
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(COMPARISONS, _comparison),
    "where": _where,
    **dict.fromkeys(POOLS, pool),
    **dict.fromkeys(REDUCTIONS, reduction),
}
"""What each of ``sqc.schedules.axes.KINDS`` computes. At most one step of a chain may have loops of its own."""


def schedule_chain(chain: Chain, target: Target) -> Function:
    """The scheduled function of a chain."""
    quads = [_read_as_words(chain, *type) for type in chain.inputs]
    inputs = [
        te.placeholder(shape[:-1] if quad else shape or (1,), "uint32" if quad else dtype, name=f"x{i}")
        for i, ((shape, dtype), quad) in enumerate(zip(chain.inputs, quads, strict=True))
    ]
    integers = te.placeholder((max(1, sum(step.integers for step in chain.steps)),), "int32", name="integers")
    scales = te.placeholder((max(1, sum(step.scales for step in chain.steps)),), "float32", name="scales")
    views = [
        _bytes_of_words(tensor) if quad else View(shape, dtype, _reader(tensor, shape))
        for tensor, (shape, dtype), quad in zip(inputs, chain.inputs, quads, strict=True)
    ]
    for step, numbers in zip(chain.steps, Numbers.each(chain.steps, integers, scales), strict=True):
        views.append(FORMULAS[step.kind](step, [views[source] for source in step.sources], numbers))
    out = _words_of_bytes(views[-1]) if _write_as_words(chain) else _compute(views[-1])
    arguments = [*inputs]
    if any(step.integers for step in chain.steps):
        arguments.append(integers)
    if any(step.scales for step in chain.steps):
        arguments.append(scales)
    schedule = Schedule(function([*arguments, out]))
    if any(has_loops(step) for step in chain.steps):
        return schedule_reduction(schedule, cycles(chain))
    cuts = boundaries(chain, -2 if _write_as_words(chain) else -1)
    return schedule_elements(schedule, cuts, _lanes(chain, target), parallel=cycles(chain) >= PARALLEL_CYCLES)


def _lanes(chain: Chain, target: Target) -> int:
    """How many neighbouring results are computed at once."""
    if _write_as_words(chain):
        return 16
    if target.vector_bytes == 64 and any(step.kind == "requantize" and step["moderate"] for step in chain.steps):
        return PACKED
    return 32 if all(dtype == "uint8" for _, dtype in chain.types) else 16


def _reader(tensor: Tensor, shape: Shape) -> Callable[[Index], Expr]:
    return lambda index: tensor(*(index if shape else [0]))


def _compute(view: View) -> Tensor:
    if not view.shape:
        return te.compute((1,), lambda _: view.read(()), name="out")
    return te.compute(view.shape, lambda *index: view.read(index), name="out")


def _moves(chain: Chain) -> bool:
    return not all(step.kind in ELEMENTWISE for step in chain.steps)


def _write_as_words(chain: Chain) -> bool:
    """Whether four neighbouring bytes (the channels of a pixel) are written as one word, in vectors over pixels."""
    shape = chain.result.shape
    return chain.result.dtype == "uint8" and len(shape) > 1 and shape[-1] == 4 and _moves(chain)


def _read_as_words(chain: Chain, shape: Shape, dtype: str) -> bool:
    return dtype == "uint8" and len(shape) > 1 and shape[-1] == 4 and _moves(chain)


def _words_of_bytes(view: View) -> Tensor:
    def word(*index: Expr) -> Expr:
        parts = [view.read((*index, byte)).astype("uint32") << (8 * byte) for byte in range(4)]
        return parts[0] | parts[1] | parts[2] | parts[3]

    return te.compute(view.shape[:-1], word, name="out")


def _bytes_of_words(tensor: Tensor) -> View:
    def read(index: Index) -> Expr:
        # A pad asks for bytes before the first, too, behind a test; TVM must not see a negative shift there.
        shift = (index[-1] * 8) & 31
        shift = te.const(shift, "uint32") if isinstance(shift, int) else shift.astype("uint32")
        return (tensor(*index[:-1]) >> shift).astype("uint8")

    return View((*(int(extent) for extent in tensor.shape), 4), "uint8", read)


def schedule_elements(schedule: Schedule, cuts: Sequence[int], lanes: int, *, parallel: bool) -> Function:
    """Vectors along the last axis of ``out``, which is cut at ``cuts`` and, at the ends, into powers of two."""
    *outer, last = schedule.get_loops(schedule.get_sblock("out"))
    extent, axis = schedule.get(last).extent.value, schedule.get(last).loop_var.name
    rows = math.prod(schedule.get(loop).extent.value for loop in outer)
    pieces = _pieces(extent, cuts, lanes)
    if parallel and rows >= 4:
        # No more loops than it takes for a task each: what is fused is divided again for every row.
        extents = [schedule.get(loop).extent.value for loop in outer]
        count = next((i for i in range(1, len(outer)) if math.prod(extents[:i]) >= TASKS), len(outer))
        schedule.parallel(schedule.fuse(*outer[:count]))
    names = ["out"]
    if len(pieces) > 1:
        schedule.loop_partition(last, [length for length, _ in pieces[:-1]] + [None])
        schedule = loops_from_zero(schedule)
        names = [f"out_{axis}{i}" for i in range(len(pieces))]
    for name, (length, width) in zip(names, pieces, strict=True):
        loop = schedule.get_loops(schedule.get_sblock(name))[-1]
        vectors, lane = schedule.split(loop, [length // width, width])
        if width > 1:
            schedule.vectorize(lane)
        if parallel and rows < 4 and length >= 4 * width:
            schedule.parallel(vectors)
    return schedule.mod["main"]


def _pieces(extent: int, cuts: Sequence[int], lanes: int) -> list[tuple[int, int]]:
    """Lengths and vector widths that cover ``extent``."""
    edges = [0, *cuts, extent]
    pieces = []
    for start, stop in itertools.pairwise(edges):
        length, width = stop - start, lanes
        while length:
            if length >= width:
                pieces.append((length // width * width, width))
                length %= width
            width //= 2
    return pieces
