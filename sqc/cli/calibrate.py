"""``sqc calibrate``: what the tensors of a model look like, saved for later compiles."""

from __future__ import annotations

from pathlib import Path

import click

from sqc.cli.compile import INPUT, OUTPUT


@click.command(short_help="Record a calibration for later compiles.")
@click.argument("model", type=INPUT)
@click.option("--calibration-data", type=INPUT, required=True, help="An .npz with one array an input, by its name.")
@click.option("-o", "--output", type=OUTPUT, help="The file to write; default: MODEL with the suffix .calibration.")
def command(model: Path, calibration_data: Path, output: Path | None) -> None:
    """Record histograms of MODEL's activations, for `sqc compile --calibration`."""
    from sqc.cli import files, ui
    from sqc.cli.compile import make_calibration

    output = output or model.with_suffix(".calibration")
    calibration = make_calibration(files.read_model(model), calibration_data, None)
    with files.replacing(output) as temporary:
        calibration.save(temporary)
    ui.say(f"wrote {output}: {len(calibration.names)} tensors over {calibration.samples} samples")
