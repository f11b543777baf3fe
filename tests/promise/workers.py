"""Processes that check seeds side by side; the death of one is the failure of what it was at."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from tests.promise.record import Outcome

if TYPE_CHECKING:
    from tests.promise.comparing import Sample


@dataclass(frozen=True)
class Job:
    """A seed, and the targets that it is to be checked for."""

    seed: int
    targets: tuple[str, ...]

    def outcomes(self) -> Iterator[Outcome]:
        """One for each target; the graph is drawn, and its reference computed, once."""
        from tests.promise.comparing import Sample
        from tests.promise.counts import kinds

        start = time.perf_counter()
        sample = Sample.of(self.seed)
        ops = dict(kinds(sample.graph))
        for target in self.targets:
            failure = _failure(sample, self.seed, target)
            end = time.perf_counter()
            yield Outcome(self.seed, target, failure, round(end - start, 3), ops)
            start = end


def _failure(sample: Sample, seed: int, target: str) -> str:
    """What went wrong, in a line; empty if nothing did."""
    from tests.promise.kernels import Setting

    try:
        wrong = sample.differing(Setting(target, Setting.of(seed).padded))
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return f"{', '.join(wrong)} differ" if wrong else ""


def check_all(jobs: Iterable[Job], workers: int) -> Iterator[Outcome]:
    """The outcomes of all jobs, by so many processes, as they come."""
    crew = _Crew()
    try:
        yield from crew.work(jobs, workers)
    finally:
        crew.stop()


class _Crew:
    def __init__(self) -> None:
        self.context = get_context("spawn")  # of threads and sanitizers nothing is to be inherited
        self.busy: dict[Connection, tuple[BaseProcess, Job]] = {}
        self.idle: list[tuple[Connection, BaseProcess]] = []

    def work(self, jobs: Iterable[Job], workers: int) -> Iterator[Outcome]:
        waiting = iter(jobs)
        left: list[Job] = []
        while True:
            while len(self.busy) < workers and (job := left.pop() if left else next(waiting, None)):
                self.give(job)
            if not self.busy:
                return
            for connection in wait(list(self.busy)):
                assert isinstance(connection, Connection)
                process, job = self.busy.pop(connection)
                rest = replace(job, targets=job.targets[1:])
                try:
                    yield connection.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    yield Outcome(job.seed, job.targets[0], f"the process died with {process.exitcode}")
                    left += [rest] if rest.targets else []
                    continue
                if rest.targets:
                    self.busy[connection] = process, rest
                else:
                    self.idle.append((connection, process))

    def give(self, job: Job) -> None:
        connection, process = self.idle.pop() if self.idle else self.start()
        connection.send(job)
        self.busy[connection] = process, job

    def start(self) -> tuple[Connection, BaseProcess]:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def stop(self) -> None:
        for process in (*(process for _, process in self.idle), *(process for process, _ in self.busy.values())):
            process.terminate()
            process.join()


def _serve(connection: Connection) -> None:
    from sqc.codegen import build

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        for outcome in job.outcomes():
            connection.send(outcome)
        build._objects.clear()  # other seeds hardly have the same kernels, and a long run would keep all
