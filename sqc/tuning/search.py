"""The search for one op's tile: candidates measured in turns with the model's choice, the winner confirmed and checked.

A candidate wins if a second, longer measurement shows a gain above its noise on every number of threads, and its
results equal the reference bit for bit. The second measurement matters: the best of many noisy readings looks better
than it is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from sqc.tuning.records import Choice, Records, Trial
from sqc.tuning.space import CANDIDATES, candidates
from sqc.tuning.task import Task
from sqc.tuning.worker import Answer, Compute, Job, Measure, Round

if TYPE_CHECKING:
    from sqc.schedules.microkernel import Tile

ROUNDS = 7
CONFIRM_ROUNDS = 25
FINALISTS = 3
"""How many of the quickest candidates are measured again."""
LEAST_GAIN = 0.01
"""No smaller gain counts, however quiet the machine."""
SEEDS = (0, 1, 2, 3)
"""Inputs of the comparison with the reference: random and extreme in turn."""

Tried: TypeAlias = Callable[[int, int], None]
"""Called with how many candidates of an op are done and how many there are."""


class Measurer(Protocol):
    """Runs jobs somewhere; :class:`sqc.tuning.workers.Workers` is one."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Answer]]:
        """Index and answer of every job, as they come in."""
        ...


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the incumbent at one number of threads."""

    ratio: float
    """The median over rounds of its time over the incumbent's in the same round."""
    margin: float
    """Three standard errors of such a median, from the spread of both kernels over the rounds."""
    untuned_seconds: float

    @staticmethod
    def of(rounds: Sequence[Round]) -> Comparison:
        ratios = [middle / math.sqrt(before * after) for before, middle, after in rounds]
        nulls = [after / before for before, _, after in rounds]
        untuned = statistics.median(seconds for before, _, after in rounds for seconds in (before, after))
        margin = 3 * max(_standard_error(ratios), _standard_error(nulls))
        return Comparison(statistics.median(ratios), max(LEAST_GAIN, margin), untuned)

    @property
    def gains(self) -> bool:
        """Whether the candidate is quicker by more than the noise."""
        return self.ratio < 1 - self.margin

    @property
    def loses(self) -> bool:
        """Whether it is slower by more than the noise."""
        return self.ratio > 1 + self.margin


def _standard_error(values: Sequence[float]) -> float:
    """Of the median of values about 1, whose deviation is estimated robustly: 1.4826 MAD, times sqrt(pi / 2n)."""
    median = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(value - median) for value in values)
    return deviation * math.sqrt(math.pi / 2 / len(values))


def search(
    task: Task,
    records: Records,
    measurer: Measurer,
    *,
    threads: tuple[int, ...] = (1,),
    count: int = CANDIDATES,
    deadline: float = math.inf,
    tried: Tried = lambda done, total: None,
) -> Choice | None:
    """Tune one op, going on from what ``records`` hold; None if time ran out before anything was measured.

    ``deadline`` is of ``time.monotonic``. Every candidate and the choice are recorded as soon as they are known.
    """
    tiles = candidates(task.tiles, count)
    untuned = tiles[0]
    choice = records.choice(task.workload, threads, untuned)
    if choice is not None and choice.tried >= len(tiles):
        tried(len(tiles), len(tiles))
        return choice
    trials = records.trials(task.workload, threads, untuned)
    missing = [tile for tile in tiles if tile not in trials]
    tried(len(tiles) - len(missing), len(tiles))
    if missing and time.monotonic() < deadline:
        jobs = [Measure(task, tile, untuned, threads, ROUNDS) for tile in missing]
        for done, (index, answer) in enumerate(measurer.run(jobs), len(tiles) - len(missing) + 1):
            trial = _trial(task, missing[index], untuned, threads, answer)
            records.append(trial)
            trials[trial.tile] = trial
            tried(done, len(tiles))
            if time.monotonic() > deadline:
                break
    if not trials:
        return choice
    choice = _choose(task, list(trials.values()), records, measurer)
    records.append(choice)
    return choice


def _trial(task: Task, tile: Tile, untuned: Tile, threads: tuple[int, ...], answer: Answer) -> Trial:
    if answer.error:
        return Trial(task.workload, threads, tile, 0.0, 0.0, untuned, answer.error)
    compared = [Comparison.of(rounds) for rounds in answer.value]
    ratio = statistics.geometric_mean(comparison.ratio for comparison in compared)
    return Trial(task.workload, threads, tile, ratio, compared[0].untuned_seconds, untuned)


def _choose(task: Task, trials: list[Trial], records: Records, measurer: Measurer) -> Choice:
    """The quickest candidate that is confirmed and gives the reference's bits, or the model's choice."""
    threads, untuned = trials[0].threads, trials[0].untuned
    quickest = sorted((t for t in trials if not t.error and t.ratio < 1 and t.tile != untuned), key=lambda t: t.ratio)
    finalists = [trial.tile for trial in quickest[:FINALISTS]]
    jobs = [Measure(task, tile, untuned, threads, CONFIRM_ROUNDS) for tile in finalists]
    confirmed: list[tuple[float, float, Tile]] = []
    margin = LEAST_GAIN
    notes: list[str] = []
    for index, answer in measurer.run(jobs) if jobs else ():
        if answer.error:
            continue
        compared = [Comparison.of(rounds) for rounds in answer.value]
        noise = max(comparison.margin for comparison in compared)
        ratio = statistics.geometric_mean(comparison.ratio for comparison in compared)
        if any(c.gains for c in compared) and ratio < 1 - LEAST_GAIN and not any(c.loses for c in compared):
            confirmed.append((ratio, noise, finalists[index]))
        else:
            margin = max(margin, noise)
    for ratio, noise, tile in sorted(confirmed, key=lambda entry: entry[0]):
        if not (wrong := differs(task, tile, threads, measurer)):
            return Choice(task.workload, threads, tile, ratio, noise, untuned, len(trials), "; ".join(notes))
        notes.append(f"{tile} refused: {wrong}")
        records.append(Trial(task.workload, threads, tile, 0.0, 0.0, untuned, wrong))
    return Choice(task.workload, threads, untuned, 1.0, margin, untuned, len(trials), "; ".join(notes))


def differs(task: Task, tile: Tile, threads: tuple[int, ...], measurer: Measurer) -> str:
    """What is wrong with the results of ``tile``; nothing if they equal the reference bit for bit."""
    ((_, answer),) = measurer.run([Compute(task, tile, threads, SEEDS)])
    if answer.error:
        return str(answer.error)
    results = iter(answer.value)
    for seed in SEEDS:
        expected = np.ascontiguousarray(task.reference(task.inputs(seed))).reshape(-1)
        for count in threads:
            actual = next(results)
            if actual.dtype != expected.dtype or actual.tobytes() != expected.tobytes():
                return f"its result differs from the reference (inputs {seed}, {count} thread(s))"
    return ""


@dataclass(frozen=True)
class OpTuning:
    """One op after tuning: ``count`` ops of the model share its kernel.

    ``untuned`` is the time of the kernel alone, in seconds at the first number of threads; the other times are that
    times their ratio over all numbers of threads. ``best``, ``median`` and ``worst`` are of all candidates tried, as
    first read; 0 without any.
    """

    name: str
    count: int
    tried: int
    failed: int
    untuned: float
    tuned: float
    best: float
    median: float
    worst: float
    tile: Tile
    changed: bool
    note: str

    @staticmethod
    def of(name: str, count: int, task: Task, choice: Choice | None, trials: Sequence[Trial]) -> OpTuning:
        good = [trial for trial in trials if not trial.error]
        untuned = statistics.median(trial.untuned_seconds for trial in good) if good else 0.0
        ratios = [trial.ratio * untuned for trial in good] or [0.0]
        ratio, tile, note = (choice.ratio, choice.tile, choice.note) if choice else (1.0, task.tiles[0], "")
        return OpTuning(
            name,
            count,
            len(trials),
            len(trials) - len(good),
            untuned,
            untuned * ratio,
            min(ratios),
            statistics.median(ratios),
            max(ratios),
            tile,
            tile != task.tiles[0],
            note,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds."""
        times = {f"{name}_ms": getattr(self, name) * 1e3 for name in ("untuned", "tuned", "best", "median", "worst")}
        plain = {name: getattr(self, name) for name in ("name", "count", "tried", "failed", "changed", "note")}
        return {**plain, **times, "tile": asdict(self.tile)}
