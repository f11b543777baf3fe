"""What an epilogue's kernel receives at run time: the activations, constants and numbers of one op."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.ops.quantization import LIMITS
from sqc.schedules.affine import Affine, Levels, fit
from sqc.schedules.epilogue import Dequantize, Epilogue, Lookup, Requantize, Rescale, Step, Term
from sqc.schedules.kernel import Pattern
from sqc.schedules.magnitudes import is_moderate, largest, largest_sums, sum_limits
from sqc.schedules.microkernel import pack_bias

MOST_PRODUCTS = 256
"""Of longer sums the conversion that an affine requantize saves is too small a part to search starts for."""


@dataclass(frozen=True)
class EpilogueConstants:
    """The run-time values of an epilogue: operands of the op, and the integers of ``parameters``."""

    activations: tuple[Value, ...]
    constants: tuple[Value, ...]
    parameters: tuple[int, ...]
    affine: Affine | None = None

    def pack(self, constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        """The multipliers and tables, in the order of ``EpilogueInputs.constants``."""
        arrays = [np.ascontiguousarray(constants[value]) for value in self.constants]
        return [self.affine.multipliers, self.affine.offsets, *arrays[1:]] if self.affine else arrays

    def behind_weights(self, constants: Mapping[Value, np.ndarray], bias: Value, *first: int) -> list[np.ndarray]:
        """What a kernel gets after its weights: starts of the sums, the epilogue's constants, and all parameters, of
        which ``first`` are the kernel's own.
        """
        parameters = np.array((*first, *self.parameters) or (0,), np.int32)
        return [pack_bias(self.starts(constants[bias])), *self.pack(constants), parameters]

    def starts(self, bias: np.ndarray) -> np.ndarray:
        """What the sums of the channels start from, s32[O], for a bias of the reference."""
        return (bias + self.affine.starts).astype(np.int32) if self.affine else bias


def epilogue_of(pattern: Pattern, *, anchored: bool = True) -> tuple[Epilogue, EpilogueConstants]:
    """The epilogue of a pattern. Without ``anchored`` the anchor itself is the first step (a bare requantize).

    Raises CompileError for an op that no epilogue can hold.
    """
    ops = pattern.tail if anchored else (pattern.anchor, *pattern.tail)
    internal = {op.result for op in ops} | ({pattern.anchor.result} if anchored else set())
    activations: list[Value] = []
    for op in ops:
        for value in _terms(op):
            if value not in internal and value not in activations:
                activations.append(value)
    accumulator = pattern.anchor.result if anchored else None
    known_sums = sum_limits(pattern) if anchored else None
    numbers = {pattern.anchor.result: 0} if anchored else {}
    numbers.update({value: 1 + i for i, value in enumerate(activations)})
    affine = fitted(pattern, ops, *known_sums) if known_sums else None
    steps: list[Step] = []
    constants: list[Value] = []
    parameters: list[int] = []
    for op in ops:
        terms = _terms(op)
        others = op.operands[len(terms) :]
        constants.extend(pattern.operand[value] for value in others)
        if op.kind == "lookup":
            steps.append(Lookup(numbers[terms[0]]))
        elif op.kind == "dequantize":
            steps.append(Dequantize(numbers[terms[0]], others[0].type.shape))
        elif op.kind == "dynamic_dequantize":
            steps.append(Rescale(numbers[terms[0]], numbers[terms[1]], len(others) == 3))
        else:
            summands = zip(terms, others, strict=True)
            sources = tuple(
                Term(numbers[value], value.type.dtype, m.type.shape, value.type.zero_point == 0)
                for value, m in summands
            )
            dtype, z = op.string("dtype"), op.integer("zero_point")
            limits = op.integer("lo"), op.integer("hi")
            known = [pattern.constants.get(pattern.operand[value]) for value in others]
            magnitudes = [
                largest_sums(known_sums) if known_sums and value == accumulator else largest(value) for value in terms
            ]
            moderate = is_moderate(magnitudes, known)
            step = Requantize(sources, dtype, moderate, full=limits == LIMITS[dtype], centered=z == 0)
            if affine and accumulator in terms:
                channels = affine.multipliers.shape
                step = replace(step, terms=(replace(sources[0], multiplier=channels),), affine=True)
            steps.append(step)
            parameters += [z, *(limits if moderate else [float_bits(limit - z) for limit in limits])]
            parameters += [value.type.zero_point for value in terms]
        numbers[op.result] = 1 + len(activations) + len(steps) - 1
    structure = Epilogue(
        pattern.result.type.shape,
        pattern.result.type.dtype,
        tuple((value.type.shape, value.type.dtype) for value in activations),
        tuple(steps),
    )
    outer = tuple(pattern.operand[value] for value in activations)
    return structure, EpilogueConstants(outer, tuple(constants), tuple(parameters), affine)


def fitted(pattern: Pattern, ops: Sequence[Op], least: np.ndarray, most: np.ndarray) -> Affine | None:
    """What multiplies the accumulators, from ``least`` to ``most`` of each channel, by one FMA.

    None if they aren't requantized alone, or it wouldn't be exact.
    """
    readers = [op for op in ops if pattern.anchor.result in op.operands]
    if len(readers) != 1 or readers[0] is not ops[0] or ops[0].kind != "requantize" or len(ops[0].operands) != 2:
        return None
    multiplier = pattern.constants.get(pattern.operand[ops[0].operands[1]])
    weights = pattern.anchor.operands[1].type.shape
    if multiplier is None or multiplier.ndim > 1 or math.prod(weights[1:]) > MOST_PRODUCTS:
        return None
    if not is_moderate([largest_sums((least, most))], [multiplier]):
        return None
    z = ops[0].integer("zero_point")
    ends = (ops[0].integer(name) - z for name in ("lo", "hi"))
    return fit(least, most, Levels(np.broadcast_to(multiplier, weights[:1]), *ends))


def float_bits(value: int) -> int:
    """The bits of ``float32(value)`` as an s32, as parameters hold the limits of a clamp."""
    return int(np.float32(value).view(np.int32))


def _terms(op: Op) -> tuple[Value, ...]:
    if op.kind == "requantize":
        return op.operands[: len(op.operands) // 2]
    if op.kind == "lookup" or (op.kind == "dequantize" and len(op.operands) == 2):
        return op.operands[:1]
    if op.kind == "dynamic_dequantize":
        return op.operands[:2]
    raise CompileError(f"{op.label()} cannot follow an anchor in one kernel; split the fused op before it")
