"""Passes as text: every tests/passes/<pass_name>/<case>.sqc holds a graph, a separator and what the pass makes of it.

    // options: {"exclude": ["Conv_1"]}     optional: the fields of the pass, as a Python literal
    graph "case" (...) {...}
    // ---
    graph "case" (...) {...}                or   // error: the message

``pytest --update-goldens`` rewrites the part behind the separator.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sqc.errors import SqcError
from sqc.ir import format_graph, parse_graph, verify
from sqc.passes import Notes, run
from sqc.passes.pipeline import PASSES

HERE = Path(__file__).parent
SEPARATOR = "// ---\n"
CASES = sorted(HERE.glob("*/*.sqc"))


def apply(path: Path, text: str) -> str:
    step: Any = PASSES[path.parent.name.replace("_", "-")]
    for line in text.splitlines():
        if line.startswith("// options:"):
            step = replace(step, **ast.literal_eval(line.partition(":")[2].strip()))
    graph = parse_graph(text)
    verify(graph)
    try:
        return format_graph(run([step], graph, Notes())) + "\n"
    except SqcError as error:
        return f"// error: {error}\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden(path: Path, request: pytest.FixtureRequest) -> None:
    before, _, expected = path.read_text(encoding="utf-8").partition(SEPARATOR)
    result = apply(path, before)
    if request.config.getoption("--update-goldens"):
        path.write_text(before + SEPARATOR + result, encoding="utf-8")
        expected = result
    assert result == expected


def test_every_pass_has_cases() -> None:
    covered = {path.parent.name.replace("_", "-") for path in CASES}
    assert sorted(PASSES.keys() - covered) == []
