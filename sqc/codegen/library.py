"""Makes the one file of a compiled model: the runtime's C, generated tables, kernels and constants, description."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import shutil
import string
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from sqc.codegen.plan import ALIGNMENT, DTYPES, Argument, Plan, Program, Step, Tensor
from sqc.codegen.recent import Recent
from sqc.codegen.toolchain import compile_sources, find_compiler, link
from sqc.errors import ToolchainError
from sqc.runtime import SOURCES
from sqc.runtime.container import pack, write_atomically

SLACK = 256
"""Bytes on either side of the constants that kernels may read, in keeping with the arena's."""

_recent = Recent(32 << 20)
"""The last libraries without their descriptions: blame, for one, runs the same parts beside every graph it is given."""

_runtimes: dict[tuple[str, ...], tuple[int, Future[tuple[bytes, ...]]]] = {}
"""The runtime's objects by compiler, and the process that compiles them."""


def build_library(plan: Plan) -> bytes:
    """The file of a compiled model as bytes: equal plans (and C compilers) give equal bytes.

    Raises ToolchainError if there is no C compiler or it fails.
    """
    compiler = tuple(find_compiler())
    generated = {"model.c": model_source(plan), "checks.c": check_source(plan)}
    # An object may define several kernels; it is linked once.
    symbols = [(one, symbol) for one in plan.candidates for symbol in sorted(_symbols(one))]
    kernels = tuple(dict.fromkeys(one.objects[symbol] for one, symbol in symbols))
    digest = hashlib.sha256(repr((compiler, generated)).encode())
    for part in (plan.constants, *kernels):
        digest.update(hashlib.sha256(part).digest())

    def linked() -> bytes:
        try:
            with tempfile.TemporaryDirectory(prefix="sqc-") as name:
                return _link(compiler, generated, plan.constants, kernels, Path(name))
        except OSError as error:
            raise ToolchainError(f"cannot build the library in {tempfile.gettempdir()}: {error}") from error

    return pack(_recent.get(digest.digest(), linked), _description(plan))


def write_library(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Writes the file of a compiled model, whole or not at all.

    Raises ToolchainError if there is no C compiler or it fails, LibraryError if the file cannot be written.
    """
    write_atomically(path, build_library(plan))


def _link(
    compiler: tuple[str, ...], generated: Mapping[str, str], constants: bytes, kernels: Sequence[bytes], folder: Path
) -> bytes:
    for header in SOURCES.glob("*.h"):
        shutil.copyfile(header, folder / header.name)
    (folder / "constants.bin").write_bytes(constants)
    (folder / "model.c").write_text(generated["model.c"])
    with ThreadPoolExecutor(1) as beside:
        runtime = begin_runtime()
        checks = beside.submit(_checks, compiler, generated["checks.c"])
        model = compile_sources(folder, ["model.c"])
        parts = [*runtime.result(), checks.result(), *kernels]
    names = [f"part{index}.o" for index in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    link(folder, [*model, *names], exports(), "model.so")
    return (folder / "model.so").read_bytes()


def begin_runtime() -> Future[tuple[bytes, ...]]:
    """Compile the runtime beside what the caller does: its objects are the same in all models of one C compiler.

    Raises ToolchainError if there is no C compiler; the result raises it if the compiler fails.
    """
    compiler = tuple(find_compiler())
    process, objects = _runtimes.get(compiler, (0, None))
    # A process that was forked has the results of its parent, but not the thread that makes one.
    if objects is None or (objects.exception() if objects.done() else process != os.getpid()):
        beside = ThreadPoolExecutor(1)
        objects = beside.submit(_objects, {path.name: path.read_text() for path in sorted(SOURCES.glob("*.c"))})
        beside.shutdown(wait=False)
        _runtimes[compiler] = os.getpid(), objects
    return objects


@cache
def _checks(compiler: tuple[str, ...], source: str) -> bytes:
    """The object that asks for features; GCC takes as long for its built-ins as for the rest of a model."""
    (content,) = _objects({"checks.c": source})
    return content


def _objects(sources: Mapping[str, str]) -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory(prefix="sqc-") as name:
        for header in SOURCES.glob("*.h"):
            shutil.copyfile(header, Path(name, header.name))
        for file, text in sources.items():
            Path(name, file).write_text(text)
        return tuple(Path(name, file).read_bytes() for file in compile_sources(Path(name), list(sources)))


def exports() -> list[str]:
    """The functions that a model exports: those that sqc.h marks."""
    return re.findall(r"^SQC_API .*?(\w+)\(", (SOURCES / "sqc.h").read_text(), re.MULTILINE)


def _description(plan: Plan) -> dict[str, object]:
    def tensors(group: tuple[Tensor, ...]) -> list[dict[str, object]]:
        return [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in group]

    def variants(one: Plan) -> list[dict[str, object]]:
        return [
            {
                "inputs": tensors(program.inputs),
                "outputs": tensors(program.outputs),
                "steps": [{"name": step.name, **(step.work.to_dict() if step.work else {})} for step in program.steps],
                "arena_bytes": program.arena_bytes,
                "live_bytes": program.live_bytes,
                "samples": program.samples,
            }
            for program in one.programs
        ]

    def for_its_target(one: Plan) -> dict[str, object]:
        return {"target": one.target, "cpu_features": list(one.cpu_features), "variants": variants(one)}

    return {
        "inputs": tensors(plan.programs[0].inputs),
        "outputs": tensors(plan.programs[0].outputs),
        **plan.description,
        "number_rules": plan.number_rules,
        "constants_bytes": len(plan.constants),
        **for_its_target(plan),
        "alternatives": [for_its_target(other) for other in plan.alternatives],
    }


def _symbols(plan: Plan) -> set[str]:
    return {step.symbol for program in plan.programs for step in program.steps}


# The generated C ---------------------------------------------------------------------------------------------------


def model_source(plan: Plan) -> str:
    """The C file with a model's tables and its constants."""
    return "\n".join(_model_lines(plan)) + "\n"


def check_source(plan: Plan) -> str:
    """The C file that asks for the processor's features, the same for equal targets."""
    checks = (_feature_check(one.cpu_features, number) for number, one in enumerate(plan.candidates))
    return "\n".join(['#include "sqc_model.h"', *itertools.chain.from_iterable(checks)]) + "\n"


def _model_lines(plan: Plan) -> Iterator[str]:
    yield '#include "sqc_model.h"\n'
    yield f"""\
__asm__(".pushsection .sqc.constants,\\"a\\",@progbits\\n"
        ".balign {ALIGNMENT}\\n.zero {SLACK}\\n.hidden sqc_constants\\n.globl sqc_constants\\nsqc_constants:\\n"
        ".incbin \\"constants.bin\\"\\n.zero {SLACK}\\n.popsection");

const int sqc_number_rules = {plan.number_rules};
"""
    for symbol in sorted(set[str]().union(*map(_symbols, plan.candidates))):
        yield f"extern sqc_kernel __tvm_ffi_{symbol};"
    for number, one in enumerate(plan.candidates):
        yield f"const char *sqc_missing{number}(size_t skip);"
        for index, program in enumerate(one.programs):
            yield from _program_tables(program, f"{number}_{index}")
        yield f"\nstatic const sqc_program programs{number}[] = {{"
        for index, program in enumerate(one.programs):
            yield _program(program, f"{number}_{index}")
        yield "};"
    yield "\nconst sqc_candidate sqc_candidates[] = {"
    for number, one in enumerate(plan.candidates):
        yield f"    {{{_text(one.target)}, sqc_missing{number}, programs{number}}},"
    yield "};"
    yield f"const size_t sqc_candidate_count = {len(plan.candidates)};"
    yield f"const size_t sqc_program_count = {len(plan.programs)};"


def _feature_check(features: Iterable[str], number: int) -> Iterator[str]:
    """A function that gives the first missing feature after ``skip`` others, or NULL."""
    yield f"\nconst char *sqc_missing{number}(size_t skip);"
    yield f"const char *sqc_missing{number}(size_t skip) {{"
    yield "    __builtin_cpu_init();"
    for feature in features:
        # The system has to be asked before a process may use tiles.
        allowed = " || !sqc_may_use_tiles()" if feature == "amx-tile" else ""
        yield f'    if ((!__builtin_cpu_supports("{feature}"){allowed}) && !skip--) return "{feature}";'
    yield "    return (void)skip, NULL;\n}\n"


def _program(program: Program, suffix: str) -> str:
    return (
        f"    {{{len(program.inputs)}, {len(program.outputs)}, {len(program.stages)}, {len(program.steps)}, "
        f"{sum(len(step.arguments) for step in program.steps)}, inputs{suffix}, outputs{suffix}, "
        f"stages{suffix}, steps{suffix}, arguments{suffix}, {program.arena_bytes}, {program.samples}}},"
    )


def _program_tables(program: Program, suffix: str) -> Iterator[str]:
    yield from _tensor_table(program.inputs, f"inputs{suffix}")
    yield from _tensor_table(program.outputs, f"outputs{suffix}")
    yield f"\nstatic const sqc_argument arguments{suffix}[] = {{"
    yield from (f"    {_argument(argument)}," for step in program.steps for argument in step.arguments)
    yield "    {0},\n};"
    stages = ", ".join(f"{{{steps}, {rounds}}}" for steps, rounds in program.stages)
    yield f"\nstatic const sqc_stage stages{suffix}[] = {{{stages}}};"
    yield f"\nstatic const sqc_step steps{suffix}[] = {{"
    first = 0
    for step in program.steps:
        yield f"    {_step(step, first)},"
        first += len(step.arguments)
    yield f"    {{.first_argument = {first}}},\n}};"


def _tensor_table(tensors: tuple[Tensor, ...], table: str) -> Iterator[str]:
    for index, tensor in enumerate(tensors):
        yield f"\nstatic const int64_t {table}_{index}[] = {{{', '.join(map(str, (*tensor.shape, 0)))}}};"
    yield f"static const sqc_tensor {table}[] = {{"
    for index, tensor in enumerate(tensors):
        size = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        dtype = DTYPES.index(tensor.dtype)
        yield f"    {{{_text(tensor.name)}, {dtype}, {len(tensor.shape)}, {table}_{index}, {size}}},"
    yield "    {0},\n};"


def _argument(argument: Argument) -> str:
    return f"{{SQC_{argument.region.upper()}, {argument.offset}, {argument.stride}}}"


def _step(step: Step, first: int) -> str:
    return f"{{__tvm_ffi_{step.symbol}, {_text(step.name)}, {first}, {len(step.arguments)}}}"


def _text(text: str) -> str:
    """A C string: names come from models and may hold anything."""
    plain = frozenset(f"{string.ascii_letters}{string.digits} _-./:;,+()[]".encode())
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
