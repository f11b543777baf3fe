"""Records survive kills, damage, and several writers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sqc.errors import RecordsError
from sqc.schedules.microkernel import Tile
from sqc.tuning.records import Choice, Records, Trial, tuned_tiles

VERSIONS = {"tvm": "1", "tvm-ffi": "2", "llvm": "3"}
UNTUNED, OTHER = Tile(8, 2, 64, 1), Tile(4, 4, 32, 2)
TRIAL = Trial("znver4: A(1)", (1,), OTHER, 0.9, 2.5e-6, UNTUNED)
CHOICE = Choice("znver4: A(1)", (1,), OTHER, 0.91, 0.01, UNTUNED, 24)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuning.records"


def fill(path: Path, count: int) -> list[Trial]:
    records = Records(path, VERSIONS)
    trials = [replace(TRIAL, ratio=1 + i / 7) for i in range(count)]
    for trial in trials:
        records.append(trial)
    return trials


def test_round_trip(path: Path) -> None:
    records = Records(path, VERSIONS)
    assert not records.entries and not path.exists()
    records.append(TRIAL)
    records.append(CHOICE)
    again = Records(path, VERSIONS)
    assert again.entries == records.entries == [TRIAL, CHOICE]
    assert again.trials(TRIAL.workload, (1,), UNTUNED) == {OTHER: TRIAL}
    assert again.choice(TRIAL.workload, (1,), UNTUNED) == CHOICE
    assert again.tiles == {TRIAL.workload: OTHER}
    again.append(replace(CHOICE, tile=UNTUNED))
    assert Records(path, VERSIONS).tiles == {}


def test_keys(path: Path) -> None:
    records = Records(path, VERSIONS)
    records.append(TRIAL)
    records.append(CHOICE)
    for workload, threads, untuned in (("B", (1,), UNTUNED), ("znver4: A(1)", (2,), UNTUNED), ("A", (1,), OTHER)):
        assert not records.trials(workload, threads, untuned)
        assert records.choice(workload, threads, untuned) is None
    for name in VERSIONS:
        other = Records(path, {**VERSIONS, name: "9"})
        assert not other.entries and not other.damaged


@pytest.mark.parametrize("lost", [1, 2, 40, 200, 300])
def test_a_torn_last_line_is_dropped(path: Path, lost: int) -> None:
    trials = fill(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:-lost])
    records = Records(path, VERSIONS)
    assert records.entries == trials[:2] and not records.damaged
    records.append(CHOICE)
    assert Records(path, VERSIONS).entries == [*trials[:2], CHOICE]
    assert path.read_bytes().startswith(b"".join(lines[:2]))


def test_a_file_of_one_torn_line(path: Path) -> None:
    path.write_bytes(b"{" * 10_000)
    assert not Records(path, VERSIONS).entries
    fill(path, 1)
    assert len(Records(path, VERSIONS).entries) == 1


def test_damaged_lines_are_skipped_and_reported(path: Path) -> None:
    trials = fill(path, 6)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"1.14", b"0.14", 1)
    lines[3] = b"\xff\x00 not even text\n"
    lines[4] = b'["neither", "is", "this"]\n'
    path.write_bytes(b"".join(lines))
    records = Records(path, VERSIONS)
    assert records.damaged == [2, 4, 5]
    assert records.entries == [trials[0], trials[2], trials[5]]


def test_several_writers(path: Path) -> None:
    code = (
        "import sys; from tests.tuning.test_records import *\n"
        "records = Records(sys.argv[1], VERSIONS)\n"
        "for i in range(50): records.append(replace(TRIAL, untuned_seconds=int(sys.argv[2]) * 1000.0 + i))"
    )
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)], cwd=root) for i in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    records = Records(path, VERSIONS)
    assert not records.damaged
    seen = sorted(entry.untuned_seconds for entry in records.entries if isinstance(entry, Trial))
    assert seen == [i * 1000.0 + j for i in range(3) for j in range(50)]


def test_errors_name_the_file(path: Path) -> None:
    with pytest.raises(RecordsError, match=r"tuning\.records: there are no such"):
        tuned_tiles(path)
    path.mkdir()
    with pytest.raises(RecordsError, match=r"tuning\.records: cannot read"):
        Records(path, VERSIONS)
    with pytest.raises(RecordsError, match=r"no/such: cannot add"):
        Records(path / "no" / "such", VERSIONS).append(TRIAL)
