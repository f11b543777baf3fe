"""What may win: decisions on readings that a script gives, so that no clock is involved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sqc.schedules.microkernel import Tile
from sqc.tuning.records import Records, Trial
from sqc.tuning.search import Comparison, OpTuning, search
from sqc.tuning.space import candidates
from sqc.tuning.task import Task
from sqc.tuning.worker import Answer, Compute, Job, Measure, Round


@dataclass
class Script:
    """A measurer whose kernels take as long as ``ratio`` says, give or take ``noise``."""

    ratio: Callable[[Tile, int], float]
    noise: float = 0.0
    wrong: Callable[[Tile], bool] = lambda tile: False
    measured: list[Tile] = field(default_factory=list)
    most: float = math.inf

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        for index, job in enumerate(jobs):
            if isinstance(job, Measure):
                if len(self.measured) >= self.most:
                    raise KeyboardInterrupt
                self.measured.append(job.tile)
                yield index, Answer([self._rounds(job, threads) for threads in job.threads])
            else:
                yield index, Answer(self._results(job))

    def _rounds(self, job: Measure, threads: int) -> list[Round]:
        rng = np.random.default_rng(job.rounds)
        noise = rng.normal(1, self.noise, (job.rounds, 3)) if self.noise else np.ones((job.rounds, 3))
        return [(a * 1e-5, b * 1e-5 * self.ratio(job.tile, threads), c * 1e-5) for a, b, c in noise.tolist()]

    def _results(self, job: Compute) -> list[np.ndarray]:
        results = []
        for seed in job.seeds:
            result = np.ascontiguousarray(job.task.reference(job.task.inputs(seed))).reshape(-1)
            if self.wrong(job.tile) and seed == job.seeds[-1]:
                result[-1] ^= 1
            results += [result] * len(job.threads)
        return results


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "records")


def quick(tiles: dict[Tile, float]) -> Callable[[Tile, int], float]:
    return lambda tile, threads: tiles.get(tile, 1.5)


def test_the_quickest_wins(task: Task, records: Records) -> None:
    script = Script(quick({task.tiles[0]: 1.0, task.tiles[2]: 0.9, task.tiles[5]: 0.8}), noise=0.005)
    choice = search(task, records, script)
    assert choice is not None and choice.tile == task.tiles[5] and choice.tried == 24
    assert 0.75 < choice.ratio < 0.85
    assert Records(records.path).tiles == {task.workload: task.tiles[5]}
    trials = [entry for entry in records.entries if isinstance(entry, Trial)]
    op = OpTuning.of("op", 1, task, choice, trials)
    assert op.changed and op.tried == 24 and op.best < op.untuned < op.median <= op.worst


def test_gains_within_the_noise_are_refused(task: Task, records: Records) -> None:
    for noise, ratio in ((0.0, 0.995), (0.2, 0.95)):
        script = Script(quick({task.tiles[0]: 1.0, task.tiles[3]: ratio}), noise=noise)
        choice = search(task, Records(records.path.with_name(str(noise))), script, count=6)
        assert choice is not None and choice.tile == task.tiles[0] and choice.ratio == 1


def test_the_margin_grows_with_the_noise() -> None:
    rng = np.random.default_rng(0)
    quiet, loud = ([tuple(rng.normal(1, s, 3).tolist()) for _ in range(25)] for s in (0.001, 0.1))
    assert Comparison.of(quiet).margin == 0.01
    assert 0.03 < Comparison.of(loud).margin < 0.3


def test_a_winner_may_not_lose_on_any_number_of_threads(task: Task, records: Records) -> None:
    def ratio(tile: Tile, threads: int) -> float:
        return {task.tiles[1]: (0.5, 1.1), task.tiles[2]: (0.9, 1.0)}.get(tile, (1.0, 1.0))[threads - 1]

    choice = search(task, records, Script(ratio), threads=(1, 2), count=6)
    assert choice is not None and choice.tile == task.tiles[2]


def test_wrong_bits_never_win(task: Task, records: Records) -> None:
    ratios = {task.tiles[0]: 1.0, task.tiles[1]: 0.5, task.tiles[2]: 0.7}
    script = Script(quick(ratios), wrong=lambda tile: tile == task.tiles[1])
    choice = search(task, records, script, count=6)
    assert choice is not None and choice.tile == task.tiles[2]
    assert "differs from the reference" in choice.note
    assert records.trials(task.workload, (1,), task.tiles[0])[task.tiles[1]].error
    script.wrong = lambda tile: True
    choice = search(task, records, script, count=8)
    assert choice is not None and choice.tile == task.tiles[0]


def test_a_search_goes_on_where_it_was_stopped(task: Task, records: Records) -> None:
    ratio = quick({task.tiles[0]: 1.0, task.tiles[1]: 0.8})
    first = Script(ratio, most=7)
    with pytest.raises(KeyboardInterrupt):
        search(task, records, first)
    again = Script(ratio)
    reopened = Records(records.path)
    choice = search(task, reopened, again)
    assert choice is not None and choice.tile == task.tiles[1]
    assert sorted([*first.measured, *again.measured[:17]], key=str) == sorted(candidates(task.tiles), key=str)
    finished = Script(ratio)
    assert search(task, Records(records.path), finished) == choice and not finished.measured


def test_no_time(task: Task, records: Records) -> None:
    assert search(task, records, Script(quick({})), deadline=-1.0) is None
    assert not records.path.exists()


def test_candidates_are_varied(task: Task) -> None:
    tiles = task.tiles
    chosen = candidates(tiles, 24)
    assert len(chosen) == len(set(chosen)) == 24 and chosen[0] == tiles[0] and set(tiles[:12]) <= set(chosen)
    registers = {(tile.rows, tile.vectors) for tile in tiles}
    assert len({(tile.rows, tile.vectors) for tile in chosen}) >= min(12, len(registers))
    assert candidates(tiles[:3], 24) == tiles[:3]
