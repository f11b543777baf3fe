"""The runtime's C by itself, and a C program that uses a model."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.library import check_source, model_source, write_library
from sqc.codegen.toolchain import COMPILE_FLAGS, find_compiler
from sqc.runtime import SOURCES
from tests.runtime.models import doubling, one_step

EXAMPLES = Path(__file__).parents[2] / "examples"
POOL = [SOURCES / "threads.c", SOURCES / "cpus.c"]
STRICT = ("-Wall", "-Wextra", "-Werror")


def build(program: Path, *arguments: str | Path) -> None:
    subprocess.run([*find_compiler(), "-O2", *STRICT, f"-I{SOURCES}", *arguments, "-o", program], check=True)


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.c")), ids=lambda path: path.name)
def test_no_warnings(source: Path) -> None:
    subprocess.run([*find_compiler(), *COMPILE_FLAGS, *STRICT, "-fsyntax-only", source], check=True)


def test_example_classifies(tmp_path: Path) -> None:
    program, model, image = tmp_path / "classify", tmp_path / "model.so", tmp_path / "image.f32"
    write_library(one_step("nearest"), model)
    image.write_bytes(np.float32([0.6, -3, 6.7, 2]).tobytes())
    build(program, EXAMPLES / "classify.c", "-ldl")

    def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True)

    assert run(model, image).stdout == "class 2, score 7\n"
    image.write_bytes(b"")
    assert "does not hold 16 bytes" in run(model, image).stderr
    assert run(image, image).returncode == 2


def test_loops_on_threads_of_the_callers(tmp_path: Path) -> None:
    """Loops run in the default rounding mode, and the threads get their own back."""
    program, model = tmp_path / "program", tmp_path / "model.so"
    write_library(one_step("nearest_rows", shape=(64,)), model)
    build(program, Path(__file__).with_name("callers_threads.c"), "-ldl", "-lm", "-pthread")
    printed = subprocess.run([program, model], check=True, capture_output=True, text=True).stdout
    assert printed.split() == [*map(str, range(64)), str(3 * 4)]


def test_cost_of_a_loop_is_measured(tmp_path: Path) -> None:
    build(tmp_path / "regions", EXAMPLES / "regions.c", *POOL, "-pthread")
    lines = subprocess.run([tmp_path / "regions", "2", "2"], check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in lines.splitlines()] == ["1", "2"]


def sanitizing(sanitizer: str, folder: Path) -> list[str]:
    """The flags for a sanitizer. Skips the test where there is none."""
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g", "-pthread"]
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    try:
        build(folder / "empty", folder / "empty.c", *flags)
        subprocess.run([folder / "empty"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip(f"the C compiler or this machine lacks -fsanitize={sanitizer}")
    return flags


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_nothing_in_runs_of_a_model(tmp_path: Path, sanitizer: str) -> None:
    flags = sanitizing(sanitizer, tmp_path)
    plan = doubling(64, 4, 16)
    generated = {"model.c": model_source(plan), "checks.c": check_source(plan)}
    for name, source in generated.items():
        (tmp_path / name).write_text(source)
    (tmp_path / "constants.bin").write_bytes(plan.constants)
    objects = [tmp_path / f"{symbol}.o" for symbol in plan.objects]
    for path in objects:
        path.write_bytes(plan.objects[path.stem])
    own = [Path(__file__).with_name("run_samples.c"), *(tmp_path / name for name in generated)]
    sources = [*own, *sorted(SOURCES.glob("*.c"))]
    build(tmp_path / "program", *sources, *objects, f"-Wa,-I{tmp_path}", "-Wno-missing-field-initializers", *flags)
    run = subprocess.run([tmp_path / "program"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_nothing_in_the_pool(tmp_path: Path, sanitizer: str) -> None:
    flags = sanitizing(sanitizer, tmp_path)
    build(tmp_path / "stress", Path(__file__).with_name("stress.c"), *POOL, *flags)
    forks = [] if sanitizer == "thread" else ["fork"]  # that sanitizer cannot start threads in a forked process
    run = subprocess.run([tmp_path / "stress", *forks], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
