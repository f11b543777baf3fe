"""From a lowered graph to a plan: kernels compiled once each, buffers placed, constants packed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import sqc
from sqc.codegen.describe import describe
from sqc.codegen.memory import ALIGNMENT, Buffer, lower_bound, plan_arena
from sqc.codegen.objects import ObjectStore
from sqc.codegen.plan import Argument, Plan, Program, Step, Tensor
from sqc.codegen.stages import Stage, Variant
from sqc.codegen.views import Views, views_of
from sqc.ir import Op, Value
from sqc.progress import Progress
from sqc.schedules import Kernel, Target, lower

if TYPE_CHECKING:
    from sqc.schedules.microkernel import Tile

_objects: dict[str, bytes] = {}
"""Objects compiled by this process, by the key of their kernel."""


class Constants:
    """The read-only data of a model: every array once, aligned."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._offsets: dict[bytes, int] = {}

    def add(self, array: np.ndarray) -> Argument:
        """Where an array's bytes lie."""
        content = np.ascontiguousarray(array).tobytes()
        digest = hashlib.sha256(content).digest()
        if digest not in self._offsets:
            self._blob.extend(bytes(-len(self._blob) % ALIGNMENT))
            self._offsets[digest] = len(self._blob)
            self._blob.extend(content or b"\0")
        return Argument("constants", self._offsets[digest])

    def bytes(self) -> bytes:
        return bytes(self._blob)


@dataclass
class Build:
    """What the programs of one library share."""

    target: Target
    tuned: Mapping[str, Tile] = field(default_factory=dict)
    """Tiles that tuning found, by workload."""
    constants: Constants = field(default_factory=Constants)
    objects: dict[str, bytes] = field(default_factory=dict)
    store: ObjectStore = field(default_factory=ObjectStore)

    def compile(self, kernels: list[Kernel], progress: Progress | None = None) -> None:
        """Compile every kernel that is not compiled yet."""
        missing = {symbol(kernel): kernel for kernel in kernels if symbol(kernel) not in self.objects}
        for done, (name, kernel) in enumerate(missing.items()):
            if progress:
                progress(done, len(missing), "compiling kernels")
            if kernel.key not in _objects:
                _objects[kernel.key] = self.store.object(kernel, name)
            self.objects[name] = _objects[kernel.key]
        self.store.trim()
        if progress:
            progress(len(missing), len(missing), "compiling kernels")

    def plan(self, programs: Iterable[Program], model: str, **description: Any) -> Plan:
        """The plan of a library with these programs; ``description`` tells more about the ``model``."""
        versions = {"sqc": sqc.__version__, **self.store.versions}
        made = {"model": model, "target": self.target.name, "versions": versions}
        return Plan(
            tuple(programs),
            self.constants.bytes(),
            self.objects,
            self.target.cpu_features,
            sqc.NUMBER_RULES,
            {**made, **description},
        )


def symbol(kernel: Kernel) -> str:
    """The name of a kernel's entry: what anchors it, and a digest of all that determines its code."""
    kind = type(kernel.problem).__name__.lower()
    return f"sqc_{kind}_{hashlib.sha256(kernel.key.encode()).hexdigest()[:16]}"


def build_program(
    variant: Variant,
    build: Build,
    progress: Progress | None = None,
    products: Mapping[str, int] | None = None,
) -> Program:
    """Lower every op of a variant and lay out its memory.

    ``products`` tells the multiply-accumulates that count, by the names of the values that they compute.

    Raises CompileError, naming the op, if no kernel computes it.
    """
    graph = variant.graph
    parts = [_Part.of(stage, build) for stage in variant.stages]
    build.compile([kernel for part in parts for kernel in part.kernels], progress)
    places = {value.name: Argument("input", i) for i, value in enumerate(graph.inputs)}
    places |= {value.name: Argument("output", i) for i, value in enumerate(graph.outputs.values())}
    buffers = [buffer for buffer in _buffers(parts) if buffer.name not in places]
    offsets, arena_bytes = plan_arena(buffers)
    places |= {name: Argument("arena", offset) for name, offset in offsets.items()}
    steps = [step for part in parts for step in part.steps(places, build, products)]
    return Program(
        tuple(Tensor(value.name, value.type.dtype, value.type.shape) for value in graph.inputs),
        tuple(Tensor(name, value.type.dtype, value.type.shape) for name, value in graph.outputs.items()),
        tuple(steps),
        arena_bytes,
        lower_bound(buffers),
        variant.samples,
        tuple((len(part.ops), part.stage.rounds) for part in parts),
    )


@dataclass(frozen=True)
class _Part:
    """A stage, lowered."""

    stage: Stage
    views: Views
    ops: list[Op]
    kernels: list[Kernel]

    @staticmethod
    def of(stage: Stage, build: Build) -> _Part:
        graph, views = stage.graph, views_of(stage.graph)
        ops = [op for op in graph.ops if op.result not in views.free]
        return _Part(stage, views, ops, [lower(op, build.target, graph.constants, build.tuned) for op in ops])

    @property
    def outside(self) -> set[Value]:
        """What other stages or the caller have too: of which each round has a part of its own."""
        return {*self.stage.graph.inputs, *self.stage.graph.outputs.values()}

    def steps(self, places: Mapping[str, Argument], build: Build, products: Mapping[str, int] | None) -> Iterator[Step]:
        """Calls of the kernels, with values at their ``places``."""
        constants, outside, rounds = self.stage.graph.constants, self.outside, self.stage.rounds

        def argument(value: Value) -> Argument:
            origin, offset = self.views.place(value)
            if origin in constants:
                return build.constants.add(constants[origin])
            stride = origin.type.bytes if origin in outside and rounds > 1 else 0
            return replace(places[origin.name], offset=places[origin.name].offset + offset, stride=stride)

        for op, kernel in zip(self.ops, self.kernels, strict=True):
            packed = kernel.pack(constants)
            arguments = [*map(argument, kernel.activations), *map(build.constants.add, packed), argument(kernel.result)]
            read = [value for value in kernel.activations if self.views.origin(value) not in constants]
            work = describe(op, kernel, read, packed, products, rounds)
            yield Step(symbol(kernel), tuple(arguments), _step_name(op), work, kernel.workload)


def _step_name(op: Op) -> str:
    kind = op.body.ops[0].kind if op.kind == "fused" else op.kind
    return f"{kind} {op.source}" if op.source else kind


def _buffers(parts: Sequence[_Part]) -> Iterator[Buffer]:
    """What the values of all stages need that do not lie within others."""
    born: dict[str, int] = {}
    last: dict[str, int] = {}
    sizes: dict[str, int] = {}
    first = 0
    for part in parts:
        rounds, outside = part.stage.rounds, part.outside
        end = first + len(part.ops) - 1
        for step, op in enumerate(part.ops, first):
            result, *operands = map(part.views.origin, (op.result, *op.operands))
            for value in (result, *operands):
                # Of what other stages have too, each round needs a part.
                lasts = rounds > 1 and value in outside
                if value == result:
                    born.setdefault(value.name, first if lasts else step)
                    sizes[value.name] = value.type.bytes * (rounds if lasts else 1)
                last[value.name] = end if lasts else step
        first = end + 1
    return (Buffer(name, size, born[name], last[name]) for name, size in sizes.items())
