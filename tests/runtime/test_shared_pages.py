"""Processes that load one library share the pages of its weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from sqc.codegen.library import write_library
from sqc.codegen.plan import Step
from tests.runtime.models import CONSTANT, INPUT, OUTPUT, plan, program

PROCESSES = 10
CONSTANTS_KIB = 4096

# Maps the library as the loader does, runs it, reads every page of its constants as the kernels of a real model would,
# and waits.
PROGRAM = """
import ctypes, sys
import numpy as np
from sqc.runtime import load

path = sys.argv[1]
model = load(path)
assert model(np.ones(4, np.float32))[0] == 3
lines = [line.split() for line in open("/proc/self/maps") if line.rstrip().endswith(path)]
spans = [[int(end, 16) for end in line[0].split("-")] for line in lines if line[1].startswith("r")]
start, end = max(spans, key=lambda span: span[1] - span[0])
print(sum(ctypes.string_at(start, end - start)) > 0, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(path: Path) -> Iterator[int]:
    """A process that has the library loaded; gives its number."""
    command = [sys.executable, "-c", PROGRAM, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == "True\n"
        yield process.pid
        process.stdin.close()


def largest_mapping(process: int, path: Path) -> dict[str, int]:
    """KiB by the names of /proc/PID/smaps, of the library's largest mapping, which holds its constants."""
    mappings: list[dict[str, int]] = []
    ours = False
    try:
        text = Path(f"/proc/{process}/smaps").read_text()
    except OSError as error:
        pytest.skip(f"/proc/PID/smaps cannot be read here: {error}")
    for line in text.splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            ours = line.endswith(str(path))
            mappings += [{}] if ours else []
        elif ours and rest[1:] == ["kB"]:
            mappings[-1][first[:-1]] = int(rest[0])
    return max(mappings, key=lambda mapping: mapping["Size"])


def test_processes_map_the_constants_once(tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    constants = np.full(CONSTANTS_KIB << 8, 3, np.float32).tobytes()
    write_library(plan(program(Step("scale", (INPUT, CONSTANT, OUTPUT), "scale")), constants=constants), path)
    with ExitStack() as processes:
        numbers = [processes.enter_context(running(path)) for _ in range(PROCESSES)]
        mappings = [largest_mapping(number, path) for number in numbers]
    for mapping in mappings:
        assert mapping["Rss"] == mapping["Size"] >= CONSTANTS_KIB
        assert mapping["Private_Dirty"] == mapping["Private_Clean"] == 0
    assert sum(mapping["Pss"] for mapping in mappings) == pytest.approx(mappings[0]["Rss"], rel=0.01)
