"""``sqc inspect``: what is in a library, an ONNX model or a graph."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqc.cli.compile import INPUT

if TYPE_CHECKING:
    from sqc.ir import Graph


@click.command(short_help="Show what is in a library, a model or a graph.")
@click.argument("file", type=INPUT)
@click.option("--text", is_flag=True, help="Print a model as the text of its graph.")
@click.option("--json", "as_json", is_flag=True, help="Print a library's description as JSON.")
@click.option("--remarks", is_flag=True, help="Also print what fused into what, what did not, and why.")
def command(file: Path, text: bool, as_json: bool, remarks: bool) -> None:
    """Show FILE: a compiled library (.so), an ONNX model (.onnx) or a graph as text (.sqc)."""
    if file.suffix in (".onnx", ".sqc"):
        from sqc.cli import files

        graph = files.read_model(file)
        if text:
            click.echo(str(graph))
        else:
            print_graph(graph)
        return
    from sqc.runtime import read_description

    description = read_description(file)
    if as_json:
        click.echo(json.dumps(description, indent=2))
    else:
        print_library(file, description, remarks)


def print_library(file: Path, description: dict[str, Any], remarks: bool) -> None:
    """Inputs, outputs, target, versions, and the report of the compile. The library's code is not loaded."""
    from sqc.cli import ui
    from sqc.cli.report import print_report
    from sqc.report import Report

    out = ui.console()
    versions = ", ".join(f"{name} {version}" for name, version in description.get("versions", {}).items())
    out.print(f"{file}: model '{description.get('model', '')}', {ui.kilobytes(file.stat().st_size)}")
    out.print(f"computes by number rules {description['number_rules']}; made by {versions}")
    for candidate in (description, *description["alternatives"]):
        features = ", ".join(candidate["cpu_features"]) or "nothing beyond x86-64"
        out.print(f"target {candidate.get('target', 'unknown')}, which needs {features}")
    arena = max(variant["arena_bytes"] for variant in description["variants"])
    out.print(f"{ui.kilobytes(description['constants_bytes'])} of weights, {ui.kilobytes(arena)} of workspace a call")
    table = ui.table("", "", "name", "type", "shape")
    for variant in description["variants"]:
        for direction in ("inputs", "outputs"):
            for tensor in variant[direction]:
                shape = "x".join(map(str, tensor["shape"]))
                table.add_row(direction.removesuffix("s"), tensor["name"], tensor["dtype"], shape)
    out.print(table)
    if "report" in description:
        print_report(Report.from_dict(description["report"]), remarks=remarks)


def print_graph(graph: Graph) -> None:
    """Inputs, outputs, and how often each kind of op occurs with how many multiply-accumulates."""
    from sqc.cli import ui
    from sqc.ops.cost import multiply_accumulates

    out = ui.console()
    batch = ", dynamic batch" if graph.dynamic_batch else ""
    size = sum(array.nbytes for array in graph.constants.values())
    out.print(f"graph '{graph.name}': {len(graph.ops)} ops, {ui.kilobytes(size)} of constants{batch}")
    table = ui.table("", "", "name", "type")
    for value in graph.inputs:
        table.add_row("input", value.name, str(value.type))
    for name, value in graph.outputs.items():
        table.add_row("output", name, str(value.type))
    out.print(table)
    macs: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for op in graph.ops:
        kind = " + ".join(part.kind for part in op.body.ops) if op.kind == "fused" else op.kind
        count[kind] += 1
        macs[kind] += multiply_accumulates(op)
    kinds = ui.table("", "op", "times", "MACs", right=("times", "MACs"))
    for kind, times in count.most_common():
        kinds.add_row(kind, str(times), f"{macs[kind]:,}" if macs[kind] else "")
    kinds.add_section()
    kinds.add_row("all", str(sum(count.values())), f"{sum(macs.values()):,}")
    out.print(kinds)
