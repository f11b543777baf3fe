"""Builds one op, lowers it, runs the kernel, and compares with the numpy reference."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sqc.ir import Builder, Graph, Op, Quantization, TensorType, Value
from sqc.ops import evaluate_op
from sqc.schedules import Target, lower
from sqc.schedules._tvm import jit

NATIVE = Target.parse("native")


class Case(Builder):
    """A graph under construction whose inputs come with arrays."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__("case")
        self.random = np.random.default_rng(seed)
        self.arrays: dict[Value, np.ndarray] = {}

    def give(self, array: np.ndarray, quantization: Quantization | None = None) -> Value:
        """An input that holds ``array``."""
        value = self.input(f"x{len(self.inputs)}", TensorType(array.shape, array.dtype.name, quantization))
        self.arrays[value] = np.array(array, order="C")
        return value

    def bytes(self, shape: Sequence[int], scale: float = 0.5, zero_point: int = 77) -> Value:
        array = self.random.integers(0, 256, shape).astype(np.uint8)
        return self.give(array, Quantization.per_tensor(scale, zero_point))

    def floats(self, shape: Sequence[int], spread: float = 4.0) -> Value:
        return self.give((self.random.normal(size=shape) * spread).astype(np.float32))

    def do(self, kind: str, *operands: Value, **attributes: Any) -> Value:
        return self.emit(kind, operands, attributes, name="y")

    def requantize(self, terms: Sequence[Value], multipliers: Sequence[Any], **attributes: Any) -> Value:
        factors = [self.give(np.array(m, np.float32)) for m in multipliers]
        return self.do("requantize", *terms, *factors, **{"scale": 1.0, "zero_point": 3, **attributes})

    def lookup(self, x: Value) -> Value:
        table = self.give(self.random.integers(0, 256, 256).astype(np.uint8))
        return self.do("lookup", x, table, scale=1.0, zero_point=0)

    def op(self, result: Value) -> Op:
        """What computes ``result``: the only op, or all of them as one fused op."""
        if len(self.ops) == 1:
            return self.ops[0]
        body = Graph("body", tuple(self.inputs), {"y": result}, {}, tuple(self.ops))
        return Op("fused", body.inputs, (Value("fused", result.type),), {"body": body}, "fused")


def before_hole(array: np.ndarray) -> np.ndarray:
    """A copy of ``array`` behind which memory cannot be read."""
    pages = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, pages + mmap.PAGESIZE), np.uint8)
    hole = ctypes.c_void_p(memory.ctypes.data + pages)
    assert ctypes.CDLL(None).mprotect(hole, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    copy = memory[pages - array.nbytes : pages].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def run_kernel(op: Op, arrays: dict[Value, np.ndarray], target: Target = NATIVE) -> np.ndarray:
    """The result of the kernel; it must not write outside of it."""
    kernel = lower(op, target)
    type = op.result.type
    guarded = np.full(type.bytes + 128, 0xA5, np.uint8)
    start = (-guarded.ctypes.data) % 64
    result = guarded[start : start + type.bytes].view(type.dtype).reshape(type.shape)
    operands = [*(arrays[value] for value in kernel.activations), *kernel.pack(arrays)]
    jit(kernel.scheduled, target)(*(before_hole(array) for array in operands), result)
    assert (guarded[:start] == 0xA5).all() and (guarded[start + type.bytes :] == 0xA5).all()
    return result


def check(build: Callable[[Case], Value], *, tolerance: float | None = None, seed: int = 0) -> None:
    """The kernel equals the reference bit for bit, or within ``tolerance`` relative to the largest result."""
    case = Case(seed)
    op = case.op(build(case))
    with np.errstate(all="ignore"):
        expected = evaluate_op(op, [case.arrays[value] for value in op.operands])
    actual = run_kernel(op, case.arrays)
    if tolerance is None:
        np.testing.assert_array_equal(actual.view(np.uint8), np.ascontiguousarray(expected).view(np.uint8))
    else:
        finite = expected[np.isfinite(expected)]
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(finite).max(initial=0))
