"""``sqc calibrate``: what the tensors of a model look like, saved for later compiles."""

from __future__ import annotations

import re
from pathlib import Path

import click

from sqc.cli.compile import INPUT, OUTPUT, ranges_option
from sqc.errors import InputError


def _shard(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{value!r} is no shard: write 1/3, 2/3 or 3/3 for the thirds")
    return int(match[1]), int(match[2])


@click.command(short_help="Record a calibration for later compiles.")
@click.argument("model", type=INPUT)
@click.option("--calibration-data", type=INPUT, required=True, help="An .npz with one array an input, by its name.")
@click.option("-o", "--output", type=OUTPUT, help="The file to write; default: MODEL with the suffix .calibration.")
@click.option("--shard", default="1/1", callback=_shard, metavar="I/N", help="Take every N-th batch from the I-th on.")
@click.option("--target", default="native", show_default=True, help="The instruction set to run with.")
@click.option("--keep", type=click.IntRange(0), help="How many input samples to keep in the file; default: 128.")
@click.option("--dnnlowp-histogram", type=OUTPUT, help="Also write a histogram file of Caffe2's DNNLOWP.")
@click.option("--dnnlowp-minmax", type=OUTPUT, help="Also write a min-max file of Caffe2's DNNLOWP.")
@click.option("--dnnlowp-columns", type=OUTPUT, help="Also write a column-max file of Caffe2's DNNLOWP.")
@click.option("--dnnlowp-qparams", type=OUTPUT, help="Also write the parameters chosen by --ranges, for DNNLOWP.")
@ranges_option
def command(
    model: Path,
    calibration_data: Path,
    output: Path | None,
    shard: tuple[int, int],
    target: str,
    keep: int | None,
    dnnlowp_histogram: Path | None,
    dnnlowp_minmax: Path | None,
    dnnlowp_columns: Path | None,
    dnnlowp_qparams: Path | None,
    ranges: tuple[str, ...],
) -> None:
    """Record statistics of MODEL's activations, for `sqc compile --calibration`.

    The N shards of the same data, recorded anywhere for one target, are put together by `sqc merge`.
    """
    from sqc.calibration import KEPT_SAMPLES
    from sqc.calibration.dnnlowp_files import write_column_maxima, write_histograms, write_minmax, write_parameters
    from sqc.cli import files, ui
    from sqc.cli.compile import new_calibration, parse_ranges
    from sqc.quantizing import activation_parameters

    if ranges and not dnnlowp_qparams:
        raise InputError("--ranges choose what --dnnlowp-qparams writes: a calibration itself holds none")
    rules = parse_ranges(ranges)
    output = output or model.with_suffix(".calibration")
    graph = files.read_model(model)
    calibration = new_calibration(
        graph,
        calibration_data,
        shard=shard,
        target=target,
        keep=KEPT_SAMPLES if keep is None else keep,
    )
    calibration.save(output)
    if dnnlowp_histogram:
        write_histograms(calibration.statistics, dnnlowp_histogram)
    if dnnlowp_minmax:
        write_minmax(calibration.statistics, dnnlowp_minmax)
    if dnnlowp_columns:
        write_column_maxima(calibration.statistics, dnnlowp_columns)
    if dnnlowp_qparams:
        write_parameters(activation_parameters(graph, calibration, rules), dnnlowp_qparams)
    ui.say(f"wrote {output}: {len(calibration.names)} tensors over {calibration.samples} samples")
