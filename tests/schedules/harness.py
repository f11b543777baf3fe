"""Cases for chains and for float kernels: one function builds them, another compares kernel and reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sqc.ir import Quantization, Value, evaluate_op
from sqc.schedules import Target, lower

from . import cases

NATIVE = Target.parse("native")


class Case(cases.Case):
    """A fused op under construction."""

    def bytes(self, shape: Sequence[int], zero_point: int = 77) -> Value:
        array = self.rng.integers(0, 256, shape).astype(np.uint8)
        return self.value(np.asarray(array), Quantization.per_tensor(0.5, zero_point))

    def floats(self, shape: Sequence[int], spread: float = 4.0) -> Value:
        return self.value(np.asarray(self.rng.normal(size=shape) * spread, np.float32))

    def sum(self, terms: Sequence[Value], multipliers: Sequence[Any], **attributes: Any) -> Value:
        """Requantize the sum of terms."""
        factors = [self.value(np.array(m, np.float32)) for m in multipliers]
        return self.emit("requantize", *terms, *factors, **{"scale": 1.0, "zero_point": 3, **attributes})


Build = Callable[[Case], Value]


def check(build: Build, *, tolerance: float | None = None) -> None:
    """The kernel equals the reference bit for bit, or within ``tolerance`` relative to the largest result."""
    case = Case()
    build(case)
    op = case.op()
    with np.errstate(all="ignore"):
        expected = np.ascontiguousarray(evaluate_op(op, [case.arrays[value] for value in op.operands]))
    actual = cases.run_kernel(lower(op, NATIVE, case.arrays), case.arrays).reshape(expected.shape)
    if tolerance is None:
        np.testing.assert_array_equal(actual.view(np.uint8), expected.view(np.uint8))
    else:
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * largest)
