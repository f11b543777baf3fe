"""Tuning a whole model, or an op by itself: the search for each workload, then a check that the sum is no slower."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sqc.bench.compare import random_samples
from sqc.bench.measure import PAUSE, interleave
from sqc.calibration import DEFAULT_SEARCH, Calibration, RangesLike
from sqc.codegen.build import Build, build_program
from sqc.codegen.library import build_library
from sqc.codegen.stages import Variant
from sqc.compiler import fused_variants
from sqc.errors import CompileError
from sqc.ir import Graph, Op, TensorType
from sqc.lowering import lower
from sqc.ops.cost import multiply_accumulates
from sqc.progress import Progress
from sqc.recipe import DEFAULT_PRESET, Preset
from sqc.runtime import Model, load_bytes
from sqc.schedules import Target, Tunable
from sqc.schedules import lower as lower_op
from sqc.tuning.records import Choice, Records, RecordsFile
from sqc.tuning.search import LEAST_GAIN, OpTuning, search
from sqc.tuning.space import CANDIDATES
from sqc.tuning.task import Task, random_constants
from sqc.tuning.workers import Workers

if TYPE_CHECKING:
    from sqc.schedules.microkernel import Tile

PROFILE_ROUNDS = 15


@dataclass(frozen=True)
class WholeModel:
    """Seconds of one run of the model, both builds in turns."""

    batch: int
    threads: int
    untuned: float
    tuned: float
    ratio: float
    """The median over rounds of tuned over untuned time."""

    def to_dict(self) -> dict[str, float | int]:
        return {
            "batch": self.batch,
            "threads": self.threads,
            "untuned_ms": self.untuned * 1e3,
            "tuned_ms": self.tuned * 1e3,
            "tuned_over_untuned": self.ratio,
        }


@dataclass(frozen=True)
class Tuning:
    """What tuning a model came to: ``ops``, those with most time first, and the model as a whole.

    ``whole`` is empty where kernels were measured on other machines, or time was called by the user.
    """

    ops: Sequence[OpTuning]
    whole: Sequence[WholeModel]
    seconds: float
    finished: bool
    """Whether every op was tuned; if not, tuning with the same records goes on where this left off."""
    interrupted: bool
    damaged_lines: Sequence[int]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ops": [op.to_dict() for op in self.ops],
            "whole": [model.to_dict() for model in self.whole],
            "seconds": self.seconds,
            "finished": self.finished,
            "interrupted": self.interrupted,
        }


def tune(
    graph: Graph,
    calibration: Calibration | None = None,
    *,
    records: RecordsFile,
    target: str = "native",
    batch: int | Sequence[int] = 1,
    threads: int | Sequence[int] = 1,
    candidates: int = CANDIDATES,
    time_budget: float | None = None,
    preset: Preset = DEFAULT_PRESET,
    ranges: RangesLike = DEFAULT_SEARCH,
    exclude: Iterable[str] = (),
    tracker: str | None = None,
    key: str = "",
    progress: Progress | None = None,
) -> Tuning:
    """Find better tiles for a model's kernels, and add them to the file ``records`` for ``compile(records=...)``.

    Takes a graph as :func:`sqc.compile` does. ``threads`` may be several numbers: a tile then has to gain on them
    together and lose on none. At most ``candidates`` tiles of an op are tried, ops with most time first, until
    ``time_budget`` seconds are over. Whatever is known is in the file at once: a killed run goes on from there, and so
    does one that Ctrl-C ended, which returns what it found. ``tracker`` (HOST:PORT) and ``key`` name a tracker of TVM's
    RPC and its servers, on which kernels are then measured instead of here; tuned and untuned model are not compared
    as wholes then. ``progress`` counts candidates.

    Raises RecordsError, TuningError if nothing can be measured, and what :func:`sqc.compile` raises.
    """
    start = time.monotonic()
    chosen = Target.parse(target)
    _check_runs_here(chosen, tracker)
    counts = _counts(threads)
    book = Records(records)
    variants = fused_variants(graph, calibration, batch=batch, preset=preset, ranges=ranges, exclude=exclude)
    tuner = _Tuner(book, chosen, counts, variants, candidates, progress)
    interrupted = False
    whole: list[WholeModel] = []
    try:
        untuned = [_load(variant, chosen, {}) for variant in variants] if tracker is None else []
        tuner.order(untuned)
        with Workers(tracker, key) as workers:
            tuner.search(workers, start + time_budget if time_budget is not None else math.inf)
        if tracker is None:
            whole = tuner.compare(untuned)
    except KeyboardInterrupt:
        interrupted = True
    ops = tuner.ops()
    finished = all(op.tried >= op.wanted for op in tuner.found) and not interrupted
    return Tuning(ops, whole, time.monotonic() - start, finished, interrupted, tuple(book.damaged))


def tune_op(
    op: str | Op,
    *operands: TensorType | np.ndarray,
    records: RecordsFile,
    target: str = "native",
    threads: int | Sequence[int] = 1,
    candidates: int = CANDIDATES,
    time_budget: float | None = None,
    tracker: str | None = None,
    key: str = "",
    **attributes: Any,
) -> OpTuning:
    """Tune one op, given as for :func:`sqc.lower`; ``sqc.lower(..., records=records)`` then uses what was found.

    Constant operands that are given as types alone are filled with random numbers. Raises CompileError if the op's
    kernel has no tile, and what :func:`tune` raises.
    """
    deadline = time.monotonic() + time_budget if time_budget is not None else math.inf
    lowered = lower(op, *operands, target=target, **attributes)
    chosen = lowered.kernel.target
    _check_runs_here(chosen, tracker)
    if not isinstance(lowered.kernel.problem, Tunable):
        raise CompileError(f"the kernel of {lowered.op.kind} has no tile that could be tuned")
    task = Task(lowered.op, lowered.constants, chosen, random_constants(lowered.op, chosen))
    book, counts = Records(records), _counts(threads)
    choice: Choice | None = None
    with Workers(tracker, key) as workers, suppress(KeyboardInterrupt):
        choice = search(task, book, workers, threads=counts, count=candidates, deadline=deadline)
    trials = list(book.trials(task.workload, counts, task.tiles[0]).values())
    return OpTuning.of(lowered.op.label(), 1, task, choice, trials)


def _check_runs_here(target: Target, tracker: str | None) -> None:
    if tracker is None and not target.runs_here():
        raise CompileError(
            f"this processor cannot run code for {target.name}: tune on one that can, or measure there with "
            "--rpc-tracker and --rpc-key"
        )


def _counts(threads: int | Sequence[int]) -> tuple[int, ...]:
    counts = (threads,) if isinstance(threads, int) else tuple(threads)
    if not counts or any(count < 1 for count in counts):
        raise CompileError(f"threads must be one or more positive numbers, not {threads!r}")
    return counts


@dataclass
class _Workload:
    """A task of the model, what it is called, how many ops share it, and the share of time that these take."""

    task: Task
    name: str
    count: int = 0
    cost: float = 0.0
    wanted: int = 0
    tried: int = 0
    choice: Choice | None = None


@dataclass
class _Tuner:
    """The tuning of one model."""

    records: Records
    target: Target
    threads: tuple[int, ...]
    variants: Sequence[Variant]
    candidates: int
    progress: Progress | None
    found: list[_Workload] = field(default_factory=list)

    def __post_init__(self) -> None:
        workloads: dict[str, _Workload] = {}
        for graph in (stage.graph for variant in self.variants for stage in variant.stages):
            for op in graph.ops:
                name = self._workload(op, graph)
                if name is None:
                    continue
                if name not in workloads:
                    constants = {value: graph.constants[value] for value in op.operands if value in graph.constants}
                    task = Task(op, constants, self.target)
                    workloads[name] = _Workload(task, op.label(), wanted=min(self.candidates, len(task.tiles)))
                workloads[name].count += 1
                workloads[name].cost += multiply_accumulates(op)
        self.found = list(workloads.values())

    def _workload(self, op: Op, graph: Graph) -> str | None:
        """The name of the workload of an op of ``graph``; None if there is nothing to tune."""
        if op.kind == "reshape":
            return None
        kernel = lower_op(op, self.target, graph.constants)
        return kernel.workload if isinstance(kernel.problem, Tunable) else None

    def order(self, loaded: Sequence[_Loaded]) -> None:
        """Put the workloads with most time first: measured in the models, or guessed from their work without any."""
        costs: dict[str, float] = {}
        for one in loaded:
            profile = one.model.profile(random_samples(one.model.inputs, 1)[0])
            for workload, step in zip(one.workloads, profile, strict=True):
                costs[workload] = costs.get(workload, 0.0) + step.seconds
        for found in self.found:
            found.cost = costs.get(found.task.workload, found.cost)
        self.found.sort(key=lambda found: -found.cost)

    def search(self, workers: Workers, deadline: float) -> None:
        """Tune one workload after the other until the deadline."""
        total = sum(workload.wanted for workload in self.found)
        before = 0
        for workload in self.found:

            def tried(done: int, _total: int, before: int = before, workload: _Workload = workload) -> None:
                workload.tried = done
                if self.progress:
                    self.progress(before + done, total, f"tuning {workload.name}")

            workload.choice = search(
                workload.task,
                self.records,
                workers,
                threads=self.threads,
                count=self.candidates,
                deadline=deadline,
                tried=tried,
            )
            before += workload.wanted

    def compare(self, untuned: Sequence[_Loaded]) -> list[WholeModel]:
        """Tuned and untuned model in turns, after choices that don't pay within the model were withdrawn."""
        if self._changed():
            self._withdraw(self._slower_steps(untuned, self._load_tuned()), "slower within the model")
        results = self._whole(untuned)
        if any(model.ratio > 1 + LEAST_GAIN for model in results):
            self._withdraw({workload.task.workload: 1.0 for workload in self._changed()}, "the model became slower")
            results = self._whole(untuned)
        return results

    def _changed(self) -> list[_Workload]:
        """The workloads for which tuning found something else than the model's choice."""
        return [w for w in self.found if w.choice is not None and w.choice.tile != w.choice.untuned]

    def _load_tuned(self) -> list[_Loaded]:
        tiles = {workload.task.workload: workload.choice.tile for workload in self.found if workload.choice}
        return [_load(variant, self.target, tiles) for variant in self.variants]

    def _slower_steps(self, untuned: Sequence[_Loaded], tuned: Sequence[_Loaded]) -> dict[str, float]:
        """The changed workloads whose steps take no less time in the tuned model, with the ratio."""
        ratios: dict[str, list[float]] = {workload.task.workload: [] for workload in self._changed()}
        for workloads, old, new in ((o.workloads, o.model, n.model) for o, n in zip(untuned, tuned, strict=True)):
            sample = random_samples(old.inputs, 1)[0]
            for threads in self.threads:
                old.threads = new.threads = threads
                seconds = [[_step_seconds(model, sample) for model in (old, new)] for _ in range(PROFILE_ROUNDS)]
                for name, found in ratios.items():
                    mine = [i for i, workload in enumerate(workloads) if workload == name]
                    if mine:
                        found.append(statistics.median(new[mine].sum() / old[mine].sum() for old, new in seconds))
        means = {name: statistics.geometric_mean(found) for name, found in ratios.items()}
        return {name: ratio for name, ratio in means.items() if ratio >= 1}

    def _withdraw(self, slower: dict[str, float], why: str) -> None:
        """Go back to the model's choice, and record it."""
        for workload in self._changed():
            name, choice = workload.task.workload, workload.choice
            if name in slower and choice is not None:
                note = f"{choice.tile} withdrawn: {why}"
                workload.choice = replace(choice, tile=choice.untuned, ratio=1.0, note=note)
                self.records.append(workload.choice)

    def _whole(self, untuned: Sequence[_Loaded]) -> list[WholeModel]:
        results = []
        tuned = self._load_tuned() if self._changed() else untuned
        for old, new in ((before.model, after.model) for before, after in zip(untuned, tuned, strict=True)):
            sample = list(random_samples(old.inputs, 1)[0].values())
            for threads in self.threads:
                old.threads = new.threads = threads
                timings = interleave({"untuned": lambda _: old(*sample), "tuned": lambda _: new(*sample)}, 1)  # noqa: B023
                before, after = timings["untuned"], timings["tuned"]
                ratio = after.ratio(before) if new is not old else 1.0
                batch = old.inputs[0].shape[0] if old.inputs[0].shape else 1
                results.append(WholeModel(batch, threads, before.median, before.median * ratio, ratio))
        return results

    def ops(self) -> list[OpTuning]:
        """What became of every workload."""
        return [
            OpTuning.of(
                w.name,
                w.count,
                w.task,
                w.choice,
                list(self.records.trials(w.task.workload, self.threads, w.task.tiles[0]).values()),
            )
            for w in self.found
        ]


def _step_seconds(model: Model, sample: dict[str, np.ndarray]) -> np.ndarray:
    time.sleep(PAUSE)
    return np.array([step.seconds for step in model.profile(sample, repeat=3)])


@dataclass(frozen=True)
class _Loaded:
    """A variant, ready to run, and the workload of each of its steps."""

    model: Model
    workloads: list[str]


def _load(variant: Variant, target: Target, tiles: dict[str, Tile]) -> _Loaded:
    build = Build(target, tiles)
    program = build_program(variant, build)
    model = load_bytes(build_library(build.plan([program], variant.graph.name)), threads=1)
    return _Loaded(model, [step.workload for step in program.steps])
