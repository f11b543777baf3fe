"""Fitting the costs that tiles are chosen by."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sqc
from sqc.compiler import fused_variants
from sqc.schedules import Target, lower
from sqc.schedules.tiling import COSTS, work_of
from sqc.tuning.records import Records, Trial
from tests.schedules.cases import Case

TARGET = Target.parse("icelake-server")
TRUE = COSTS["golden_cove"]


def workloads() -> list[Any]:
    """Products of several shapes, timed by costs that are known."""
    from fit_costs import Measured, estimates

    found = []
    for rows, depth, columns in ((1, 512, 256), (49, 320, 160), (196, 64, 384), (784, 256, 64), (64, 1024, 1024)):
        case = Case()
        case.emit("qfully_connected", case.u8(rows, depth), case.s8(columns, depth), case.bias(columns))
        problem: Any = lower(case.op(), TARGET).problem
        tiles = problem.tiles(TARGET)
        tiles = tiles[:: max(1, len(tiles) // 30)]
        one = Measured(work_of(problem, TARGET), dict.fromkeys(tiles, 1.0))
        times = estimates(one, TRUE, TARGET)
        found.append(Measured(one.work, dict(zip(tiles, (times / times.min()).tolist(), strict=True))))
    return found


def test_true_costs_choose_the_best() -> None:
    from fit_costs import chosen_over_best, loss

    data = workloads()
    assert chosen_over_best(data, TRUE, TARGET) == 1.0
    assert loss(data, TRUE, TARGET) < loss(data, COSTS["zen4"], TARGET)


def test_variations_change_some_costs() -> None:
    from fit_costs import varied

    rng = random.Random(0)
    costs: Any = TRUE
    for _ in range(200):
        costs = varied(costs, rng)
    assert costs.epilogue != TRUE.epilogue and costs.step != TRUE.step and costs.tile != TRUE.tile


def test_the_walk_never_loses() -> None:
    from fit_costs import fit, loss

    data, start = workloads(), replace(TRUE, weights=0.2, tile=60.0)
    assert loss(data, fit(data, start, TARGET, 0.5), TARGET) <= loss(data, start, TARGET)


def test_records_without_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fit_costs

    monkeypatch.setattr("sys.argv", ["fit_costs.py", "--records", str(tmp_path / "none"), "--models", "mlp"])
    with pytest.raises(SystemExit, match="has no trials of these models"):
        fit_costs.main()


def test_trials_are_found(tmp_path: Path) -> None:
    """Those of one thread that were measured, of the models' own workloads."""
    import fit_costs
    from timed_models import choose

    native = Target.parse("native")
    with choose("mlp") as models:
        graph = sqc.import_onnx(models[0].path)
        calibration = sqc.calibrate(graph, [models[0].inputs()])
        (variant,) = fused_variants(graph, calibration)
        op = next(op for op in variant.graph.ops if "gemm" in op.label())
        kernel = lower(op, native, variant.graph.constants)
        problem: Any = kernel.problem
        first, second, third, *_ = problem.tiles(native)
        records = Records(tmp_path / "records")
        for tile, threads, error in (
            (first, (1,), ""),
            (second, (1,), ""),
            (third, (1,), "it crashed"),
            (third, (2,), ""),
        ):
            records.append(Trial(kernel.workload, threads, tile, 0.5 if tile == second else 1.0, 1e-6, first, error))
        (found,) = fit_costs.measured(models, Records(tmp_path / "records"), native)
    assert dict(found.ratios) == {first: 2.0, second: 1.0}
