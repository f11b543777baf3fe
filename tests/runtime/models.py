"""Small models for tests of the runtime; their kernels are C, so nothing here waits for TVM."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from sqc.codegen.plan import Argument, Plan, Program, Step, Tensor
from sqc.codegen.toolchain import find_compiler

BATCH = (64, 256)
INPUT, OUTPUT, ARENA = Argument("input", 0), Argument("output", 0), Argument("arena", 0)
CONSTANT = Argument("constants", 0)


@cache
def kernel(symbol: str) -> bytes:
    """The object of one kernel of kernels.c."""
    source = Path(__file__).with_name("kernels.c")
    with tempfile.NamedTemporaryFile(suffix=".o") as result:
        command = [*find_compiler(), "-O2", "-fPIC", f"-DKERNEL={symbol}", "-c", source, "-o", result.name]
        subprocess.run(command, check=True)
        return Path(result.name).read_bytes()


def program(*steps: Step, dtype: str = "float32", shape: tuple[int, ...] = (4,)) -> Program:
    return Program((Tensor("x", dtype, shape),), (Tensor("y", dtype, shape),), steps, 1 << 14)


def plan(*programs: Program, constants: bytes = b"") -> Plan:
    symbols = {step.symbol for program in programs for step in program.steps}
    return Plan(programs, constants, {s: kernel(s) for s in symbols}, ("sse2",), 1, {"target": "test"})


def one_step(symbol: str, dtype: str = "float32", shape: tuple[int, ...] = (4,)) -> Plan:
    return plan(program(Step(symbol, (INPUT, OUTPUT), symbol), dtype=dtype, shape=shape))


def add_two() -> Plan:
    """Adds 2 to u8[64, 256], in two steps of parallel loops, the first of which writes to the arena."""
    steps = Step("add_one", (INPUT, ARENA), "first"), Step("add_one", (ARENA, OUTPUT), "second")
    return plan(program(*steps, dtype="uint8", shape=BATCH))


def doubling(*batches: int) -> Plan:
    """Doubles f32[samples, 2], compiled for each of these batches: of 4, 16 and 64."""
    programs = (program(Step(f"double_{n * 2}", (INPUT, OUTPUT), "double"), shape=(n, 2)) for n in batches)
    return plan(*(replace(one, samples=n) for one, n in zip(programs, batches, strict=True)))


def in_rounds() -> Plan:
    """Doubles f32[16, 2] three times, by way of the arena: the first two times in four rounds, then all at once."""
    between = Argument("arena", 1024)
    steps = (
        Step("double_8", (replace(INPUT, stride=32), between), "first"),
        Step("double_8", (between, replace(ARENA, stride=32)), "second"),
        Step("double_32", (ARENA, OUTPUT), "third"),
    )
    return plan(replace(program(*steps, shape=(16, 2)), stages=((2, 4), (1, 1))))


def with_features(plan: Plan, *features: str) -> Plan:
    return replace(plan, cpu_features=features)
