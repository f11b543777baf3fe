"""``sqc compile``: an ONNX model and calibration data in, a shared library out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqc.errors import CalibrationError, InputError
from sqc.modes import MODES

if TYPE_CHECKING:
    from sqc.accuracy.mixed import MixedPrecision
    from sqc.calibration import Calibration, Ranges
    from sqc.ir import Graph
    from sqc.modes import Mode
    from sqc.passes.base import Pass
    from sqc.recipe import Recipe

INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, path_type=Path)


def _recipe(_ctx: click.Context, _param: click.Parameter, name: str) -> Recipe:
    from sqc.recipe import recipe_of

    return recipe_of(name)


preset_option = click.option(
    "--preset",
    default="fast",
    show_default=True,
    callback=_recipe,
    help="How near to float: fast, accurate or best.",
)
ranges_option = click.option(
    "--ranges",
    multiple=True,
    metavar="[PATTERN=]SETTINGS",
    help="How ranges are chosen: minmax, l2, l1, kl, p99.9, output ..., for all tensors or for kinds of ops and names "
    "(conv2d=kl, '/head/*=minmax'); repeatable, the last one that matches counts. Settings with commas: symmetric, "
    "power-of-two, bits:7, weights:l2, weight-bits:7, weight-sharing:group, weight-power-of-two.",
)


def _batches(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[int, ...]:
    numbers = [number for text in texts for number in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise click.BadParameter(f"{','.join(texts)!r} is not a list of positive numbers, like 1,8,32")
    return tuple(dict.fromkeys(map(int, numbers)))


batch_option = click.option(
    "--batch",
    default=("1",),
    multiple=True,
    callback=_batches,
    metavar="N[,N...]",
    help="Leading dimensions; default: 1.",
)


@click.command(short_help="Compile a model to a shared library.")
@click.argument("model", type=INPUT)
@click.option("--calibration-data", type=INPUT, help="An .npz with one array an input, by name; or an .npy.")
@click.option(
    "--calibration",
    "saved",
    type=INPUT,
    help="A calibration of `sqc calibrate`, or a file of DNNLOWP: histograms, min-max, column-max or qparams.",
)
@click.option("--float", "as_float", is_flag=True, help="Compile in float32, without calibration.")
@click.option("-o", "--output", type=OUTPUT, help="The library to write; default: MODEL with the suffix .so.")
@click.option(
    "--target",
    default="native",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="An instruction set, or this machine's; of several, loading picks the best.",
)
@batch_option
@preset_option
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="static",
    show_default=True,
    help="Scales of activations by calibration, or at run time for each row or tensor; or small weights alone.",
)
@ranges_option
@click.option("--exclude", multiple=True, metavar="NODE", help="A node of the model that stays in float; repeatable.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0),
    help="Stay within so many points of float, by layers in float; gain by 4 bits.",
)
@click.option("--eval-data", type=INPUT, help="Inputs that judge --max-drop; default: held back from calibration.")
@click.option("--labels", type=INPUT, help="Classes of --eval-data: points of top-1, not of agreement with float.")
@click.option("--records", type=INPUT, help="Tuning records of `sqc tune`, whose tiles go before the model's choice.")
@click.option("--require-int8", is_flag=True, help="Fail, with a list, if layers or roundings remain in float.")
@click.option("--print-after", multiple=True, metavar="PASS", help="Print the graph after this pass; repeatable.")
@click.option("--json", "report_path", type=OUTPUT, help="Also write the report here.")
def command(
    model: Path,
    calibration_data: Path | None,
    saved: Path | None,
    as_float: bool,
    output: Path | None,
    target: str,
    batch: tuple[int, ...],
    preset: Recipe,
    mode: Mode,
    ranges: tuple[str, ...],
    exclude: tuple[str, ...],
    max_drop: float | None,
    eval_data: Path | None,
    labels: Path | None,
    records: Path | None,
    require_int8: bool,
    print_after: tuple[str, ...],
    report_path: Path | None,
) -> None:
    """Compile MODEL (.onnx, or a graph as text: .sqc) to one shared library of int8 kernels."""
    import sqc
    from sqc.cli import files, ui
    from sqc.cli.mixed import Goal, meet, print_mixed
    from sqc.cli.report import print_report
    from sqc.inspection import is_quantized
    from sqc.schedules import Target

    output = output or model.with_suffix(".so")
    rules = parse_ranges(ranges)
    Target.parse_several(target)
    printer = PassPrinter(print_after)
    graph = files.read_model(model)
    calibration: Calibration | None = None
    mixed: MixedPrecision | None = None
    if max_drop is not None:
        if as_float or is_quantized(graph):
            raise InputError("--max-drop chooses what stays in float: give a float model, and leave --float out")
        goal = Goal(max_drop, eval_data, labels)
        calibration, mixed = meet(goal, graph, calibration_data, saved, target, batch, preset, rules, exclude, records)
        exclude, rules = (*exclude, *mixed.exclude), mixed.ranges
    elif eval_data or labels:
        raise InputError("--eval-data and --labels judge --max-drop: give that too")
    elif as_float and mode != "static":
        raise InputError(f"--float and --mode {mode} exclude each other")
    elif not as_float and mode == "static" and not is_quantized(graph):
        calibration = make_calibration(graph, calibration_data, saved, exclude)
    elif calibration_data or saved:
        why = "--float needs none" if as_float else f"{model} is quantized already"
        why = why if mode == "static" else f"--mode {mode} needs none"
        raise InputError(f"calibration was given, but {why}: leave it out")
    with ui.progress() as move:
        compiled = sqc.compile(
            graph,
            calibration,
            target=target,
            batch=batch[0] if len(batch) == 1 else batch,
            preset=preset,
            mode=mode,
            ranges=rules,
            exclude=exclude,
            records=files.read_records(records),
            require_int8=require_int8,
            after=printer.after if print_after else None,
            progress=move,
        )
    compiled.save(output)
    if report_path:
        found = {"mixed_precision": mixed.to_dict()} if mixed else {}
        files.write_json(report_path, {**compiled.report.to_dict(), **found})
    print_report(compiled.report)
    if mixed:
        print_mixed(mixed)
    ui.say(f"wrote {output} ({ui.kilobytes(output.stat().st_size)})")


def make_calibration(graph: Graph, data: Path | None, saved: Path | None, exclude: Sequence[str] = ()) -> Calibration:
    """The calibration that the options ask for: a saved one, or a new one from data. Raises CalibrationError."""
    from sqc.calibration import Calibration

    if (data is None) == (saved is None):
        raise CalibrationError(
            "int8 needs one of --calibration-data FILE.npz (a few hundred typical inputs) and --calibration FILE "
            "(saved by `sqc calibrate`)"
        )
    if saved is not None:
        return Calibration.load(saved)
    assert data is not None
    return new_calibration(graph, data, exclude=exclude)


def new_calibration(graph: Graph, data: Path, **options: Any) -> Calibration:
    """A calibration from data, with these options of `sqc.calibrate`. Raises CalibrationError."""
    import sqc
    from sqc.cli import files, ui

    batches = files.calibration_batches(data, graph)
    with ui.progress() as move:
        return sqc.calibrate(graph, batches, progress=move, **options)


def parse_ranges(texts: Sequence[str]) -> Ranges:
    """What ``--ranges`` say. Raises CalibrationError before any work is done."""
    from sqc.calibration import Ranges

    return Ranges.parse(texts)


class PassPrinter:
    """Prints the graph after each run of the passes asked for. Raises CompileError for unknown names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        from sqc.passes import pipeline

        pipeline.select(names)
        self._names = frozenset(names)
        self._runs: Counter[str] = Counter()

    def after(self, step: Pass, graph: Graph) -> None:
        self._runs[step.name] += 1
        if step.name in self._names:
            click.echo(f"// after {step.name}, run {self._runs[step.name]}\n{graph}\n")
