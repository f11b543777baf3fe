"""Many threads on one handle beside many processes on one library, for minutes: every answer has to be right.

    python -m tests.runtime.soak --minutes 10

compiles generated graphs into libraries, and runs each in ``--threads`` threads of this process, which share a handle
of two threads of its own, and in ``--processes`` others. Results are compared with the numpy reference, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np

SEEDS = (3, 11, 24)
"""Of the generated graphs."""

INPUTS = 4
"""Different inputs of each graph."""


class Count(NamedTuple):
    """How many runs there were, and how many gave a wrong answer."""

    runs: int
    wrong: int


class Case(NamedTuple):
    """A library, and pairs of inputs and right answers."""

    path: Path
    inputs: list[dict[str, np.ndarray]]
    answers: list[dict[str, np.ndarray]]


def prepare(seed: int, folder: Path) -> Case:
    """The library of a seed's graph, at one sample."""
    import sqc
    from tests.promise.generator import generate, inputs
    from tests.promise.kernels import reference
    from tests.promise.regions import exact_values

    graph = generate(seed)
    path = folder / f"seed{seed}.so"
    sqc.compile(graph).save(path)
    exact = {name for name, value in graph.outputs.items() if value in exact_values(graph)}
    given = [inputs(graph, seed + 1000 * number) for number in range(INPUTS)]
    answers = [{name: array for name, array in reference(graph, x).items() if name in exact} for x in given]
    return Case(path, given, answers)


def in_threads(cases: list[Case], threads: int, seconds: float) -> Count:
    """For so many seconds, threads that each run all libraries, whose handles they share."""
    from sqc.runtime import load

    models = [load(case.path, threads=2) for case in cases]
    counts: list[Count] = []
    end = time.monotonic() + seconds

    def work(first: int) -> None:
        runs, wrong = first, 0
        while time.monotonic() < end:
            case, model = cases[runs % len(cases)], models[runs % len(cases)]
            number = runs // len(cases) % INPUTS
            results = model.run(case.inputs[number])
            wrong += any(results[name].tobytes() != array.tobytes() for name, array in case.answers[number].items())
            runs += 1
        counts.append(Count(runs - first, wrong))

    crew = [Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if len(counts) < threads:  # an exception ended a thread; Python has shown it
        counts.append(Count(0, threads - len(counts)))
    return Count(*map(sum, zip(*counts, strict=True)))


@contextmanager
def others(cases: list[Case], count: int, seconds: float) -> Iterator[list[Count]]:
    """Processes beside this one; what they counted is in the list when the context ends."""
    found: list[Count] = []
    context = get_context("spawn")
    pipes, crew = [], []
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=_report, args=(theirs, cases, seconds))
        process.start()
        theirs.close()
        pipes.append(ours)
        crew.append(process)
    yield found
    for pipe, process in zip(pipes, crew, strict=True):
        try:
            found.append(pipe.recv())
        except EOFError:  # the process died
            found.append(Count(0, 1))
        process.join()


def _report(pipe: Connection, cases: list[Case], seconds: float) -> None:
    pipe.send(in_threads(cases, 1, seconds))


def main() -> int:
    """The exit status tells whether all answers were right."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--processes", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = [prepare(seed, Path(folder)) for seed in SEEDS]
        seconds = 60 * options.minutes
        with others(cases, options.processes, seconds) as processes:
            threads = in_threads(cases, options.threads, seconds)
    print(f"{options.threads} threads on one handle: {threads.runs} runs, {threads.wrong} wrong")
    for number, count in enumerate(processes):
        print(f"process {number}: {count.runs} runs, {count.wrong} wrong")
    return int(any(count.wrong or not count.runs for count in (threads, *processes)))


if __name__ == "__main__":
    sys.exit(main())
