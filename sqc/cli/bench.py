"""``sqc bench``: a model's latency, by step, and beside other engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sqc.cli.compile import INPUT, OUTPUT, preset_option, ranges_option
from sqc.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from sqc.bench.compare import Comparison
    from sqc.bench.limits import Limits
    from sqc.bench.session import Session
    from sqc.recipe import Recipe
    from sqc.runtime import Model

TOP_STEPS = 12


@click.command(short_help="Time a model, alone or beside other engines.")
@click.argument("model", type=INPUT, required=False)
@click.option("--calibration-data", type=INPUT, help="For an .onnx MODEL: an .npz with one array an input.")
@click.option("--against", default="", metavar="ENGINES", help="onnxruntime,openvino: needs an .onnx MODEL.")
@click.option("--input", "source", type=INPUT, help="Inputs to run on; default: calibration data, or random numbers.")
@click.option("--float", "with_float", is_flag=True, help="Also time sqc's own float32 build of an .onnx MODEL.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of every engine.")
@click.option("--batch", type=click.IntRange(1), help="Samples in one run; default: 1, or a library's first.")
@click.option("--target", default="native", show_default=True, help="An instruction set, or this machine's.")
@preset_option
@ranges_option
@click.option("--records", type=INPUT, help="Tuning records of `sqc tune`, for compiling an .onnx MODEL.")
@click.option("--seconds", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Time for each engine.")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Turns of each engine.")
@click.option("--profile", "with_profile", is_flag=True, help="Each kernel beside the limit that binds it.")
@click.option("--html", type=OUTPUT, help="Write the profile here, as a page with a roofline plot.")
@click.option("--peak", is_flag=True, help="Measure the limits of this machine's cores; MODEL may be left out.")
@click.option("--all-steps", is_flag=True, help="Show every step of the profile.")
@click.option("--json", "json_path", type=OUTPUT, help="Write all figures here.")
def command(
    model: Path | None,
    calibration_data: Path | None,
    against: str,
    source: Path | None,
    with_float: bool,
    threads: int,
    batch: int | None,
    target: str,
    preset: Recipe,
    ranges: tuple[str, ...],
    records: Path | None,
    seconds: float,
    rounds: int,
    with_profile: bool,
    html: Path | None,
    peak: bool,
    all_steps: bool,
    json_path: Path | None,
) -> None:
    """Time MODEL: a library (.so), or an .onnx model that is compiled first and can be run by other engines too."""
    if model is None:
        if not peak or with_profile or html or against:
            raise click.UsageError("give a MODEL; only --peak, the limits of this machine, does without one")
        show_limits(target, threads, seconds, json_path)
        return
    if html:
        import matplotlib  # noqa: F401 (tells now that it is missing, not after the measurements)
    import sqc
    from sqc.bench.compare import compare
    from sqc.bench.peers import load_peer
    from sqc.bench.session import Session, prepare
    from sqc.cli import files, ui

    peers = [load_peer(name.strip()) for name in against.split(",") if name.strip()]
    data: dict[str, np.ndarray] | None = None
    if model.suffix == ".onnx":
        from sqc.cli.compile import parse_ranges

        if calibration_data is None:
            raise InputError("an .onnx model is compiled first: give --calibration-data FILE.npz, or a compiled .so")
        rules = parse_ranges(ranges)
        batch = batch or 1
        graph = files.read_model(model)
        data = files.read_arrays(calibration_data, [value.name for value in graph.inputs])
        session = prepare(
            model,
            graph,
            data,
            peers,
            batch=batch,
            target=target,
            preset=preset,
            ranges=rules,
            records=files.read_records(records),
            with_float=with_float,
            stage=ui.status,
        )
    elif peers or with_float or calibration_data or records or preset.needs_inputs:
        raise InputError(
            "--against, --float, --calibration-data, --preset and --records need the .onnx model, not a library"
        )
    else:
        session = Session(sqc.load(model))
    if source is not None:
        data = files.read_arrays(source, [spec.name for spec in session.model.inputs])
    samples = choose_samples(session.model, data, batch)
    comparison = compare(
        session.model,
        samples,
        session.rivals,
        name=model.name,
        threads=threads,
        own=session.own,
        seconds=seconds,
        rounds=rounds,
    )
    profiled = bool(with_profile or html)
    print_comparison(comparison, 0 if profiled else None if all_steps else TOP_STEPS)
    figures = comparison.to_dict()
    if profiled:
        figures["kernel_profile"] = show_profile(session, samples[0], threads, seconds, comparison.model, html)
    elif peak:
        figures["limits"] = measure_limits(str(session.model.description["target"]), threads, seconds).to_dict()
    if json_path:
        files.write_json(json_path, figures)


def show_limits(target: str, threads: int, seconds: float, json_path: Path | None) -> None:
    """Measure and print the limits alone, and write them as JSON."""
    from sqc.bench.machine import machine
    from sqc.cli import files

    limits = measure_limits(target, threads, seconds)
    if json_path:
        files.write_json(json_path, {"machine": machine(), "limits": limits.to_dict()})


def measure_limits(target: str, threads: int, seconds: float) -> Limits:
    """Measure the limits of this machine and print them."""
    from sqc.bench.limits import Probe
    from sqc.bench.tables import limits_table
    from sqc.cli import ui
    from sqc.schedules import Target

    with ui.status("measuring the limits"):
        probe = Probe(Target.parse(target), threads)
        probe.run(seconds)
    ui.show(limits_table(probe.limits))
    return probe.limits


def show_profile(
    session: Session, sample: Mapping[str, np.ndarray], threads: int, seconds: float, name: str, html: Path | None
) -> dict[str, Any]:
    """Profile the session's model and print limits, kernels and depthwise layers; the figures for JSON."""
    from sqc.bench.limits import Probe
    from sqc.bench.machine import machine
    from sqc.bench.profile import profile
    from sqc.bench.tables import depthwise_table, kernels_table, limits_table
    from sqc.cli import files, ui
    from sqc.schedules import Target

    with ui.status("profiling"):
        probe = Probe(Target.parse(str(session.model.description["target"])), threads)
        result = profile(session.model, sample, probe, session.rivals, threads=threads, seconds=seconds)
    tables = [limits_table(result.limits), kernels_table(result)]
    depthwise = depthwise_table(result)
    if depthwise:
        tables.append(depthwise)
    for table in tables:
        ui.show(table)
    if html:
        from sqc.bench.roofline import svg
        from sqc.page import page

        batch = next(iter(sample.values())).shape[0]
        title = f"{name}, batch {batch}, {threads} thread(s), {machine()['processor']}"
        with files.replacing(html) as temporary:
            temporary.write_text(page(title, [svg(result), *tables]), encoding="utf-8")
        ui.say(f"wrote {html}")
    return result.to_dict()


def choose_samples(model: Model, data: dict[str, np.ndarray] | None, batch: int | None) -> list[dict[str, np.ndarray]]:
    """What the timed runs rotate over: pieces of ``data``, or random numbers. Raises InputError for another batch."""
    from sqc.bench.compare import SAMPLES, random_samples
    from sqc.bench.session import rotated

    sizes = [variant.shapes[0][0] if variant.shapes[0] else 1 for variant in model.variants]
    batch = batch or sizes[0]
    if batch not in sizes:
        raise InputError(f"the library was compiled for batch {', '.join(map(str, sizes))}, not {batch}")
    if data is None:
        return random_samples(model.variants[sizes.index(batch)].inputs)
    samples = rotated(data, batch, SAMPLES)
    if not samples:
        raise InputError(f"the inputs hold less than one batch of {batch}")
    return samples


def print_comparison(comparison: Comparison, steps: int | None = None) -> None:
    """The latencies with the ratio to each engine, and the slowest ``steps`` steps of sqc's model (None: all)."""
    from sqc.cli import ui

    out = ui.console()
    title = f"{comparison.model}, batch {comparison.batch}, {comparison.threads} thread(s)"
    columns = ("median ms", "best ms", "quartiles ms", "runs", "sqc takes")
    table = ui.table(title, "engine", *columns, right=columns)
    ratios = comparison.ratios()
    for name, timing in comparison.timings.items():
        ratio = f"{ratios[name]:.2f} x its time" if name in ratios else ""
        quartiles = " - ".join(map(ui.milliseconds, timing.quartiles))
        table.add_row(
            name, ui.milliseconds(timing.median), ui.milliseconds(timing.best), quartiles, str(timing.calls), ratio
        )
    out.print(table)
    if steps == 0:
        return
    total = sum(seconds for _, seconds in comparison.profile) or 1.0
    slowest = sorted(comparison.profile, key=lambda step: -step[1])[:steps]
    profile = ui.table("slowest steps of sqc's model", "step", "ms", "share", right=("ms", "share"))
    for name, seconds in slowest:
        profile.add_row(name, ui.milliseconds(seconds), f"{seconds / total:.1%}")
    rest = total - sum(seconds for _, seconds in slowest)
    if len(slowest) < len(comparison.profile):
        count = len(comparison.profile) - len(slowest)
        profile.add_row(f"{count} others", ui.milliseconds(rest), f"{rest / total:.1%}")
    out.print(profile)
