"""One operator as a kernel: lowered, callable on numpy arrays, saved as a library, shown as scheduled TensorIR."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.codegen.build import Build, symbol
from sqc.codegen.describe import describe
from sqc.codegen.library import build_library
from sqc.codegen.plan import Argument, Plan, Program, Step, Tensor
from sqc.errors import CompileError, InputError
from sqc.ir import Builder, Op, TensorType, Value, type_of
from sqc.runtime import Model, load_bytes
from sqc.runtime.container import write_atomically
from sqc.schedules import Kernel, Target
from sqc.schedules import lower as lower_op

if TYPE_CHECKING:
    from sqc.tuning.records import Records


class LoweredOp:
    """A kernel for one op; :func:`lower` makes it.

    Operands given as arrays are constants. Call it on arrays for the others, in the op's order; it returns the result.
    """

    def __init__(self, op: Op, kernel: Kernel, constants: Mapping[Value, np.ndarray]) -> None:
        self.op = op
        self.kernel = kernel
        self.constants = dict(constants)
        self.operands = tuple(value for value in dict.fromkeys(op.operands) if value not in self.constants)
        self._packs_when_called = any(value not in kernel.activations for value in self.operands)

    @property
    def scheduled(self) -> Any:
        """The scheduled TensorIR; ``str()`` shows it as TVMScript."""
        return self.kernel.scheduled

    @property
    def assembly(self) -> str:
        """The assembly text."""
        from sqc.schedules._tvm import assembly

        return assembly(self.kernel.scheduled, self.kernel.target)

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """Run the op. Raises InputError for a wrong number of arrays, or wrong shapes or types."""
        if len(arrays) != len(self.operands):
            raise InputError(f"{self.op.kind} takes {len(self.operands)} arrays here, not {len(arrays)}")
        given = dict(zip(self.operands, arrays, strict=True))
        for value, array in given.items():
            if not isinstance(array, np.ndarray) or array.shape != value.type.shape or array.dtype != value.type.dtype:
                found = f"{array.dtype.name}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array)
                raise InputError(f"operand '{value.name}' of {self.op.kind} must be {value.type}, not {found}")
        inputs = {value.name: given[value] for value in self.operands if value in self.kernel.activations}
        if self._packs_when_called:
            packed = self.kernel.pack({**self.constants, **given})
            inputs.update({f"packed{i}": array for i, array in enumerate(packed)})
        return self._model.run(inputs)[self.op.result.name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a library with this op alone.

        Its inputs are the operands; constant operands that were given as types alone appear as ``packed0`` ..., in
        the kernel's own layout (``kernel.pack``).
        """
        write_atomically(path, self.library)

    @cached_property
    def library(self) -> bytes:
        """The content of the library."""
        return build_library(self._plan())

    @cached_property
    def _model(self) -> Model:
        return load_bytes(self.library)

    def _plan(self) -> Plan:
        build = Build(self.kernel.target)
        build.compile([self.kernel])
        inputs: dict[str, TensorType] = {}

        def parameter(name: str, type: TensorType) -> Argument:
            inputs[name] = type
            return Argument("input", list(inputs).index(name))

        arguments = [
            build.constants.add(self.constants[value]) if value in self.constants else parameter(value.name, value.type)
            for value in self.kernel.activations
        ]
        zeros = {value: np.zeros(value.type.shape, value.type.dtype) for value in self.operands}
        packs = self.kernel.pack({**zeros, **self.constants})
        for i, array in enumerate(packs):
            packed = self._packs_when_called
            arguments.append(parameter(f"packed{i}", type_of(array)) if packed else build.constants.add(array))
        arguments.append(Argument("output", 0))
        result = self.op.result
        read = [value for value in self.kernel.activations if value not in self.constants]
        work = describe(self.op, self.kernel, read, packs)
        program = Program(
            tuple(Tensor(name, type.dtype, type.shape) for name, type in inputs.items()),
            (Tensor(result.name, result.type.dtype, result.type.shape),),
            (Step(symbol(self.kernel), tuple(arguments), self.op.kind, work),),
            0,
        )
        return build.plan([program], self.op.kind)


def lower(
    op: str | Op,
    *operands: TensorType | np.ndarray,
    target: str = "native",
    records: str | os.PathLike[str] | Records | None = None,
    **attributes: Any,
) -> LoweredOp:
    """Lower one operator for ``target``.

    ``op`` is a kind (see ``sqc.ir.kinds()``), with the types of its operands and its ``attributes``, or an op of a
    graph, whose own operand types serve where none are given. An operand given as an array is a constant of the
    kernel. ``records`` is a file of tuning records (see :func:`sqc.tuning.tune_op`).

    Raises GraphError for operands or attributes that don't fit the op, CompileError if no kernel computes it.
    """
    from sqc.tuning.records import tuned_tiles

    chosen = Target.parse(target)
    kind = op if isinstance(op, str) else op.kind
    if isinstance(op, Op):
        operands = operands or tuple(value.type for value in op.operands)
        attributes = {**op.attributes, **attributes}
    if not operands:
        raise CompileError(f"give the operand types of {kind}: sqc.lower({kind!r}, type, ...)")
    builder = Builder(kind)
    values = [
        builder.constant(operand, f"constant{i}")
        if isinstance(operand, np.ndarray)
        else builder.input(f"x{i}", operand)
        for i, operand in enumerate(operands)
    ]
    builder.emit(kind, values, attributes, name="y")
    kernel = lower_op(builder.ops[0], chosen, builder.constants, tuned_tiles(records))
    return LoweredOp(builder.ops[0], kernel, builder.constants)
