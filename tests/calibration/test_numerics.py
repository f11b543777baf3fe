"""NUMERICS.md: its example runs, its equations are numbered in order, and its version is the one models record."""

from __future__ import annotations

import re
from pathlib import Path

import sqc

TEXT = (Path(sqc.__file__).parent / "NUMERICS.md").read_text(encoding="utf-8")


def test_the_worked_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "NUMERICS.md", "exec"), {})


def test_equations_are_numbered_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^    .*\S {2,}\((\d+)\)$", TEXT, re.MULTILINE)]
    assert numbers == list(range(1, 29))


def test_the_version_is_the_one_that_libraries_record() -> None:
    assert TEXT.startswith(f"# The numbers, version {sqc.NUMBER_RULES}\n")
