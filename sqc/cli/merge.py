"""``sqc merge``: one calibration from those of several shards."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import click

from sqc.cli.compile import INPUT, OUTPUT


@click.command(short_help="Merge calibrations of shards into one.")
@click.argument("shards", type=INPUT, nargs=-1, required=True)
@click.option("-o", "--output", type=OUTPUT, required=True, help="The calibration to write.")
def command(shards: tuple[Path, ...], output: Path) -> None:
    """Merge the calibrations SHARDS, of one model, into one: the same bytes as one run over all data, in any order."""
    from sqc.calibration import Calibration
    from sqc.cli import ui

    calibration = reduce(Calibration.merge, map(Calibration.load, shards))
    calibration.save(output)
    ui.say(f"wrote {output}: {len(calibration.names)} tensors over {calibration.samples} samples")
