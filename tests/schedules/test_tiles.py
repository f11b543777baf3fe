"""Code with AMX's instructions gives the reference's bits where a program of its own stands for each of them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sqc.codegen import build as codegen
from sqc.codegen.library import build_library
from sqc.codegen.objects import ObjectStore
from sqc.codegen.stages import Variant
from sqc.codegen.toolchain import find_compiler
from sqc.ir import Graph, same_bits
from sqc.runtime import load_bytes
from sqc.schedules import Kernel, Target
from sqc.schedules._tvm import assembly
from tests.schedules.cases import Case

CALLS = {
    r"\tldtilecfg\t(\S*\(\S+\))$": ("tile_configure", r"\1", "$0", "$0"),
    r"\ttileloadd\t(\S*\(%\w+),(%\w+)\), %tmm(\d)$": ("tile_load", r"\1)", r"\2", r"$\3"),
    r"\ttilestored\t%tmm(\d), (\S*\(%\w+),(%\w+)\)$": ("tile_store", r"\2)", r"\3", r"$\1"),
    r"\ttdpbusd\t%tmm(\d), %tmm(\d), %tmm(\d)$": ("tile_multiply", r"$\1", r"$\2", r"$\3"),
}
"""Instructions, and what is called instead: a function, and its arguments, the first of which may be an address."""

# Calls keep all registers and flags, and what lies below the stack pointer.
STUB = """
.local {0}_arguments
.comm {0}_arguments, 32, 8
{0}_stub:
    pushfq; push %rax; push %rcx; push %rdx; push %rsi; push %rdi; push %r8; push %r9; push %r10; push %r11; push %rbp
    mov %rsp, %rbp; and $-16, %rsp
    mov {0}_arguments(%rip), %rdi; mov 8+{0}_arguments(%rip), %rsi; mov 16+{0}_arguments(%rip), %rdx
    call {0}
    mov %rbp, %rsp
    pop %rbp; pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax; popfq
    ret
"""


def with_calls(text: str) -> str:
    """Assembly with calls in the place of AMX's instructions."""
    text = re.sub(r"^\t\.(file|loc|cfi_\w+)\b.*$", "", text.partition("\t.section\t.debug")[0], flags=re.MULTILINE)
    for pattern, (function, address, second, third) in CALLS.items():
        where = f"{function}_arguments"
        move = "movq" if address.startswith("$") else "leaq"
        call = (
            f"\tmovq %rdi, 24+{where}(%rip); {move} {address}, %rdi; movq %rdi, {where}(%rip); "
            f"movq 24+{where}(%rip), %rdi; movq {second}, 8+{where}(%rip); movq {third}, 16+{where}(%rip); "
            f"leaq -128(%rsp), %rsp; call {function}_stub; leaq 128(%rsp), %rsp"
        )
        text = re.sub(pattern, call, text, flags=re.MULTILINE)
    text = re.sub(r"^\ttilerelease$", "", text, flags=re.MULTILINE)
    assert not re.search(r"tmm|ldtilecfg", text)
    return text + ".text\n" + "".join(STUB.format(function) for function, *_ in CALLS.values())


class Emulating(ObjectStore):
    """Objects that need no AMX."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def object(self, kernel: Kernel, symbol: str) -> bytes:
        source, result = self.folder / "kernel.s", self.folder / "kernel.o"
        source.write_text(with_calls(assembly(kernel.scheduled, kernel.target, symbol)))
        functions = Path(__file__).with_name("tiles.c")
        parts = [self.folder / "code.o", self.folder / "functions.o"]
        for path, part in zip((source, functions), parts, strict=True):
            flags = ["-O1", "-fPIC", "-mgeneral-regs-only", "-fno-tree-loop-distribute-patterns"]
            subprocess.run([*find_compiler(), *flags, "-c", path, "-o", part], check=True)
        subprocess.run([*find_compiler(), "-r", "-nostdlib", *parts, "-o", result], check=True)
        return result.read_bytes()


@pytest.mark.isa("avx512_vnni", "avx512vbmi")
@pytest.mark.parametrize("shape", [(32, 64, 32), (16, 128, 64), (70, 256, 96), (17, 100, 40)])
def test_tiles(shape: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, depth, columns = shape
    case = Case(rows)
    x = case.u8(rows, depth)
    acc = case.emit("qfully_connected", x, case.s8(columns, depth), case.bias(columns))
    case.requantize(acc, 9000 * depth**0.5)
    op = case.op()
    image, *others = op.operands
    graph = Graph("g", (image,), {"y": op.result}, {value: case.arrays[value] for value in others}, (op,))
    monkeypatch.setattr(codegen, "_objects", {})
    build = codegen.Build(Target.parse("sapphirerapids-amx"), store=Emulating(tmp_path))
    plan = build.plan([codegen.build_program(Variant.of(graph), build)], "g")
    assert plan.programs[0].steps[0].symbol.startswith("sqc_tileproduct")
    model = load_bytes(build_library(replace(plan, cpu_features=Target.parse("icelake-server").cpu_features)))
    assert same_bits(model(case.arrays[image]), graph.run({image.name: case.arrays[image]})["y"])
