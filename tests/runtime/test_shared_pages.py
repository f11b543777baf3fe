"""Processes that load one library share the pages of its weights."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.library import write_library
from sqc.codegen.plan import Step
from sqc.runtime import Model, load
from tests.runtime.models import CONSTANT, INPUT, OUTPUT, plan, program

PROCESSES = 10
CONSTANTS_KIB = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.so"
    constants = np.full(CONSTANTS_KIB << 8, 3, np.float32).tobytes()
    write_library(plan(program(Step("scale", (INPUT, CONSTANT, OUTPUT), "scale")), constants=constants), path)
    return path


def largest_mapping(process: int | str, path: Path) -> tuple[int, int, dict[str, int]]:
    """Of the library's largest mapping, which holds its constants: start and end, and KiB by their names in smaps."""
    mappings: list[tuple[int, int, dict[str, int]]] = []
    ours = False
    try:
        text = Path(f"/proc/{process}/smaps").read_text()
    except OSError as error:
        pytest.skip(f"/proc/{process}/smaps cannot be read here: {error}")
    for line in text.splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            ours = line.endswith(str(path))
            start, _, end = first.partition("-")
            mappings += [(int(start, 16), int(end, 16), {})] if ours else []
        elif ours and rest[1:] == ["kB"]:
            mappings[-1][2][first[:-1]] = int(rest[0])
    return max(mappings, key=lambda mapping: mapping[1] - mapping[0])


def use(model: Model, path: Path) -> bool:
    """Runs the model, and reads all its constants, as the kernels of a real one would."""
    good = bool(model(np.ones(4, np.float32))[0] == 3)
    start, end, _ = largest_mapping("self", path)
    return good and ctypes.string_at(start, end - start).count(b"\0") > 0


@pytest.fixture
def processes(path: Path) -> Iterator[list[int]]:
    """Processes that have each loaded the library by themselves."""
    ready, tell_ready = os.pipe()
    finish, tell_finish = os.pipe()
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            os.close(tell_finish)
            good = False
            try:
                model = load(path)  # stays loaded until the process ends
                good = use(model, path)
            finally:
                os.write(tell_ready, b"+" if good else b"-")
                os.read(finish, 1)  # ends with the test, whatever becomes of it
                os._exit(0)
        children.append(child)
    assert b"".join(os.read(ready, 1) for _ in children) == b"+" * PROCESSES
    yield children
    for file in (ready, tell_ready, finish, tell_finish):
        os.close(file)
    for child in children:
        os.waitpid(child, 0)


def test_processes_map_the_constants_once(path: Path, processes: list[int]) -> None:
    mappings = [largest_mapping(process, path)[2] for process in processes]
    for mapping in mappings:
        assert mapping["Rss"] == mapping["Size"] >= CONSTANTS_KIB
        assert mapping["Private_Dirty"] == mapping["Private_Clean"] == 0
    assert sum(mapping["Pss"] for mapping in mappings) == pytest.approx(mappings[0]["Rss"], rel=0.01)
