"""A kernel: what code generation needs to know about the function that computes one op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from sqc.ir import Op, Value
from sqc.schedules.target import Target

if TYPE_CHECKING:
    from sqc.schedules._tvm import Function
    from sqc.schedules.margins import Margins
    from sqc.schedules.microkernel import Tile


class Problem(Protocol):
    """A frozen dataclass of everything that determines a kernel's code; its ``repr`` identifies the code."""

    def schedule(self, target: Target) -> Function:
        """The scheduled function. Its parameters are the kernel's arguments, in order."""
        ...


@runtime_checkable
class Tunable(Problem, Protocol):
    """A problem whose schedule leaves a tile open."""

    def tiles(self, target: Target) -> list[Tile]:
        """Every tile that may be scheduled, the model's choice first, then by its estimate."""
        ...

    def schedule(self, target: Target, tile: Tile | None = None) -> Function:
        """The scheduled function with ``tile``, or with the model's choice."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Kernel:
    """One op, or fused op, lowered for a target.

    The kernel's arguments are raw pointers, in this order: ``activations`` (operands, dense, in the layout of their
    types; one of them may be a constant of the graph), the arrays that ``pack`` returns, the ``result``. A kernel
    reads and writes no byte outside of them. Kernels of equal ``key`` have the same code and differ in constants only.
    """

    problem: Problem
    target: Target
    activations: tuple[Value, ...]
    result: Value
    pack: Callable[[Mapping[Value, np.ndarray]], list[np.ndarray]]
    """From the graph's constants to the kernel's own."""
    tile: Tile | None = None
    """How a :class:`Tunable` problem is cut."""
    margins: Margins | None = None
    """What the ``result`` has around the images that the problem computes."""

    @property
    def workload(self) -> str:
        """Equal for kernels that may differ in their tiles only: what tuning records go by."""
        return f"{self.target.name}: {self.problem!r}"

    @property
    def key(self) -> str:
        """Equal for kernels of equal code."""
        choices = (choice for choice in (self.tile, self.margins) if choice is not None)
        return " ".join([self.workload, *map(repr, choices)])

    @cached_property
    def scheduled(self) -> Function:
        """The scheduled TensorIR; made when first asked for."""
        if isinstance(self.problem, Tunable):
            func = self.problem.schedule(self.target, self.tile)
        else:
            func = self.problem.schedule(self.target)
        return self.margins.around(func) if self.margins else func

    def object(self, symbol: str) -> bytes:
        """A relocatable object that exports the kernel as ``__tvm_ffi_<symbol>``."""
        from sqc.schedules._tvm import compile_object

        return compile_object(self.scheduled, symbol, self.target)


@dataclass(frozen=True)
class Pattern:
    """A fused op, or a bare one, taken apart: an anchor and the chain of ops after it.

    ``operand`` maps the values that the parts read from outside to the op's operands. ``constants`` holds the arrays
    of those operands that are known already.
    """

    anchor: Op
    tail: tuple[Op, ...]
    operand: Mapping[Value, Value]
    result: Value
    constants: Mapping[Value, np.ndarray]

    @staticmethod
    def of(op: Op, constants: Mapping[Value, np.ndarray]) -> Pattern:
        if op.kind != "fused":
            return Pattern(op, (), {value: value for value in op.operands}, op.result, constants)
        body = op.body
        operand = dict(zip(body.inputs, op.operands, strict=True))
        return Pattern(body.ops[0], body.ops[1:], operand, op.result, constants)

    @property
    def pad(self) -> Op | None:
        """The padding around the results of a convolution, if it comes last."""
        last = self.tail[-1] if self.tail else self.anchor
        return last if self.anchor.kind == "qconv2d" and last.kind == "pad" else None

    def without_pad(self) -> Pattern:
        """The pattern up to the op before the last."""
        return replace(self, tail=self.tail[:-1], result=self.tail[-1].operands[0])
