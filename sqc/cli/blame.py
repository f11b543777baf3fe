"""``sqc blame``: which layers lose a model's accuracy, and what would mend it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqc.cli.compile import INPUT, OUTPUT, preset_option, ranges_option
from sqc.errors import InputError

if TYPE_CHECKING:
    from sqc.ir import Graph
    from sqc.recipe import Recipe

SHOWN = 20


@click.command(short_help="Find the layers that lose a model's accuracy.")
@click.argument("model", type=INPUT)
@click.option("--calibration-data", type=INPUT, help="An .npz with one array an input, by name; or an .npy.")
@click.option("--calibration", "saved", type=INPUT, help="A calibration that `sqc calibrate` saved.")
@click.option("--quantized", type=INPUT, help="A quantized graph of MODEL (.sqc) to look into, without calibration.")
@click.option("--eval-data", type=INPUT, required=True, help="Inputs to measure on: like the calibration data.")
@click.option("--samples", type=click.IntRange(1), default=64, show_default=True, help="Of these, the first so many.")
@click.option("--mend", type=click.IntRange(0), default=3, show_default=True, help="Measure so many exclusions.")
@preset_option
@ranges_option
@click.option("--exclude", multiple=True, metavar="NODE", help="A node of the model that stays in float; repeatable.")
@click.option("--target", default="native", show_default=True, help="An instruction set, or this machine's.")
@click.option("--all", "show_all", is_flag=True, help="Show all layers, not only the worst.")
@click.option("--html", type=OUTPUT, help="Write a page here, with histograms, ranges and weights by channel.")
@click.option("--json", "json_path", type=OUTPUT, help="Write all figures here.")
def command(
    model: Path,
    calibration_data: Path | None,
    saved: Path | None,
    quantized: Path | None,
    eval_data: Path,
    samples: int,
    mend: int,
    preset: Recipe,
    ranges: tuple[str, ...],
    exclude: tuple[str, ...],
    target: str,
    show_all: bool,
    html: Path | None,
    json_path: Path | None,
) -> None:
    """Rank the layers of MODEL (.onnx, or a float graph as text) by what quantizing them does to its outputs."""
    from sqc.accuracy.blame import blame
    from sqc.accuracy.tables import blame_page, blame_table
    from sqc.cli import files, ui
    from sqc.cli.compile import make_calibration, parse_ranges
    from sqc.quantizing import Quantized, quantize_beside_float

    graph = files.read_model(model)
    rules = parse_ranges(ranges)
    data = files.read_arrays(eval_data, [value.name for value in graph.inputs])
    if quantized is not None:
        if calibration_data or saved or exclude or ranges or preset.needs_inputs:
            raise InputError(
                "--quantized takes the graph as it is: leave calibration, --preset, --ranges and --exclude out"
            )
        beside, requantize = Quantized(graph, files.read_model(quantized)), None
    else:
        calibration = make_calibration(graph, calibration_data, saved, exclude)

        def quantize(more: frozenset[str]) -> Quantized:
            return quantize_beside_float(
                graph, calibration, preset=preset, ranges=rules, exclude={*exclude, *more}, target=target
            )

        def requantize(more: frozenset[str]) -> Graph:
            return quantize(more).graph

        beside = quantize(frozenset())
    with ui.progress() as move:
        report = blame(
            beside.float_graph,
            beside.graph,
            data,
            requantize=requantize,
            mended=mend,
            samples=samples,
            target=target,
            progress=move,
        )
    ui.show(blame_table(report, None if show_all else SHOWN))
    if html:
        with files.replacing(html) as temporary:
            temporary.write_text(blame_page(report, f"{model.name}: layers by damage"), encoding="utf-8")
        ui.say(f"wrote {html}")
    if json_path:
        files.write_json(json_path, report.to_dict())
