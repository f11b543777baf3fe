"""The long run: it goes on where it was, and takes the death of a process for a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promise.comparing import Sample
from tests.promise.record import Outcome, Record, summary
from tests.promise.workers import Job, check_all


def run(record: Path, seeds: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.promise.harness", "--seeds", seeds, "--targets", "x86-64-v3"]
    command += ["--record", str(record), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    record = tmp_path / "record"
    known = {"seed": 0, "target": "x86-64-v3", "failure": "told so", "seconds": 1.0, "ops": {"quantize": 1}}
    record.write_text(json.dumps(known) + '\n{"seed": 1, "tar')
    first = run(record, "0:2")
    assert first.returncode == 1 and "2 of 2 checked, 1 failed" in first.stdout
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(line["seed"], line["failure"]) for line in lines] == [(0, "told so"), (1, "")]
    again = run(record, "1:2")
    assert again.returncode == 0 and "1 of 1 checked, 0 failed" in again.stdout


class Deadly(Job):
    """A job whose process ends on the second of its targets."""

    def outcomes(self) -> Iterator[Outcome]:
        for target in self.targets:
            if target == "b":
                os._exit(3)
            yield Outcome(self.seed, target, "")


def test_the_death_of_a_process_is_a_failure() -> None:
    outcomes = check_all([Deadly(seed, ("a", "b", "c")) for seed in range(2)], workers=2)
    found = sorted((outcome.seed, outcome.target, outcome.failure) for outcome in outcomes)
    assert found == [(s, t, "the process died with 3" if t == "b" else "") for s in range(2) for t in "abc"]


def test_summary_counts_by_target() -> None:
    record = Record(None)
    for target in ("a", "b"):
        record.add(Outcome(1, target, "", 2.0, {"copy": 3}))
    record.add(Outcome(2, "b", "y differ", 1.0, {"copy": 4}))
    lines = summary(record.outcomes.values())
    assert lines[1].split() == ["copy", "3", "7"]
    assert lines[-1] == "b: 2 graphs, 1 failed, 3 s of work"


def test_wrong_outputs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sample, "differing", lambda sample, setting: ["y0"])
    assert [outcome.failure for outcome in Job(0, ("x86-64-v3",)).outcomes()] == ["y0 differ"]
