"""``sqc compile --max-drop``: which layers stay in float, which get weights of four bits, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqc.errors import InputError

if TYPE_CHECKING:
    from sqc.accuracy.mixed import MixedPrecision
    from sqc.calibration import Calibration, Ranges
    from sqc.ir import Graph
    from sqc.recipe import Recipe


@dataclass(frozen=True)
class Goal:
    """How many points may be lost, and what judges that; without ``eval_data`` a part of the calibration data does."""

    max_drop: float
    eval_data: Path | None
    labels: Path | None


def meet(
    goal: Goal,
    graph: Graph,
    calibration_data: Path | None,
    saved: Path | None,
    target: str,
    batch: tuple[int, ...],
    preset: Recipe,
    ranges: Ranges,
    exclude: tuple[str, ...],
    records: Path | None,
) -> tuple[Calibration, MixedPrecision]:
    """Calibrate, and find the layers for float and for four bits. Raises InputError where nothing can judge."""
    import sqc
    from sqc.accuracy.mixed import compile_within, hold_back
    from sqc.cli import files, ui
    from sqc.cli.compile import make_calibration

    names = [value.name for value in graph.inputs]
    if goal.eval_data is not None:
        judging = files.read_arrays(goal.eval_data, names)
        calibration = make_calibration(graph, calibration_data, saved, exclude)
    elif calibration_data is None or goal.labels:
        raise InputError(
            "--max-drop is judged by --eval-data or, without labels, by a part of --calibration-data: give one of them"
        )
    else:
        rest, judging = hold_back(graph, files.read_arrays(calibration_data, names))
        with ui.progress() as move:
            calibration = sqc.calibrate(graph, files.batches(rest, graph), exclude=exclude, progress=move)
    with ui.status("searching for the layers to leave in float and those for 4 bits"):
        mixed = compile_within(
            graph,
            calibration,
            goal.max_drop,
            judging,
            labels=files.read_labels(goal.labels) if goal.labels else None,
            target=target,
            batch=batch[0] if len(batch) == 1 else batch,
            preset=preset,
            ranges=ranges,
            exclude=exclude,
            records=files.read_records(records),
        )
    return calibration, mixed


def print_mixed(mixed: MixedPrecision) -> None:
    """What stays in float, what has four bits, and what each of these costs."""
    from sqc.cli import ui

    points = f"on {mixed.samples} samples, goal {mixed.goal:g} points"
    if not mixed.exclude:
        ui.say(f"all layers in int8 meet the goal: {mixed.int8.drop:.2f} points lost {points}")
    else:
        ui.say(f"{len(mixed.exclude)} nodes stay in float: {', '.join(mixed.exclude)}")
    if mixed.four_bits:
        ui.say(f"{len(mixed.four_bits)} nodes have weights of 4 bits: {', '.join(mixed.four_bits)}")
    if mixed.mixed == mixed.int8:
        return
    costs = ("points lost", "ms a run", "library")
    table = ui.table(f"{points}, one thread", "", *costs, right=costs)
    rows = {"as compiled": mixed.mixed, "weights in 8 bits": mixed.eight_bits, "all in int8": mixed.int8}
    for name, outcome in rows.items():
        table.add_row(name, f"{outcome.drop:.2f}", ui.milliseconds(outcome.seconds), ui.kilobytes(outcome.bytes))
    ui.console().print(table)
