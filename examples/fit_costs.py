"""Fits the costs that tiles are chosen by (``COSTS`` in ``schedules/tiling.py``) to what tuning measured on a core.

    SQC_TEST_DATA=folder python examples/fit_costs.py --records FILE [--models a,b] [--target native] [--seconds 60]

The records are those of ``examples/tuning.py`` or ``sqc tune`` with one thread; more models and more candidates an op
make a better fit. Prints the costs, and how much longer than the best candidate the chosen ones take, before and after.
Needs ``pip install 'sqc[compile]'``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from timed_models import TimedModel, choose

import sqc
from sqc.compiler import fused_variants
from sqc.schedules import Target, lower
from sqc.schedules.microkernel import Tile
from sqc.schedules.tiling import (
    COSTS,
    TASK_CYCLES,
    AnyProduct,
    Costs,
    StepCosts,
    Work,
    register_tile_cycles,
    task_cycles,
    work_of,
)
from sqc.tuning.records import Records, Trial

SHARPNESS = 0.01
"""Tiles whose estimates are so near, as a share, count about alike: what is chosen shall not hang on nothing."""
ABSOLUTE = 0.15
"""The weight of estimates' own errors beside what their choices lose."""


@dataclass(frozen=True)
class Measured:
    """A workload, and the times of its candidates over that of the best."""

    work: Work
    ratios: Mapping[Tile, float]


def measured(models: Sequence[TimedModel], records: Records, target: Target) -> Iterator[Measured]:
    """The workloads of models of which records hold trials with one thread."""
    trials: dict[str, dict[Tile, float]] = {}
    for entry in records.entries:
        if isinstance(entry, Trial) and entry.threads == (1,) and not entry.error:
            trials.setdefault(entry.workload, {})[entry.tile] = entry.ratio
    for model in models:
        graph = sqc.import_onnx(model.path)
        calibration = sqc.calibrate(graph, [model.inputs()])
        for variant in fused_variants(graph, calibration):
            for stage in variant.stages:
                for op in stage.graph.ops:
                    if op.kind == "reshape":
                        continue
                    kernel = lower(op, target, stage.graph.constants)
                    found = trials.pop(kernel.workload, {})
                    if len(found) > 1 and isinstance(kernel.problem, AnyProduct):
                        best = min(found.values())
                        ratios = {tile: ratio / best for tile, ratio in found.items()}
                        yield Measured(work_of(kernel.problem, target), MappingProxyType(ratios))


def estimates(one: Measured, costs: Costs, target: Target) -> np.ndarray:
    """Cycles of each candidate on one thread."""
    found = []
    for tile in one.ratios:
        register_tile = register_tile_cycles(one.work, tile.rows, tile.vectors, target, costs)
        cycles = task_cycles(one.work, tile, register_tile, costs) + TASK_CYCLES
        found.append(one.work.blocks(tile) * tile.parts * cycles)
    return np.array(found)


def loss(data: Sequence[Measured], costs: Costs, target: Target) -> float:
    """What choices lose, as the mean of logarithms, with a little of how wrong the estimates are among themselves."""
    total = 0.0
    for one in data:
        cycles, times = np.log(estimates(one, costs, target)), np.log(list(one.ratios.values()))
        likely = np.exp((cycles.min() - cycles) / SHARPNESS)
        error = cycles - times
        total += float((likely * times).sum() / likely.sum()) + ABSOLUTE * float(error.var())
    return total / len(data)


def chosen_over_best(data: Sequence[Measured], costs: Costs, target: Target) -> float:
    """The geometric mean of what the chosen candidate takes over the best."""
    ratios = [list(one.ratios.values())[int(estimates(one, costs, target).argmin())] for one in data]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def varied(costs: Costs, random: random.Random) -> Costs:
    """The costs with one to three of their numbers changed."""

    def change(number: float) -> float:
        if number and random.random() < 0.9:
            return number * math.exp(random.gauss(0, 0.25))
        return random.choice((0.0, 0.01, 0.1, 1.0))

    names: list[Any] = [field.name for field in dataclasses.fields(costs) if field.name not in ("epilogue", "step")]
    places = [("", name) for name in names] + [("epilogue", lanes) for lanes in costs.epilogue]
    if costs.step is not None:
        places += [("step", field.name) for field in dataclasses.fields(StepCosts)]
    for where, name in random.sample(places, random.choice((1, 1, 2, 3))):
        if where == "epilogue":
            costs = dataclasses.replace(costs, epilogue={**costs.epilogue, name: change(costs.epilogue[name])})
        elif where == "step":
            assert costs.step is not None
            step = dataclasses.replace(costs.step, **{name: change(getattr(costs.step, name))})
            costs = dataclasses.replace(costs, step=step)
        else:
            costs = dataclasses.replace(costs, **{name: change(getattr(costs, name))})
    return costs


def fit(data: Sequence[Measured], costs: Costs, target: Target, seconds: float) -> Costs:
    """The best costs that a random walk of so many seconds finds."""
    rng, least, end = random.Random(0), loss(data, costs, target), time.monotonic() + seconds
    while time.monotonic() < end:
        other = varied(costs, rng)
        if (found := loss(data, other, target)) < least:
            least, costs = found, other
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the costs that tiles are chosen by to tuning records.")
    parser.add_argument("--records", type=Path, required=True, help="tuning records of one thread")
    parser.add_argument("--models", default="", help="names by commas; default: all")
    parser.add_argument("--target", default="native", help="what the records were made for")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to search")
    arguments = parser.parse_args()
    target = Target.parse(arguments.target)
    with choose(arguments.models) as models:
        data = list(measured(models, Records(arguments.records), target))
    if not data:
        raise SystemExit(f"{arguments.records} has no trials of these models for {target.name} with one thread")
    before = COSTS[target.core]
    after = fit(data, before, target, arguments.seconds)
    print(f"{len(data)} workloads, {sum(len(one.ratios) for one in data)} candidates")
    print(
        f"chosen over best: {chosen_over_best(data, before, target):.4f} -> {chosen_over_best(data, after, target):.4f}"
    )
    print(after)


if __name__ == "__main__":
    main()
