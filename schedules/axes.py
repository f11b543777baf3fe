"""Which axes of a chain's arrays can be one: fewer and longer loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sqc.ops.elementwise import BINARY, COMPARISONS, UNARY
from sqc.ops.shapes import normalize_axes
from sqc.schedules.chain import Chain, Step
from sqc.schedules.views import Shape

ELEMENTWISE = frozenset(
    {"copy", "quantize", "dequantize", "requantize", "center", "lookup", "qmul", "qprelu", "where"}
    | {*UNARY, *BINARY, *COMPARISONS}
)
"""Kinds whose result at an index depends on their operands at that index, broadcast as in numpy."""

CELLS = frozenset({"qlstm_cell", "qlstm_hidden", "qgru_reset", "qgru_state"})
"""Steps of recurrent cells: each element depends on its own column of every gate."""

POOLS = frozenset({"max_pool", "average_pool", "qsum_pool"})
INTERPOLATIONS = frozenset({"interpolate", "qinterpolate"})
REDUCTIONS = frozenset({"reduce_mean", "qreduce_sum"})
KINDS = (
    ELEMENTWISE
    | CELLS
    | POOLS
    | INTERPOLATIONS
    | REDUCTIONS
    | {"reshape", "transpose", "slice", "gather", "pad", "concat"}
    | {"dynamic_quantize", "dynamic_dequantize", "batch_norm"}
)
"""All kinds that chains are made of."""

UNROLLED = 32
"""Pooling windows of up to so many taps are unrolled."""

PARALLEL_CYCLES = 20_000.0
"""What takes less is done by one thread."""


def vector_width(extent: int) -> int:
    """The largest divisor of ``extent`` that is no wider than a vector of sixteen."""
    return max(width for width in range(1, 17) if extent % width == 0)


def has_loops(step: Step) -> bool:
    """Whether a step becomes a stage of its own, which loops over what it reduces."""
    if step.kind in POOLS:
        return bool(math.prod(step["kernel"]) > UNROLLED)
    return step.kind in REDUCTIONS


def cycles(chain: Chain) -> float:
    """About how long one thread takes for a chain whose data lie in cache."""
    return sum(_cycles(step, [chain.types[source] for source in step.sources]) for step in chain.steps)


def _cycles(step: Step, sources: Sequence[tuple[Shape, str]]) -> float:
    size = math.prod(step.shape)
    if step.kind in POOLS:
        return 0.1 * size * float(math.prod(step["kernel"]))
    if step.kind in INTERPOLATIONS:
        return 0.4 * size * float(math.prod(shape[1] for shape, _ in sources[1::2]))
    if step.kind in REDUCTIONS:
        return 0.2 * math.prod(sources[0][0])
    if step.kind in CELLS:
        return 4.0 * size
    if step.kind in ELEMENTWISE or step.kind == "batch_norm":
        return 0.7 * size
    return 0.1 * size if step.dtype == "uint8" else 0.4 * size


def merge_axes(chain: Chain) -> Chain:
    """The same computation over arrays of as few axes as possible, of the same elements in the same order."""
    if len(chain.steps) == 1 and chain.result.kind in _MERGES:
        return _MERGES[chain.result.kind](chain)
    if chain.steps[0].kind in REDUCTIONS:
        return _merge_reduction(chain)
    if not all(map(_is_elementwise, chain.steps)):
        return chain
    result = chain.result.shape
    rank = len(result)
    types = chain.types
    # A table is no array that broadcasts.
    tables = {step.sources[1] for step in chain.steps if step.kind == "lookup"}
    aligned = [(1,) * (rank - len(shape)) + shape for shape, _ in types]
    arrays = [shape for i, shape in enumerate(aligned) if i not in tables]
    groups: list[list[int]] = []
    for axis in (axis for axis, extent in enumerate(result) if extent > 1):
        if groups and all((shape[groups[-1][-1]] == 1) == (shape[axis] == 1) for shape in arrays):
            groups[-1].append(axis)
        else:
            groups.append([axis])

    def merged(number: int) -> Shape:
        if number in tables:
            return types[number][0]
        return _products(aligned[number], groups) or (1,)

    shapes = [merged(i) for i in range(len(types))]
    return chain.declared(shapes[: len(chain.inputs)], shapes[len(chain.inputs) :])


def _is_elementwise(step: Step) -> bool:
    """Whether a step is so along whatever axis: none of its axes has parameters of its own."""
    return step.kind in ELEMENTWISE and dict(step.attributes).get("axis") is None


def _merge_concat(chain: Chain) -> Chain:
    step = chain.result
    axis = step["axis"] % len(step.shape)

    def merged(shape: Shape) -> Shape:
        return (math.prod(shape[:axis]), math.prod(shape[axis:]))

    inputs = [(merged(shape), dtype) for shape, dtype in chain.inputs]
    flat = Step(step.kind, step.sources, merged(step.shape), step.dtype, (("axis", 1),), 0, 0)
    return Chain(tuple(inputs), (flat,))


def _merge_gather(chain: Chain) -> Chain:
    step, ((shape, dtype), (indices, integers)) = chain.result, chain.inputs
    axis = step["axis"] % len(shape)
    before, count, behind = math.prod(shape[:axis]), math.prod(indices), math.prod(shape[axis + 1 :])
    flat = Step("gather", step.sources, (before, count, behind), step.dtype, (("axis", 1),), 0, 0)
    return Chain((((before, shape[axis], behind), dtype), ((count,), integers)), (flat,))


def _merge_slice(chain: Chain) -> Chain:
    step, ((shape, dtype),) = chain.result, chain.inputs
    rank = len(shape)
    starts, strides = [0] * rank, [1] * rank
    for axis, start, stride in zip(step["axes"], step["starts"], step["steps"], strict=True):
        starts[axis], strides[axis] = start, stride
    changed = [i for i in range(rank) if shape[i] != step.shape[i] or strides[i] != 1]
    groups = _whole(rank, changed, [strides[i] == 1 for i in range(rank)])
    inner = _products(shape, [group[1:] for group in groups])
    attributes = (
        ("axes", tuple(range(len(groups)))),
        ("starts", tuple(starts[group[0]] * count for group, count in zip(groups, inner, strict=True))),
        ("steps", tuple(strides[group[0]] for group in groups)),
    )
    flat = Step("slice", step.sources, _products(step.shape, groups), step.dtype, attributes, 0, 0)
    return Chain(((_products(shape, groups), dtype),), (flat,))


def _merge_pad(chain: Chain) -> Chain:
    step, ((shape, dtype),) = chain.result, chain.inputs
    rank, pads = len(shape), step["pads"]
    groups = _whole(rank, [i for i in range(rank) if pads[i] or pads[rank + i]], [True] * rank)
    inner = _products(shape, [group[1:] for group in groups])
    wide = (pads[i + group[0]] * count for i in (0, rank) for group, count in zip(groups, inner, strict=True))
    flat = replace(step, shape=_products(step.shape, groups), attributes=(("pads", tuple(wide)),))
    return Chain(((_products(shape, groups), dtype),), (flat,))


def _products(extents: Sequence[int], groups: Sequence[Sequence[int]]) -> Shape:
    """The extents of an array whose axes become one in each of ``groups``."""
    return tuple(math.prod(extents[axis] for axis in group) for group in groups)


def _whole(rank: int, changed: Sequence[int], joins: Sequence[bool]) -> list[list[int]]:
    """Axes in groups, each of them one that is ``changed`` (or none) and those behind it that are taken whole.

    One that is changed takes in what is behind it if it ``joins``.
    """
    groups: list[list[int]] = [[0]] if rank else []
    for axis in range(1, rank):
        last = groups[-1][0]
        if axis in changed or (last in changed and not joins[last]):
            groups.append([axis])
        else:
            groups[-1].append(axis)
    return groups


_MERGES = {"concat": _merge_concat, "gather": _merge_gather, "slice": _merge_slice, "pad": _merge_pad}
"""How axes merge where one of these kinds is all of a chain."""


def _merge_reduction(chain: Chain) -> Chain:
    """Neighbouring axes that the first step reduces become one, if only elementwise steps follow."""
    step, *rest = chain.steps
    shape = chain.inputs[0][0]
    axes = normalize_axes(step["axes"], len(shape))
    if not axes or axes != tuple(range(axes[0], axes[-1] + 1)) or not all(map(_is_elementwise, rest)):
        return chain
    x = (*shape[: axes[0]], math.prod(shape[axis] for axis in axes), *shape[axes[-1] + 1 :])
    dropped = {axis - len(shape) for axis in axes[1:]} if step["keepdims"] else set()

    def merged(shape: Shape) -> Shape:
        """Of an array that broadcasts against the result."""
        return tuple(extent for i, extent in enumerate(shape) if i - len(shape) not in dropped)

    tables = {other.sources[1] for other in rest if other.kind == "lookup"}
    attributes = tuple((name, (axes[0],) if name == "axes" else value) for name, value in step.attributes)
    first = replace(step, attributes=attributes)
    shapes = [shape if i in tables else merged(shape) for i, (shape, _) in enumerate(chain.types)]
    count = len(chain.inputs)
    return replace(chain, steps=(first, *rest)).declared([x, *shapes[1:count]], shapes[count:])


def boundaries(chain: Chain, axis: int = -1) -> tuple[int, ...]:
    """Where along an axis of the result, counted from the last, the code changes: the seams of concatenations and the
    edges of padding."""
    types = chain.types
    cuts: list[set[int]] = [set() for _ in chain.inputs]
    for step in chain.steps:
        shapes = [types[source][0] for source in step.sources]
        cuts.append(_own_boundaries(step, shapes, [cuts[source] for source in step.sources], axis))
    return tuple(sorted(cut for cut in cuts[-1] if 0 < cut < chain.result.shape[axis]))


def _own_boundaries(step: Step, shapes: Sequence[Shape], sources: Sequence[set[int]], axis: int) -> set[int]:
    place = len(step.shape) + axis
    if step.kind in ELEMENTWISE or step.kind == "dynamic_quantize":
        return {cut for cuts in sources for cut in cuts}
    if step.kind == "concat":
        if step["axis"] % len(step.shape) != place:
            return {cut for cuts in sources for cut in cuts}
        starts = [sum(shape[axis] for shape in shapes[:i]) for i in range(len(shapes))]
        inner = {cut + start for cuts, start in zip(sources, starts, strict=True) for cut in cuts}
        return inner | set(starts)
    if step.kind == "pad":
        before = step["pads"][place]
        return {cut + before for cut in sources[0]} | {before, before + shapes[0][axis]}
    if step.kind == "slice":
        if place not in step["axes"]:
            return sources[0]
        position = step["axes"].index(place)
        start = step["starts"][position]
        return {cut - start for cut in sources[0]} if step["steps"][position] == 1 else set()
    if step.kind == "transpose" and step["perm"][place] == place:
        return sources[0]
    if step.kind == "reshape" and axis == -1 and shapes[0][-1:] == step.shape[-1:] != ():
        return sources[0]
    return set()
