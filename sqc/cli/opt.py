"""``sqc opt``: any passes on a graph, as text in and out."""

from __future__ import annotations

from pathlib import Path

import click

from sqc.cli.compile import INPUT, OUTPUT


@click.command(short_help="Run passes on a graph as text.")
@click.argument("graph", type=INPUT, required=False)
@click.option("--passes", default="", help="Names of passes, by commas, in the order to run them.")
@click.option("-o", "--output", type=OUTPUT, help="Write the graph here, its large constants beside it.")
@click.option("--print-after", multiple=True, metavar="PASS", help="Print the graph after this pass; repeatable.")
@click.option("--notes", is_flag=True, help="Print what the passes have to say on stderr.")
@click.option("--list", "list_passes", is_flag=True, help="List all passes.")
def command(
    graph: Path | None, passes: str, output: Path | None, print_after: tuple[str, ...], notes: bool, list_passes: bool
) -> None:
    """Run passes on GRAPH (a graph as text, .sqc, or an .onnx model) and print the result."""
    from sqc.cli import files
    from sqc.cli.compile import PassPrinter
    from sqc.passes import pipeline
    from sqc.passes.base import Notes

    if list_passes:
        for name, step in sorted(pipeline.PASSES.items()):
            click.echo(f"{name:24} {(step.__doc__ or '').strip().splitlines()[0]}")
        return
    if graph is None:
        raise click.UsageError("Missing argument 'GRAPH'.")
    steps = pipeline.select([name.strip() for name in passes.split(",") if name.strip()])
    printer = PassPrinter(print_after)
    remarks = Notes()
    result = pipeline.run(steps, files.read_model(graph), remarks, after=printer.after)
    if notes:
        for note in remarks:
            click.echo(str(note), err=True)
    if output is None:
        click.echo(str(result))
        return
    files.write_text_graph(result, output)
