"""What an epilogue's kernel receives at run time: the activations, constants and numbers of one op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sqc.errors import CompileError
from sqc.ir import Op, Value
from sqc.ops.quantization import LIMITS
from sqc.schedules.epilogue import Dequantize, Epilogue, Lookup, Requantize, Rescale, Step, Term
from sqc.schedules.kernel import Pattern
from sqc.schedules.magnitudes import is_moderate, largest, largest_sums


@dataclass(frozen=True)
class EpilogueConstants:
    """The run-time values of an epilogue: operands of the op, and the integers of ``parameters``."""

    activations: tuple[Value, ...]
    constants: tuple[Value, ...]
    parameters: tuple[int, ...]

    def pack(self, constants: Mapping[Value, np.ndarray]) -> list[np.ndarray]:
        """The multipliers and tables, in the order of ``EpilogueInputs.constants``."""
        return [np.ascontiguousarray(constants[value]) for value in self.constants]


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
    sums = largest_sums(pattern) if anchored else 0.0
    numbers = {pattern.anchor.result: 0} if anchored else {}
    numbers.update({value: 1 + i for i, value in enumerate(activations)})
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
            moderate = is_moderate([sums if value == accumulator else largest(value) for value in terms], known)
            steps.append(Requantize(sources, dtype, moderate, full=limits == LIMITS[dtype], centered=z == 0))
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
    return structure, EpilogueConstants(outer, tuple(constants), tuple(parameters))


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
