"""What is tuned: one op with its constants, and data to run it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.ir import Op, TensorType, Value, evaluate_op
from sqc.schedules import Kernel, Target, Tunable, lower

if TYPE_CHECKING:
    from sqc.schedules.microkernel import Tile


@dataclass(frozen=True, eq=False)
class Task:
    """An op whose kernel is :class:`~sqc.schedules.Tunable`; ``constants`` holds its constant operands.

    ``stand_ins`` are for constant operands of which only the type is known: data to measure with, on whose size the
    kernel may not rely.
    """

    op: Op
    constants: Mapping[Value, np.ndarray]
    target: Target
    stand_ins: Mapping[Value, np.ndarray] = field(default_factory=dict)

    @property
    def workload(self) -> str:
        return self._kernel.workload

    @cached_property
    def tiles(self) -> list[Tile]:
        """All admissible tiles, the model's choice first."""
        problem = self._kernel.problem
        assert isinstance(problem, Tunable)
        return problem.tiles(self.target)

    @cached_property
    def _kernel(self) -> Kernel:
        return lower(self.op, self.target, self.constants)

    def kernel(self, tile: Tile) -> Kernel:
        """The kernel with an admissible tile."""
        return lower(self.op, self.target, self.constants, {self.workload: tile})

    @property
    def packed(self) -> dict[Value, np.ndarray]:
        """All constant operands."""
        return {**self.stand_ins, **self.constants}

    def inputs(self, seed: int) -> dict[Value, np.ndarray]:
        """An array for every operand that is no constant: random for even seeds, random extremes for odd ones."""
        rng = np.random.default_rng(seed)
        operands = [value for value in dict.fromkeys(self.op.operands) if value not in self.packed]
        return {value: _random(value.type, rng, extremes=seed % 2 == 1) for value in operands}

    def reference(self, inputs: Mapping[Value, np.ndarray]) -> np.ndarray:
        """What the op gives by definition."""
        arrays = {**self.packed, **inputs}
        return evaluate_op(self.op, [arrays[value] for value in self.op.operands])

    def __getstate__(self) -> dict[str, Any]:
        # Kernels hold closures.
        return {"op": self.op, "constants": self.constants, "target": self.target, "stand_ins": self.stand_ins}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _random(type: TensorType, rng: np.random.Generator, *, extremes: bool) -> np.ndarray:
    dtype = np.dtype(type.dtype)
    if dtype.kind == "f":
        return rng.normal(size=type.shape).astype(dtype)
    limits = np.iinfo(dtype)
    if extremes:
        return rng.choice(np.array([limits.min, limits.max], dtype), type.shape)
    return rng.integers(limits.min, limits.max, type.shape, dtype, endpoint=True)


def random_constants(op: Op, target: Target) -> dict[Value, np.ndarray]:
    """Constants of usual magnitude for every operand that the op's kernel takes packed."""
    rng = np.random.default_rng(0)
    activations = lower(op, target).activations
    values = [value for value in dict.fromkeys(op.operands) if value not in activations]
    return {value: _random_constant(value.type, rng) for value in values}


def _random_constant(type: TensorType, rng: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(type.dtype)
    if dtype.kind == "f":
        return rng.uniform(1e-3, 1e-2, type.shape).astype(dtype)
    if dtype.itemsize > 1:
        return rng.integers(-5000, 5001, type.shape).astype(dtype)
    array = _random(type, rng, extremes=False)
    return array.clip(-127, None) if dtype.kind == "i" else array
