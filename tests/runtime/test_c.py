"""The runtime's C by itself, and a C program that uses a model."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.library import write_library
from sqc.codegen.toolchain import COMPILE_FLAGS, find_compiler
from sqc.runtime import SOURCES
from tests.runtime.models import one_step

EXAMPLE = Path(__file__).parents[2] / "examples" / "classify.c"
STRICT = ("-Wall", "-Wextra", "-Werror")


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.c")), ids=lambda path: path.name)
def test_no_warnings(source: Path) -> None:
    subprocess.run([*find_compiler(), *COMPILE_FLAGS, *STRICT, "-fsyntax-only", source], check=True)


def test_example_classifies(tmp_path: Path) -> None:
    program, model, image = tmp_path / "classify", tmp_path / "model.so", tmp_path / "image.f32"
    write_library(one_step("nearest"), model)
    image.write_bytes(np.float32([0.6, -3, 6.7, 2]).tobytes())
    subprocess.run([*find_compiler(), *STRICT, f"-I{SOURCES}", EXAMPLE, "-o", program, "-ldl"], check=True)

    def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True)

    assert run(model, image).stdout == "class 2, score 7\n"
    image.write_bytes(b"")
    assert "does not hold 16 bytes" in run(model, image).stderr
    assert run(image, image).returncode == 2
