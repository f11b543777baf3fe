"""``sqc tune``: measure tiles for a model's kernels, and keep records of them for later compiles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqc.cli.compile import INPUT, OUTPUT, batch_option, preset_option, ranges_option
from sqc.errors import InputError

if TYPE_CHECKING:
    from sqc.recipe import Recipe
    from sqc.tuning import Tuning

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    """Seconds, from ``90``, ``90s``, ``10m`` or ``1.5h``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or not float(match[1]):
        raise click.BadParameter(f"{text!r} is no time; write for example 90s, 10m or 1h")
    return float(match[1]) * _UNITS[match[2]]


@click.command(short_help="Measure better tiles for a model's kernels.")
@click.argument("model", type=INPUT)
@click.option("--calibration-data", type=INPUT, help="An .npz with one array an input, by name; or an .npy.")
@click.option("--calibration", "saved", type=INPUT, help="A calibration that `sqc calibrate` saved.")
@click.option("--records", type=OUTPUT, required=True, help="The file to add to; it is made if there is none.")
@click.option(
    "--time-budget", callback=duration, metavar="TIME", help="When to stop: 90s, 10m, 1h; default: when all is tried."
)
@click.option("--threads", type=click.IntRange(1), multiple=True, default=(1,), help="Threads to tune for; repeatable.")
@batch_option
@click.option("--target", default="native", show_default=True, help="An instruction set, or this machine's.")
@preset_option
@ranges_option
@click.option("--exclude", multiple=True, metavar="NODE", help="A node of the model that stays in float; repeatable.")
@click.option("--candidates", type=click.IntRange(2), help="Tiles to try for an op, at most; default: 24.")
@click.option("--rpc-tracker", metavar="HOST:PORT", help="Measure on the servers of this tracker of TVM's RPC.")
@click.option("--rpc-key", default="", metavar="KEY", help="What the tracker calls the servers to use.")
@click.option("--json", "json_path", type=OUTPUT, help="Write all figures here.")
def command(
    model: Path,
    calibration_data: Path | None,
    saved: Path | None,
    records: Path,
    time_budget: float | None,
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    target: str,
    preset: Recipe,
    ranges: tuple[str, ...],
    exclude: tuple[str, ...],
    candidates: int | None,
    rpc_tracker: str | None,
    rpc_key: str,
    json_path: Path | None,
) -> None:
    """Find better tiles for the kernels of MODEL (.onnx, or a graph as text: .sqc), for `sqc compile --records`.

    Stop it whenever you like: what was found is in the records, and the same command goes on from there.
    """
    import sqc
    from sqc.cli import files, ui
    from sqc.cli.commands import INTERRUPTED
    from sqc.cli.compile import make_calibration, parse_ranges
    from sqc.inspection import is_quantized
    from sqc.schedules import Target
    from sqc.tuning.space import CANDIDATES

    Target.parse(target)
    if (rpc_tracker is None) != (not rpc_key):
        raise InputError("--rpc-tracker HOST:PORT and --rpc-key KEY go together")
    rules = parse_ranges(ranges)
    graph = files.read_model(model)
    calibration = None if is_quantized(graph) else make_calibration(graph, calibration_data, saved, exclude)
    with ui.progress() as move:
        tuning = sqc.tune(
            graph,
            calibration,
            records=records,
            target=target,
            batch=batch[0] if len(batch) == 1 else batch,
            threads=threads,
            candidates=candidates or CANDIDATES,
            time_budget=time_budget,
            preset=preset,
            ranges=rules,
            exclude=exclude,
            tracker=rpc_tracker,
            key=rpc_key,
            progress=move,
        )
    print_tuning(tuning)
    if json_path:
        files.write_json(json_path, tuning.to_dict())
    files.warn_of_damage(records, tuning.damaged_lines)
    if not tuning.finished:
        why = "interrupted" if tuning.interrupted else "out of time"
        ui.warn(f"{why}; {records} holds what was found, and the same command goes on from there")
    if tuning.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)


def print_tuning(tuning: Tuning) -> None:
    """The candidates and the choice for each op, and the model as a whole."""
    from sqc.cli import ui

    out = ui.console()
    times = ("untuned us", "best us", "median us", "worst us", "tuned us")
    table = ui.table("kernels", "op", "ops", "tried", *times, "gain", "tile", right=("ops", "tried", *times, "gain"))
    for op in tuning.ops:
        gain = f"{1 - op.tuned / op.untuned:.1%}" if op.changed and op.untuned else ""
        seconds = (op.untuned, op.best, op.median, op.worst, op.tuned)
        tried = f"{op.tried}" if not op.failed else f"{op.tried} ({op.failed} failed)"
        table.add_row(
            op.name, str(op.count), tried, *(f"{s * 1e6:.2f}" if s else "" for s in seconds), gain, str(op.tile)
        )
    out.print(table)
    for op in tuning.ops:
        if op.note:
            ui.say(f"{op.name}: {op.note}")
    if tuning.whole:
        columns = ("untuned ms", "tuned ms", "tuned / untuned")
        whole = ui.table("the model", "batch", "threads", *columns, right=("batch", "threads", *columns))
        for model in tuning.whole:
            figures = ui.milliseconds(model.untuned), ui.milliseconds(model.tuned), f"{model.ratio:.3f}"
            whole.add_row(str(model.batch), str(model.threads), *figures)
        out.print(whole)
    changed = sum(op.changed for op in tuning.ops)
    ui.say(
        f"tuned {changed} of {len(tuning.ops)} kernels in {tuning.seconds:.0f} s; the others keep the model's choice"
    )
