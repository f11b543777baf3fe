"""Tuning ops and models from end to end, for seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sqc
from sqc.codegen import stages
from sqc.errors import CompileError
from sqc.ir import Quantization, TensorType
from sqc.schedules import Target
from sqc.tuning import Choice, Records, Trial, tune_op
from tests.cli.conftest import DIGITS, Sqc
from tests.cli.conftest import sqc as sqc_command  # noqa: F401

X = TensorType((40, 32), "uint8", Quantization.per_tensor(0.125, 3))
OPERANDS = (X, TensorType((48, 32), "int8"), TensorType((48,), "int32"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuning.records"


def choose_others(graph: sqc.ir.Graph, path: Path) -> int:
    """Record for every kernel of a model a tile that is not the model's choice; gives their number."""
    from sqc.compiler import fused_variants
    from sqc.schedules import Tunable, lower

    records = Records(path)
    fused = fused_variants(graph)[0].graph
    for op in fused.ops:
        kernel = lower(op, Target.parse("native"), fused.constants)
        if isinstance(kernel.problem, Tunable) and len(tiles := kernel.problem.tiles(kernel.target)) > 1:
            records.append(Choice(kernel.workload, (1,), tiles[-1], 0.5, 0.01, tiles[0], 24))
    return len(records.entries)


def test_one_op(path: Path) -> None:
    op = tune_op("qfully_connected", *OPERANDS, records=path, candidates=4)
    assert op.tried == 4 and op.failed == 0 and 0 < op.best <= op.median <= op.worst
    records = Records(path)
    assert len([entry for entry in records.entries if isinstance(entry, Trial)]) == 4
    lowered = sqc.lower("qfully_connected", *OPERANDS, records=path)
    assert lowered.kernel.tile == op.tile


def test_records_rule_what_is_lowered(path: Path) -> None:
    untuned = sqc.lower("qfully_connected", *OPERANDS).kernel
    problem, tile = untuned.problem, untuned.tile
    assert tile is not None
    other = problem.tiles(untuned.target)[3]  # type: ignore[attr-defined]
    records = Records(path)
    choice = Choice(untuned.workload, (1,), other, 0.5, 0.01, tile, 24)
    records.append(choice)
    tuned = sqc.lower("qfully_connected", *OPERANDS, records=path).kernel
    assert tuned.tile == other and tuned.workload == untuned.workload and tuned.key != untuned.key
    for chosen in (replace(other, rows=17), tile):
        records.append(replace(choice, tile=chosen))
        assert sqc.lower("qfully_connected", *OPERANDS, records=path).kernel.key == untuned.key


def test_replay_gives_the_same_bytes(integer_graph: sqc.ir.Graph, path: Path) -> None:
    assert choose_others(integer_graph, path) >= 3
    untuned = sqc.compile(integer_graph)
    tuned, again = (sqc.compile(integer_graph, records=path) for _ in range(2))
    assert untuned.library != tuned.library == again.library
    x = np.random.default_rng(0).integers(0, 17, (1, 1, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(untuned(x), tuned(x))


def test_choices_that_do_not_pay_are_withdrawn(integer_graph: sqc.ir.Graph, path: Path) -> None:
    """The worst tiles by estimate were recorded as winners: within the model they cannot stand."""
    count = choose_others(integer_graph, path)
    tuning = sqc.tune(integer_graph, records=path, candidates=2, time_budget=0.0)
    withdrawn = [op for op in tuning.ops if "withdrawn" in op.note]
    assert withdrawn and not any(op.changed for op in withdrawn)
    assert len(Records(path).entries) == count + len(withdrawn)
    assert [model.ratio <= 1.01 for model in tuning.whole] == [True]


def test_several_threads_and_batches(integer_graph: sqc.ir.Graph, path: Path) -> None:
    arguments = {"records": path, "batch": (1, 3), "threads": (1, 2), "candidates": 2}
    tuning = sqc.tune(integer_graph, **arguments, time_budget=1.0)
    assert [(model.batch, model.threads) for model in tuning.whole] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert not tuning.finished and sum(op.count for op in tuning.ops) == 8


def test_kernels_of_stages_are_tuned(integer_graph: sqc.ir.Graph, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "savings", lambda variant: iter([(1, variant.samples, 2)]))
    tuning = sqc.tune(integer_graph, records=path, batch=4, candidates=2)
    assert tuning.finished
    (program,) = sqc.compile(integer_graph, batch=4, records=path).plan.programs
    assert program.stages[0][1] == 4
    assert {entry.workload for entry in Records(path).entries} <= {step.workload for step in program.steps}


def test_an_interrupted_search_keeps_what_it_found(integer_graph: sqc.ir.Graph, path: Path) -> None:
    def interrupt(done: int, _total: int, _op: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    tuning = sqc.tune(integer_graph, records=path, candidates=4, progress=interrupt)
    assert tuning.interrupted and not tuning.finished and not tuning.whole
    assert len(Records(path).entries) == 2 == sum(op.tried for op in tuning.ops)


def test_refusals(path: Path) -> None:
    with pytest.raises(CompileError, match="has no tile"):
        tune_op("dequantize", X, records=path)
    with pytest.raises(CompileError, match="threads must be"):
        tune_op("qfully_connected", *OPERANDS, records=path, threads=())
    foreign = next((n for n in Target.names() if not Target.parse(n).runs_here()), None)
    if foreign is not None:
        with pytest.raises(CompileError, match="cannot run code"):
            tune_op("qfully_connected", *OPERANDS, records=path, target=foreign)
    assert not path.exists()


SCRIPT = """
import sys
from sqc.tuning import tune_op
from tests.tuning.test_tune import OPERANDS
tune_op("qfully_connected", *OPERANDS, records=sys.argv[1], candidates=int(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_search_goes_on(path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(path), "24"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = Records(path)
    assert 2 <= len(found.entries) < 24 and not found.damaged
    op = tune_op("qfully_connected", *OPERANDS, records=path, candidates=len(found.entries) + 1)
    assert op.tried == len(found.entries) + 1
    trials = [entry for entry in Records(path).entries if isinstance(entry, Trial)]
    assert len({trial.tile for trial in trials}) == len(trials) == op.tried


@pytest.mark.slow
def test_command(sqc_command: Sqc, calibration_file: Path, path: Path, tmp_path: Path) -> None:  # noqa: F811
    common = DIGITS, "--calibration-data", calibration_file
    arguments = (*common, "--records", path, "--candidates", 2)
    result = sqc_command(
        "tune", *arguments, "--time-budget", "1s", "--preset", "accurate", "--json", tmp_path / "tuning.json"
    )
    assert result.exit_code == 0, result.output
    assert "untuned us" in result.output and (tmp_path / "tuning.json").exists()
    result = sqc_command("tune", *arguments)
    assert result.exit_code == 0 and "goes on from there" not in result.output, result.output
    with open(path, "ab") as stream:
        stream.write(b"damaged\n")
    result = sqc_command("compile", *common, "--records", path, "-o", tmp_path / "model.so")
    assert result.exit_code == 0 and "skipped damaged lines" in result.output, result.output
    (tmp_path / "empty").touch()
    result = sqc_command("compile", *common, "--records", tmp_path / "empty", "-o", tmp_path / "model.so")
    assert result.exit_code == 0 and "no record was made with tvm" in result.output, result.output
    result = sqc_command("bench", *common, "--records", path, "--seconds", "0.05")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("budget", ["", "0", "ten", "10 minutes"])
def test_command_refuses_times(sqc_command: Sqc, calibration_file: Path, path: Path, budget: str) -> None:  # noqa: F811
    arguments = (DIGITS, "--calibration-data", calibration_file, "--records", path, "--time-budget", budget)
    result = sqc_command("tune", *arguments)
    assert result.exit_code == 2 and "is no time" in result.output
