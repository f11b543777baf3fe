"""Building fused ops with random constants, and running their kernels against the reference."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

from sqc.ir import Graph, Op, TensorType, Value, evaluate, infer_type
from sqc.ir.registry import complete_attributes
from sqc.ir.types import Quantization
from sqc.schedules import Kernel, Target, lower
from sqc.schedules._tvm import jit


class Case:
    """A fused op under construction; values are random arrays."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.arrays: dict[Value, np.ndarray] = {}
        self.ops: list[Op] = []
        self.types: list[TensorType] = []

    def value(self, array: np.ndarray, quantization: Quantization | None = None) -> Value:
        value = Value(f"v{len(self.arrays)}", TensorType(array.shape, array.dtype.name, quantization))
        self.arrays[value] = array
        return value

    def u8(self, *shape: int, zero_point: int | None = None) -> Value:
        zero_point = int(self.rng.integers(0, 256)) if zero_point is None else zero_point
        return self.value(self.rng.integers(0, 256, shape).astype(np.uint8), Quantization.per_tensor(0.125, zero_point))

    def s8(self, *shape: int) -> Value:
        return self.value(self.rng.integers(-127, 128, shape).astype(np.int8))

    def s4(self, *shape: int) -> Value:
        """Weights that four bits hold, among them the least and the largest."""
        return self.value(self.rng.integers(-8, 8, shape).astype(np.int8))

    def bias(self, n: int) -> Value:
        return self.value(self.rng.integers(-5000, 5000, n).astype(np.int32))

    def multiplier(self, scale: float, *shape: int) -> Value:
        return self.value((np.float32(scale) * self.rng.uniform(0.5, 1.5, shape)).astype(np.float32))

    def emit(self, kind: str, *operands: Value, **attributes: Any) -> Value:
        complete = complete_attributes(kind, attributes)
        type = infer_type(kind, [value.type for value in operands], complete)
        result = Value(f"r{len(self.ops)}", type)
        self.ops.append(Op(kind, operands, (result,), complete))
        return result

    def requantize(self, acc: Value, deviation: float, *residuals: Value, **attributes: Any) -> Value:
        """Requantize ``acc``, whose standard deviation is about ``deviation``, plus u8 residuals."""
        channels = acc.type.shape[-1]
        multipliers = [self.multiplier(60 / deviation, *(channels,) if acc.type.dtype == "int32" else ())]
        multipliers += [self.multiplier(0.5) for _ in residuals]
        zero_point = int(self.rng.integers(0, 256))
        return self.emit(
            "requantize", acc, *residuals, *multipliers, **{"scale": 0.125, "zero_point": zero_point, **attributes}
        )

    def lookup(self, x: Value) -> Value:
        table = self.value(self.rng.integers(0, 256, 256).astype(np.uint8))
        return self.emit("lookup", x, table, scale=0.125, zero_point=3)

    def op(self) -> Op:
        if len(self.ops) == 1:
            return self.ops[0]
        inputs = tuple(self.arrays)
        result = self.ops[-1].result
        body = Graph("body", inputs, {result.name: result}, {}, tuple(self.ops))
        # Other values than the body's, as in a graph.
        outer = {value: Value("o_" + value.name, value.type) for value in inputs}
        self.arrays.update({outer[value]: self.arrays[value] for value in inputs})
        out = Value("out", result.type)
        return Op("fused", tuple(outer.values()), (out,), {"body": body})


def guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy whose first or last byte borders on a page that must not be touched; mostly misaligned."""
    page = mmap.PAGESIZE
    inner = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, inner + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (start, start + page + inner):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page + inner - array.nbytes if at_end else page
    view = np.frombuffer(memory, np.uint8, array.nbytes, offset).view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def run_kernel(kernel: Kernel, arrays: dict[Value, np.ndarray]) -> np.ndarray:
    """Run a kernel in this process. What it reads or writes outside of its arguments ends the process."""
    type = kernel.result.type
    function = jit(kernel.scheduled, kernel.target)
    inputs = [arrays[value] for value in kernel.activations] + kernel.pack(arrays)
    results = []
    for at_end in (True, False):
        result = guarded(np.full(type.shape, 0x5A, type.dtype), at_end)
        function(*(guarded(array, at_end) for array in inputs), result)
        results.append(result)
    np.testing.assert_array_equal(results[0], results[1])
    return results[0]


def check(case: Case, target: str) -> Kernel:
    """Assert that the kernel of a case gives the reference's bits."""
    op = case.op()
    kernel = lower(op, Target.parse(target), case.arrays)
    actual = run_kernel(kernel, case.arrays)
    graph = Graph("g", op.operands, {"y": op.result}, {}, (op,))
    expected = evaluate(graph, {value.name: case.arrays[value] for value in op.operands})["y"]
    np.testing.assert_array_equal(actual, expected)
    return kernel
