"""From a lowered graph to a plan: kernels compiled once each, buffers placed, constants packed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import sqc
from sqc.codegen.describe import describe
from sqc.codegen.memory import ALIGNMENT, Buffer, lower_bound, plan_arena
from sqc.codegen.objects import ObjectStore
from sqc.codegen.plan import Argument, Plan, Program, Step, Tensor
from sqc.codegen.views import Views, views_of
from sqc.ir import Builder, Graph, Op, Value
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
    graph: Graph,
    build: Build,
    progress: Progress | None = None,
    products: Mapping[str, int] | None = None,
    samples: int = 0,
) -> Program:
    """Lower every op of ``graph`` and lay out its memory.

    ``products`` tells the multiply-accumulates that count, by the names of the values that they compute. ``samples`` is
    the batch size where the results of a sample don't depend on the others.

    Raises CompileError, naming the op, if no kernel computes it.
    """
    graph = _copy_bare_outputs(graph)
    views = views_of(graph)
    ops = [op for op in graph.ops if op.result not in views.free]
    kernels = [lower(op, build.target, graph.constants, build.tuned) for op in ops]
    build.compile(kernels, progress)
    places = {value: Argument("input", i) for i, value in enumerate(graph.inputs)}
    places.update({value: Argument("output", i) for i, value in enumerate(graph.outputs.values())})
    arena, arena_bytes, live_bytes = _arena(ops, views, places)
    places.update(arena)

    def argument(value: Value) -> Argument:
        origin, offset = views.place(value)
        if origin in graph.constants:
            return build.constants.add(graph.constants[origin])
        return replace(places[origin], offset=places[origin].offset + offset)

    steps = []
    for op, kernel in zip(ops, kernels, strict=True):
        arguments = [argument(value) for value in kernel.activations]
        packed = kernel.pack(graph.constants)
        arguments += map(build.constants.add, packed)
        arguments.append(argument(kernel.result))
        read = [value for value in kernel.activations if views.origin(value) not in graph.constants]
        work = describe(op, kernel, read, packed, products)
        steps.append(Step(symbol(kernel), tuple(arguments), _step_name(op), work))
    return Program(
        tuple(Tensor(value.name, value.type.dtype, value.type.shape) for value in graph.inputs),
        tuple(Tensor(name, value.type.dtype, value.type.shape) for name, value in graph.outputs.items()),
        tuple(steps),
        arena_bytes,
        live_bytes,
        samples,
    )


def _step_name(op: Op) -> str:
    kind = op.body.ops[0].kind if op.kind == "fused" else op.kind
    return f"{kind} {op.source}" if op.source else kind


def _copy_bare_outputs(graph: Graph) -> Graph:
    """Give every output a buffer of its own: copy those that are inputs, constants, views or shown twice."""
    views = views_of(graph)
    seen: set[Value] = set()
    copied: dict[str, Value] = {}
    ops = list(graph.ops)
    builder = Builder(graph.name)
    for value in graph.values():
        builder.unique(value.name)
    for name, value in graph.outputs.items():
        produced = graph.producer(value) is not None and views.origin(value) == value and value not in seen
        seen.add(value)
        if not produced:
            value = builder.emit("copy", [value], name=f"{name}.out", source=f"output {name}")
            ops.append(builder.ops[-1])
        copied[name] = value
    return Graph(graph.name, graph.inputs, copied, graph.constants, tuple(ops), graph.dynamic_batch)


def _arena(ops: list[Op], views: Views, places: Mapping[Value, Argument]) -> tuple[dict[Value, Argument], int, int]:
    """Places in the arena for all results that have none yet, its size and the least it could have, in bytes."""
    born: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for step, op in enumerate(ops):
        born.setdefault(views.origin(op.result), step)
        for value in (op.result, *op.operands):
            last[views.origin(value)] = step
    values = {value.name: value for value in born if value not in places}
    buffers = [Buffer(name, value.type.bytes, born[value], last[value]) for name, value in values.items()]
    offsets, size = plan_arena(buffers)
    return {value: Argument("arena", offsets[name]) for name, value in values.items()}, size, lower_bound(buffers)
