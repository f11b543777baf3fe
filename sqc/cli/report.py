"""The report after a compile, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqc.report import Report


def print_report(report: Report, *, remarks: bool = False) -> None:
    """Every kernel and its precision, roundings that did not fuse, the share in int8; ``remarks``: what passes said."""
    from sqc.cli import ui

    console = ui.console()
    rows = ui.table("", "node", "computes", "shape", "precision", "MACs", "why not int8", right=("MACs",))
    for row in report.rows:
        macs = f"{row.multiply_accumulates:,}" if row.multiply_accumulates else ""
        shape = "x".join(map(str, row.shape))
        rows.add_row(row.name, " + ".join(row.parts), shape, row.precision, macs, row.reason)
    console.print(rows)
    if report.pairs:
        pairs = ui.table("roundings beside float, not fused", "", "node", "value", "why")
        for pair in report.pairs:
            pairs.add_row(pair.kind, pair.node, pair.value, pair.reason)
        console.print(pairs)
    if remarks and report.remarks:
        table = ui.table("remarks of the passes", "pass", "node", "")
        for remark in report.remarks:
            table.add_row(remark.pass_name, remark.subject, remark.message)
        console.print(table)
    console.print(summary(report))


def summary(report: Report) -> str:
    """One line: how much of the model runs in int8."""
    total = report.multiply_accumulates
    floats = sum(row.precision == "float32" for row in report.rows)
    share = f"{report.int8_share:.1%} of {total:,} multiply-accumulates in int8" if total else "no multiply-accumulates"
    return f"{share}; {len(report.rows)} kernels, {floats} of them in float"
