"""``sqc export``: what sqc quantizes, as an ONNX model for other engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqc.cli.compile import INPUT, OUTPUT, preset_option, ranges_option

if TYPE_CHECKING:
    from sqc.recipe import Recipe


@click.command(short_help="Write the quantized model as QDQ ONNX.")
@click.argument("model", type=INPUT)
@click.option("--calibration-data", type=INPUT, help="An .npz with one array an input, by name; or an .npy.")
@click.option("--calibration", "saved", type=INPUT, help="A calibration that `sqc calibrate` saved.")
@click.option("-o", "--output", type=OUTPUT, help="The file to write; default: MODEL with the suffix .qdq.onnx.")
@preset_option
@ranges_option
@click.option("--exclude", multiple=True, metavar="NODE", help="A node of the model that stays in float; repeatable.")
def command(
    model: Path,
    calibration_data: Path | None,
    saved: Path | None,
    output: Path | None,
    preset: Recipe,
    ranges: tuple[str, ...],
    exclude: tuple[str, ...],
) -> None:
    """Quantize MODEL and write it with QuantizeLinear and DequantizeLinear, which ONNX Runtime and others run."""
    import sqc
    from sqc.cli import files, ui
    from sqc.cli.compile import make_calibration, parse_ranges
    from sqc.inspection import is_quantized

    output = output or model.with_suffix(".qdq.onnx")
    rules = parse_ranges(ranges)
    graph = files.read_model(model)
    calibration = None if is_quantized(graph) else make_calibration(graph, calibration_data, saved, exclude)
    exported = sqc.export_qdq(sqc.quantize(graph, calibration, preset=preset, ranges=rules, exclude=exclude))
    with files.replacing(output) as temporary:
        temporary.write_bytes(exported.SerializeToString(deterministic=True))
    ui.say(f"wrote {output} ({ui.kilobytes(output.stat().st_size)})")
