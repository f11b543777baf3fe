"""The file that collects the figures of several scripts, a section each, and their tables in Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sqc.bench.machine import machine
from sqc.cli.files import write_json

Row: TypeAlias = dict[str, Any]
"""A line of a table, as plain data."""


class Results:
    """Sections by name, each with its rows, the machine that they were taken on and the versions of what was timed.

    Ends the program if the file holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.sections: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            try:
                self.sections = json.loads(path.read_text(encoding="utf-8"))
                if not all("rows" in section for section in self.sections.values()):
                    raise TypeError("a section has no rows")
            except (ValueError, TypeError, AttributeError) as error:
                sys.exit(f"{path} holds no results: {error}; name another file")

    def rows(self, section: str) -> list[Row]:
        return list(self.sections[section]["rows"]) if section in self.sections else []

    def merge(
        self, section: str, rows: Iterable[Row], key: Sequence[str], versions: Mapping[str, str] | None = None
    ) -> None:
        """Put ``rows`` in place of those with the same values of ``key``, or at the end; write the file, if any.

        Ends the program if the section comes from another machine: one table is of one machine.
        """
        here = machine()
        known = self.sections.get(section, {"machine": here, "versions": {}, "rows": []})
        if known["machine"] != here:
            sys.exit(
                f"the section '{section}' was measured on another machine ({known['machine'].get('processor')}); "
                "write the figures of this one to another file"
            )
        merged = {tuple(row[name] for name in key): row for row in known["rows"]}
        merged.update({tuple(row[name] for name in key): row for row in rows})
        self.sections[section] = {
            "machine": here,
            "versions": {**known["versions"], **(versions or {})},
            "rows": list(merged.values()),
        }
        if self.path is not None:
            write_json(self.path, self.sections)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every column but the first is aligned to the right, as numbers are."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def mebibytes(size: float) -> str:
    return f"{size / 2**20:.1f}"
