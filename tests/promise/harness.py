"""Compares compiled graphs with the numpy reference, bit for bit, and counts what was compared: the fuzzer.

    python -m tests.promise.harness --seeds 0:3000 --targets x86-64-v3,native --workers 2 --record seeds.jsonl

compiles the graph of each seed for each target. The record gets a line for each: an interrupted run goes on where it
was, and a finished one prints its counts again. With ``--sanitize address,undefined`` the C of the libraries is built
so. With ``--explain`` the kernels of a failing seed run one by one, to find those at fault.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from tests.promise.comparing import Sample, differing
from tests.promise.kernels import TARGETS, Setting, fuse, kernels_alone, load_kernels, reference
from tests.promise.record import Record, summary
from tests.promise.sanitizing import sanitize
from tests.promise.workers import Job, check_all


def check(seed: int, setting: Setting) -> list[str]:
    """The outputs of a seed's graph that differ."""
    return Sample.of(seed).differing(setting)


def explain(seed: int, setting: Setting) -> list[str]:
    """Every kernel of a seed that fails on the reference's operands: what happened, and a graph of it alone."""
    sample = Sample.of(seed)
    graph, arrays = sample.whole, sample.arrays
    changed = differing(reference(graph, arrays), reference(fuse(graph, setting.padded), arrays))
    found = [f"the passes change {name}" for name in changed]
    for alone in kernels_alone(graph, arrays, setting):
        try:
            actual = load_kernels(alone.graph, setting).run(alone.operands)["y"]
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}\n{alone.graph}")
            continue
        wrong = actual.view(np.uint8) != alone.expected.view(np.uint8)
        if wrong.any():
            found.append(f"{int(wrong.sum())} of {wrong.size} bytes, from {np.argwhere(wrong)[0]}\n{alone.graph}")
    return found


def main() -> int:
    """Check a range of seeds; the exit status tells whether all were right."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", default="0:100", help="first:last")
    parser.add_argument("--targets", default=",".join(TARGETS), help="each graph is compiled for all of these")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--record", type=Path, help="file of what was checked, which is not repeated")
    parser.add_argument("--sanitize", metavar="NAMES", help="sanitizers for the libraries' C: address,undefined")
    parser.add_argument("--explain", action="store_true", help="show the kernels at fault")
    options = parser.parse_args()
    if options.sanitize:
        sanitize(options.sanitize)
    seeds, targets = range(*map(int, options.seeds.split(":"))), options.targets.split(",")
    record = Record(options.record)
    left = [Job(seed, tuple(name for name in targets if (seed, name) not in record.outcomes)) for seed in seeds]
    start = time.perf_counter()
    try:
        for outcome in check_all((job for job in left if job.targets), options.workers):
            record.add(outcome)
            if outcome.failure:
                print(f"seed {outcome.seed}, {outcome.target}: {outcome.failure}", flush=True)
            if outcome.failure and options.explain:
                setting = Setting(outcome.target, Setting.of(outcome.seed).padded)
                print("\n".join(explain(outcome.seed, setting)), flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    wanted = [(seed, target) for seed in seeds for target in targets]
    done = [record.outcomes[key] for key in wanted if key in record.outcomes]
    failed = sum(bool(outcome.failure) for outcome in done)
    print("\n".join(summary(done)))
    print(f"{len(done)} of {len(wanted)} checked, {failed} failed; {time.perf_counter() - start:.0f} s this time")
    return 0 if len(done) == len(wanted) and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
