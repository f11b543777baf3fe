"""Chains: ops without inner loops (or with one reduction in front), computed in one pass over the result.

A :class:`Chain` is the structure of an op or of a fused body: what determines the code. Scales, zero points, limits and
padding values are arguments of the kernel, which :class:`Numbers` hands out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.ops.interpolate import interpolation_reach
from sqc.ops.quantization import LIMITS
from sqc.ops.recurrent import hidden_multiplier
from sqc.schedules.kernel import Kernel
from sqc.schedules.levels import divisor, level_limits
from sqc.schedules.magnitudes import is_moderate, largest
from sqc.schedules.target import Target
from sqc.schedules.views import Shape

if TYPE_CHECKING:
    from sqc.schedules._tvm import Expr, Function, Tensor

_RUN_TIME = frozenset({"scale", "zero_point", "lo", "hi", "dtype", "value"})


_BINDING = frozenset({"quantize", "qprelu"})
"""Kinds whose levels hold bindings, which may stand in the index of one read alone."""

_ACTIVATIONS = {
    **dict.fromkeys(("lookup", "dequantize", "batch_norm", "qprelu"), 1),
    **dict.fromkeys(("qlstm_cell", "qlstm_hidden", "qgru_reset"), 3),
    **dict.fromkeys(("dynamic_dequantize", "center"), 2),
    "qgru_state": 4,
}
"""Kinds whose further operands are constants."""


@dataclass(frozen=True)
class Step:
    """One op of a chain. ``sources`` number the chain's inputs, then the results of its steps.

    ``integers`` and ``scales`` tell how many numbers of each type it takes at run time.
    """

    kind: str
    sources: tuple[int, ...]
    shape: Shape
    dtype: str
    attributes: tuple[tuple[str, Any], ...]
    integers: int
    scales: int

    def __getitem__(self, name: str) -> Any:
        """An attribute."""
        return dict(self.attributes)[name]


@dataclass(frozen=True)
class Chain:
    """``inputs`` (shape and element type of each operand) and the steps; the last step is the result."""

    inputs: tuple[tuple[Shape, str], ...]
    steps: tuple[Step, ...]

    @property
    def result(self) -> Step:
        return self.steps[-1]

    @property
    def types(self) -> list[tuple[Shape, str]]:
        """Shapes and element types of all sources: inputs, then steps."""
        return [*self.inputs, *((step.shape, step.dtype) for step in self.steps)]

    def schedule(self, target: Target) -> Function:
        from sqc.schedules.injective import schedule_chain

        return schedule_chain(self, target)

    def declared(self, inputs: Sequence[Shape], shapes: Sequence[Shape]) -> Chain:
        """The same chain over arrays of other shapes."""
        steps = (replace(step, shape=shape) for step, shape in zip(self.steps, shapes, strict=True))
        return Chain(tuple((shape, dtype) for shape, (_, dtype) in zip(inputs, self.inputs, strict=True)), tuple(steps))


@dataclass(frozen=True)
class Numbers:
    """The run-time numbers of one step."""

    integer_tensor: Tensor
    scale_tensor: Tensor
    first_integer: int
    first_scale: int

    def integer(self, i: Expr) -> Expr:
        return self.integer_tensor(self.first_integer + i)

    def scale(self, i: Expr) -> Expr:
        return self.scale_tensor(self.first_scale + i)

    @staticmethod
    def each(steps: Iterable[Step], integers: Tensor, scales: Tensor) -> Iterator[Numbers]:
        """The numbers of each step in turn."""
        first_integer = first_scale = 0
        for step in steps:
            yield Numbers(integers, scales, first_integer, first_scale)
            first_integer += step.integers
            first_scale += step.scales


def chain_of(
    op: Op, known: Mapping[Value, np.ndarray]
) -> tuple[Chain, list[Value], list[Value], list[int], list[float]]:
    """The chain of an op or of a fused body: structure, activations, constants, integers, scales.

    The chain's inputs are the activations, then the constants (operands that are constants by their place, such as
    multipliers and tables). ``known`` holds those operands that are known already.
    """
    ops, inputs = ([op], op.operands) if op.kind != "fused" else (op.body.ops, op.body.inputs)
    outer = dict(zip(inputs, op.operands, strict=True))
    by_place = {value for part in ops for value in part.operands[_activation_count(part) :]}
    inputs = tuple(dict.fromkeys(inputs))
    order = [value for value in inputs if value not in by_place] + [value for value in inputs if value in by_place]
    position = {value: i for i, value in enumerate(order)}
    steps: list[Step] = []
    integers: list[int] = []
    scales: list[float] = []
    for part in ops:
        own_integers, own_scales = _run_time_numbers(part)
        integers += own_integers
        scales += own_scales
        kept: tuple[tuple[str, Any], ...] = tuple(
            (name, value) for name, value in part.attributes.items() if name not in _RUN_TIME
        )
        quantization = part.operands[0].type.quantization
        if part.kind == "dequantize" and quantization is not None:
            kept = (("axis", quantization.axis),)
        if part.kind == "quantize":
            kept = (("reciprocal", len(own_scales) > 1),)
        arrays = [known.get(outer.get(value, value)) for value in part.operands]
        if part.kind == "requantize":
            kept = _clamping(part, arrays)
        if part.kind == "qinterpolate":
            kept = (*kept, ("narrow", _is_narrow(arrays[2::2])))
        sources = tuple(position[value] for value in part.operands)
        type = part.result.type
        steps.append(Step(part.kind, sources, type.shape, type.dtype, kept, len(own_integers), len(own_scales)))
        position[part.result] = len(order) + len(steps) - 1
    chain = Chain(tuple((value.type.shape, value.type.dtype) for value in order), tuple(steps))
    activations = [outer[value] for value in order if value not in by_place]
    constants = [outer[value] for value in order if value in by_place]
    return chain, activations, constants, integers, scales


def lower_chain(op: Op, target: Target, known: Mapping[Value, np.ndarray]) -> Kernel:
    """A kernel for an op or a fused body of which :mod:`sqc.schedules.injective` knows every kind.

    ``known`` holds those operands that are known already.

    Raises CompileError for empty arrays, for a body with more than one reduction, and for tables of tables behind a
    kind whose levels hold bindings.
    """
    from sqc.schedules.axes import has_loops, merge_axes

    chain, activations, constants, integers, scales = chain_of(op, known)
    if any(0 in shape for shape, _ in chain.types):
        raise CompileError(f"{op.label()} works on an empty array; no kernel computes nothing")
    if sum(has_loops(step) for step in chain.steps) > 1:
        raise CompileError(f"{op.label()} holds two reductions, but a kernel computes one; split it between them")

    kinds = [step.kind for step in chain.steps]
    if kinds.count("lookup") > 1 and not _BINDING.isdisjoint(kinds):
        raise CompileError(f"{op.label()} looks up bound levels in tables of tables; split it between these")

    def pack(arrays: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        packed = [np.ascontiguousarray(arrays[value]) for value in constants]
        if integers:
            packed.append(np.array(integers, np.int32))
        if scales:
            packed.append(np.array(scales, np.float32))
        return packed

    return Kernel(merge_axes(chain), target, tuple(activations), op.result, pack)


def _clamping(op: Op, known: Sequence[np.ndarray | None]) -> tuple[tuple[str, Any], ...]:
    """How a requantize clamps; ``moderate`` and ``full`` are those of :class:`sqc.schedules.epilogue.Requantize`."""
    count = len(op.operands) // 2
    moderate = is_moderate([largest(value) for value in op.operands[:count]], known[count:])
    limits = op.integer("lo"), op.integer("hi")
    return ("moderate", moderate), ("full", moderate and limits == LIMITS[op.string("dtype")])


def _is_narrow(weights: Sequence[np.ndarray | None]) -> bool:
    """Whether sums of levels with these weights fit into sixteen bits."""
    arrays = [array for array in weights if array is not None]
    return len(arrays) == len(weights) and interpolation_reach(arrays) < 2**15


def _activation_count(op: Op) -> int:
    """How many operands come before those that are constants of the graph."""
    if op.kind == "requantize":
        return len(op.operands) // 2
    return _ACTIVATIONS.get(op.kind, len(op.operands))


def _clamped_divisor(scale: float, low: int, high: int) -> list[float]:
    """The numbers of :func:`divisor`; behind a reciprocal what the least and the largest level, less the zero point,
    stand for."""
    numbers = divisor(scale)
    return [*numbers, low * scale, high * scale] if len(numbers) > 1 else numbers


def _run_time_numbers(op: Op) -> tuple[list[int], list[float]]:
    if op.kind == "quantize":
        z = op.integer("zero_point")
        low, high = LIMITS[op.string("dtype")]
        return [z, low - z, high - z], _clamped_divisor(op.number("scale"), low - z, high - z)
    if op.kind == "dequantize" and len(op.operands) == 1:
        quantization = op.operands[0].type.quantization
        assert quantization is not None
        return list(quantization.zero_point), list(quantization.scale)
    if op.kind == "requantize":
        zeros = [value.type.zero_point for value in op.operands[: len(op.operands) // 2]]
        return [*level_limits(op).tolist(), *zeros], []
    if op.kind in ("qmul", "qsum_pool", "qreduce_sum"):
        return [value.type.zero_point for value in op.operands], []
    if op.kind == "qprelu":
        return [*level_limits(op).tolist(), op.operands[0].type.zero_point], []
    if op.kind == "qinterpolate":
        return [op.operands[0].type.zero_point], []
    if op.kind == "qlstm_hidden":
        z = op.integer("zero_point")
        return [z, -z, 255 - z], [hidden_multiplier(op.number("scale"))]
    if op.kind == "qgru_reset":
        return [op.result.type.zero_point], []
    if op.kind == "pad":
        value = op.number("value")
        return ([], [value]) if op.result.type.dtype == "float32" else ([int(value)], [])
    return [], []
