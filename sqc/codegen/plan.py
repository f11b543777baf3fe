"""What codegen hands to the linker: everything a compiled model consists of, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from sqc.errors import CompileError

Region = Literal["input", "output", "arena", "constants"]

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")
"""Element types of inputs and outputs, in the order of sqc_dtype in sqc.h."""

ALIGNMENT = 64
"""Of the arena and of the constants, in bytes."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of the model, as the ONNX model names it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """Where an argument of a kernel lies: by index among inputs or outputs, by byte in the arena or the constants.

    From one round of its stage to the next it moves on by ``stride`` bytes.
    """

    region: Region
    offset: int
    stride: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What a step does in one run, for profiles.

    `node` and `parts` are those of its row in the report, `sources` all nodes of the user's model that it computes;
    `op` names it for people; `window` has the extents of a convolution's or a pool's kernel; `kernel` is the kind of
    loops and `schedule` how they are tiled. `inputs` and `output` are those of one of its `rounds`. `read_bytes` and
    `written_bytes` are of activations in all rounds, each counted once, `constant_bytes` of weights and the like.
    """

    node: str
    parts: tuple[str, ...]
    sources: tuple[str, ...]
    op: str
    window: tuple[int, ...]
    kernel: str
    schedule: str
    precision: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    multiply_accumulates: int
    read_bytes: int
    written_bytes: int
    constant_bytes: int
    rounds: int = 1

    @property
    def moved_bytes(self) -> int:
        """All that it reads and writes."""
        return self.read_bytes + self.written_bytes + self.constant_bytes

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the library's description."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Work:
        """What :meth:`to_dict` gave, also by way of JSON; further entries don't matter. Raises KeyError."""
        values = {field.name: data[field.name] for field in fields(Work)}
        lists = {name: tuple(values[name]) for name in ("parts", "sources", "window")}
        return Work(
            **{**values, **lists, "inputs": tuple(map(_tensor, data["inputs"])), "output": _tensor(data["output"])}
        )


def _tensor(data: Mapping[str, Any]) -> Tensor:
    return Tensor(data["name"], data["dtype"], tuple(data["shape"]))


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a kernel. `symbol` is its global symbol in TVM, `name` what the runtime calls it, `workload` what
    tuning calls it."""

    symbol: str
    arguments: tuple[Argument, ...]
    name: str
    work: Work | None = None
    workload: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """The model at one batch size. Steps run in order; each may touch 256 bytes on either side of the arena.

    stages: how many steps follow each other in so many rounds, (steps, rounds); by default all of them in one.

    live_bytes: the most that any one step needs of the arena, so that no plan can be smaller.
    samples: the batch size, by which the leading dimension of every input and output divides; 0 where the results of a
    sample may depend on the others.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    live_bytes: int = 0
    samples: int = 0
    stages: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.stages:
            object.__setattr__(self, "stages", ((len(self.steps), 1),))


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole compiled model.

    programs: one for each batch size; the names and types of inputs and outputs are the same in all.
    constants: what arguments in the region "constants" point into; its start is aligned to 64 bytes.
    objects: the relocatable object (ELF) that defines each symbol that a step calls.
    cpu_features: what the kernels need of the processor, by the names of GCC's __builtin_cpu_supports.
    number_rules: version of NUMERICS.md.
    description: all there is to tell about the model, as JSON: quantization, target, versions, report.
    alternatives: the same model for other processors, over the same constants. What runs is the plan itself or else the
    first alternative whose features the processor has.

    Raises CompileError if the parts contradict each other; that is a defect of the compiler, not of the user's model.
    """

    programs: tuple[Program, ...]
    constants: bytes
    objects: Mapping[str, bytes]
    cpu_features: tuple[str, ...]
    number_rules: int
    description: Mapping[str, Any]
    alternatives: tuple[Plan, ...] = ()

    @property
    def candidates(self) -> tuple[Plan, ...]:
        """The plan itself and its alternatives, the best first."""
        return (self, *self.alternatives)

    @property
    def target(self) -> str:
        """The name of the processors that it is for."""
        return str(self.description.get("target", ""))

    def __post_init__(self) -> None:
        if not self.programs:
            raise CompileError("a plan needs at least one program")
        for program in self.programs:
            _check_program(program, self)
        for text in (*self.objects, *self.cpu_features):
            if not re.fullmatch(r"[A-Za-z_][\w.-]*", text):
                raise CompileError(f"{text!r} cannot name a symbol or a processor feature")
        first = _interface(self.programs[0])
        if any(_interface(program) != first for program in self.programs):
            raise CompileError("the programs of a plan differ in the names or types of their inputs and outputs")
        shapes = {tuple(tensor.shape for tensor in program.inputs) for program in self.programs}
        if len(shapes) < len(self.programs):
            raise CompileError("two programs of a plan take inputs of the same shapes")
        for other in self.alternatives:
            if other.alternatives or other.constants != self.constants or other.number_rules != self.number_rules:
                raise CompileError("an alternative of a plan has constants, number rules or alternatives of its own")
            if [_tensors(program) for program in other.programs] != [_tensors(program) for program in self.programs]:
                raise CompileError("an alternative of a plan takes other inputs, or gives other outputs")


def _tensors(program: Program) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], int]:
    return program.inputs, program.outputs, program.samples


def _interface(program: Program) -> tuple[tuple[str, str], ...]:
    return tuple((tensor.name, tensor.dtype) for tensor in (*program.inputs, *program.outputs))


def _check_program(program: Program, plan: Plan) -> None:
    for tensor in (*program.inputs, *program.outputs):
        if tensor.dtype not in DTYPES:
            raise CompileError(f"{tensor.name}: inputs and outputs cannot be of type {tensor.dtype}")
        if any(size < 1 for size in tensor.shape):
            raise CompileError(f"{tensor.name}: shape {tensor.shape} has no elements")
        if program.samples and (not tensor.shape or tensor.shape[0] % program.samples):
            raise CompileError(f"{tensor.name}: shape {tensor.shape} cannot be cut into {program.samples} samples")
    limits = {
        "input": len(program.inputs),
        "output": len(program.outputs),
        "arena": program.arena_bytes,
        "constants": len(plan.constants),
    }
    rounds = [rounds for steps, rounds in program.stages for _ in range(steps)]
    if len(rounds) != len(program.steps) or min(rounds, default=1) < 1:
        raise CompileError(f"stages {program.stages} are not those of {len(program.steps)} steps")
    for step, times in zip(program.steps, rounds, strict=True):
        if step.symbol not in plan.objects:
            raise CompileError(f"step {step.name}: no object defines its kernel {step.symbol}")
        for argument in step.arguments:
            reach = argument.stride * (times - 1) if argument.region in ("arena", "constants") else 0
            if not 0 <= argument.offset <= argument.offset + reach < limits[argument.region]:
                raise CompileError(
                    f"step {step.name}: {argument.region} has no offset {argument.offset} "
                    f"(it ends at {limits[argument.region]})"
                )
