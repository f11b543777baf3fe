"""Tables of text, and HTML pages of them that refer to nothing outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222; }
svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; }
th, td { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


@dataclass(frozen=True)
class Table:
    """A heading, the names of columns, rows; the columns named in ``right`` hold numbers. The last row may be a sum."""

    heading: str
    columns: tuple[str, ...]
    right: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    summed: bool = False


def page(title: str, parts: Iterable[str | Table]) -> str:
    """A whole page of tables, and of parts that are HTML already."""
    body = [f"<h1>{escape(title)}</h1>", *(part if isinstance(part, str) else _table(part) for part in parts)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    heading = f"<h2>{escape(table.heading)}</h2>"
    return f'{heading}\n<div class="scroll"><table><tr>{head}</tr>\n{rows}\n</table></div>'


def _cells(table: Table, row: Sequence[str]) -> str:
    names = ["number" if column in table.right else "text" for column in table.columns]
    return "".join(f'<td class="{name}">{escape(text)}</td>' for name, text in zip(names, row, strict=True))
