"""``sqc compare``: a quantized model beside the float one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqc.cli.compile import INPUT, OUTPUT, preset_option, ranges_option
from sqc.errors import InputError

if TYPE_CHECKING:
    from sqc.recipe import Recipe


@click.command(short_help="Compare a model in int8 with the same in float.")
@click.argument("model", type=INPUT)
@click.option("--compiled", type=INPUT, help="The library that MODEL was compiled to; default: compile it now.")
@click.option("--calibration-data", type=INPUT, help="An .npz with one array an input, by name; or an .npy.")
@click.option("--calibration", "saved", type=INPUT, help="A calibration that `sqc calibrate` saved.")
@click.option("--eval-data", type=INPUT, required=True, help="Inputs to compare on: like the calibration data.")
@click.option("--labels", type=INPUT, help="The class of each input: one integer array, as .npy or .npz.")
@preset_option
@ranges_option
@click.option("--exclude", multiple=True, metavar="NODE", help="A node of the model that stays in float; repeatable.")
@click.option("--target", default="native", show_default=True, help="An instruction set, or this machine's.")
@click.option("--json", "json_path", type=OUTPUT, help="Write all figures here.")
def command(
    model: Path,
    compiled: Path | None,
    calibration_data: Path | None,
    saved: Path | None,
    eval_data: Path,
    labels: Path | None,
    preset: Recipe,
    ranges: tuple[str, ...],
    exclude: tuple[str, ...],
    target: str,
    json_path: Path | None,
) -> None:
    """Run MODEL (.onnx, or a float graph as text) in int8 and in float on the same data."""
    import sqc
    from sqc.accuracy.compare import compare
    from sqc.accuracy.tables import comparison_table
    from sqc.cli import files, ui
    from sqc.cli.compile import make_calibration, parse_ranges

    graph = files.read_model(model)
    rules = parse_ranges(ranges)
    data = files.read_arrays(eval_data, [value.name for value in graph.inputs])
    classes = files.read_labels(labels) if labels else None
    if compiled is not None:
        if calibration_data or saved or exclude or ranges or preset.needs_inputs:
            raise InputError("--compiled is taken as it is: leave calibration, --preset, --ranges and --exclude out")
        library = sqc.load(compiled, threads=0)
    else:
        calibration = make_calibration(graph, calibration_data, saved, exclude)
        with ui.status("compiling"):
            library = sqc.compile(graph, calibration, target=target, preset=preset, ranges=rules, exclude=exclude).load(
                0
            )
    with ui.status("comparing"):
        outputs = compare(graph, library, data, classes, target=target)
    samples = len(next(iter(data.values())))
    ui.show(comparison_table(outputs, samples))
    if json_path:
        files.write_json(json_path, {"samples": samples, "outputs": [output.to_dict() for output in outputs]})
