"""Plans that contradict themselves, generated C, and the C compiler's failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sqc.codegen.library import build_library, model_source
from sqc.codegen.plan import Argument, Plan, Program, Step, Tensor
from sqc.codegen.toolchain import find_compiler
from sqc.errors import CompileError, ToolchainError
from tests.runtime.models import INPUT, OUTPUT, add_two, one_step, plan, program, with_features


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"no C compiler found.*apt-get install gcc"):
        build_library(add_two())
    monkeypatch.setenv("CC", "mycc -m64")
    with pytest.raises(ToolchainError, match="CC names 'mycc'"):
        find_compiler()


def test_a_compiler_that_fails_is_quoted() -> None:
    with pytest.raises(ToolchainError, match=r"could not make the model(.|\n)*no_such_feature"):
        build_library(with_features(add_two(), "no_such_feature"))


def test_an_undefined_symbol_is_an_error() -> None:
    broken = replace(one_step("nearest"), objects={"nearest": add_two().objects["add_one"]})
    with pytest.raises(ToolchainError, match="__tvm_ffi_nearest"):
        build_library(broken)


def test_names_may_hold_anything() -> None:
    odd = 'in"put\\n?\n/*é'
    step = Step("add_one", (INPUT, OUTPUT), odd)
    text = model_source(plan(Program((Tensor(odd, "int8", (1,)),), (Tensor("y", "int8", (1,)),), (step,), 0)))
    assert r'{"in\042put\134n\077\012/\052\303\251", 2, 1, inputs0_0_0, 1}' in text
    assert r'{__tvm_ffi_add_one, "in\042put\134n\077\012/\052\303\251", 0, 2}' in text


def contradictions() -> dict[str, tuple[Program, ...]]:
    step = Step("add_one", (INPUT, Argument("arena", 1 << 14)), "s")
    good = Step("add_one", (INPUT, OUTPUT), "s")
    return {
        "arena has no offset 16384": (program(step),),
        "input has no offset 1": (program(Step("add_one", (Argument("input", 1),), "s")),),
        "constants has no offset 0": (program(Step("add_one", (Argument("constants", 0),), "s")),),
        "cannot be of type complex64": (program(good, dtype="complex64"),),
        "has no elements": (program(good, shape=(0, 4)),),
        "differ in the names or types": (program(good), program(good, dtype="int8")),
        "inputs of the same shapes": (program(good), program(good)),
        "at least one program": (),
    }


@pytest.mark.parametrize("message", contradictions())
def test_contradictions(message: str) -> None:
    with pytest.raises(CompileError, match=message):
        plan(*contradictions()[message])


def test_missing_objects_and_odd_names() -> None:
    good = add_two()
    with pytest.raises(CompileError, match="no object defines its kernel add_one"):
        replace(good, objects={})
    with pytest.raises(CompileError, match="cannot name"):
        Plan(good.programs, b"", {**good.objects, "a;b": b""}, (), 1, {})
