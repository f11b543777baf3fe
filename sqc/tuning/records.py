"""Tuning records: a text file that only grows, one JSON object a line, each line with its own checksum.

A line is ``{"sum": S, "record": R}``, S being the first 16 digits of the SHA-256 of R in compact form with sorted keys.
A process that is killed while it writes leaves at most a last line without its end, which readers drop and the next
writer cuts off. Other damaged lines are skipped and reported. Several processes may append at once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sqc.errors import RecordsError

if TYPE_CHECKING:
    from sqc.schedules.microkernel import Tile

Record: TypeAlias = Mapping[str, Any]
Versions: TypeAlias = Mapping[str, str]
RecordsFile: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Trial:
    """One candidate, measured in turns with the model's choice. ``error`` tells why it could not be measured."""

    workload: str
    threads: tuple[int, ...]
    tile: Tile
    ratio: float
    """Its time over that of the model's choice: the geometric mean over ``threads``."""
    untuned_seconds: float
    """Of the model's choice in the same turns, at the first of ``threads``."""
    untuned: Tile
    """The model's choice."""
    error: str = ""


@dataclass(frozen=True)
class Choice:
    """What tuning chose for a workload: ``tile``, or the model's choice where nothing was reliably quicker."""

    workload: str
    threads: tuple[int, ...]
    tile: Tile
    ratio: float
    margin: float
    """The noise of ``ratio``: no smaller gain counts."""
    untuned: Tile
    tried: int
    note: str = ""


Entry: TypeAlias = Trial | Choice
_KINDS: dict[str, type[Trial] | type[Choice]] = {"trial": Trial, "choice": Choice}


class Records:
    """The entries of a file that were made with the versions of TVM, tvm-ffi and LLVM at hand, in order.

    A missing file holds none. ``damaged`` gives the numbers of lines that had to be skipped. ``versions`` default to
    those of this process. Raises RecordsError if the file cannot be read.
    """

    def __init__(self, path: RecordsFile, versions: Versions | None = None) -> None:
        self.path = Path(path)
        self._versions = versions
        self.damaged: list[int] = []
        self.entries: list[Entry] = []
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecordsError(f"{self.path}: cannot read these tuning records: {error.strerror}") from error
        for number, record in _records(content):
            if record is None:
                self.damaged.append(number)
            elif record.get("versions") == self.versions:
                self.entries += _entry(record)

    @cached_property
    def versions(self) -> Versions:
        """The versions that entries are made with."""
        if self._versions is not None:
            return self._versions
        from sqc.codegen.objects import ObjectStore

        return ObjectStore().versions

    def append(self, entry: Entry) -> None:
        """Add an entry; once this returns it is on the disk. Raises RecordsError if the system refuses."""
        kind = "trial" if isinstance(entry, Trial) else "choice"
        target, _, _ = entry.workload.partition(":")
        record = {"kind": kind, "isa": _isa(target), "versions": dict(self.versions), **asdict(entry)}
        line = json.dumps({"sum": _checksum(record), "record": record}, allow_nan=False) + "\n"
        try:
            _append(self.path, line.encode())
        except OSError as error:
            raise RecordsError(f"{self.path}: cannot add to these tuning records: {error.strerror}") from error
        self.entries.append(entry)

    def trials(self, workload: str, threads: tuple[int, ...], untuned: Tile) -> dict[Tile, Trial]:
        """What was measured so far against ``untuned``, by tile."""
        key = workload, threads, untuned
        trials = (entry for entry in self.entries if isinstance(entry, Trial))
        return {trial.tile: trial for trial in trials if (trial.workload, trial.threads, trial.untuned) == key}

    def choice(self, workload: str, threads: tuple[int, ...], untuned: Tile) -> Choice | None:
        """The last choice for a workload and these numbers of threads that was made against ``untuned``."""
        key = workload, threads, untuned
        choices = (entry for entry in reversed(self.entries) if isinstance(entry, Choice))
        return next((choice for choice in choices if (choice.workload, choice.threads, choice.untuned) == key), None)

    @property
    def tiles(self) -> dict[str, Tile]:
        """The tile of each workload, for the compiler; where several lines speak of one, the last holds.

        Workloads that stayed with the model's choice are left out, so that a later version's model may choose better.
        """
        last = {entry.workload: entry for entry in self.entries if isinstance(entry, Choice)}
        return {workload: choice.tile for workload, choice in last.items() if choice.tile != choice.untuned}


def tuned_tiles(records: RecordsFile | Records | None) -> dict[str, Tile]:
    """What a ``records`` argument means to the compiler. Raises RecordsError if there is no such file."""
    if records is None:
        return {}
    if not isinstance(records, Records):
        if not Path(records).exists():
            raise RecordsError(f"{Path(records)}: there are no such tuning records; `sqc tune` makes them")
        records = Records(records)
    return records.tiles


def _isa(target: str) -> str:
    from sqc.schedules import Target

    return Target.parse(target).isa


def _checksum(record: Record) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _records(content: bytes) -> Iterator[tuple[int, Record | None]]:
    """Number and record of every line, None for one that is damaged; what follows the last line end is dropped."""
    *lines, _ = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            envelope = json.loads(line)
            intact = envelope["sum"] == _checksum(envelope["record"])
        except (ValueError, TypeError, KeyError):
            intact = False
        yield number, envelope["record"] if intact else None


def _entry(record: Record) -> list[Entry]:
    """The entry of a record; none if it is of a kind, or of fields, that this version of sqc does not know."""
    from sqc.schedules.microkernel import Tile

    fields = {name: value for name, value in record.items() if name not in ("kind", "isa", "versions")}
    try:
        fields["tile"], fields["untuned"] = Tile(**fields["tile"]), Tile(**fields["untuned"])
        fields["threads"] = tuple(fields["threads"])
        return [_KINDS[record["kind"]](**fields)]
    except (KeyError, TypeError):
        return []


def _append(path: Path, line: bytes) -> None:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    with open(file, "r+b", buffering=0) as stream:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_torn_line(file)
        if stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file)


def _cut_torn_line(file: int) -> None:
    """Cut off what a killed writer left without its end. Nobody else is writing: the caller holds the lock."""
    size = end = os.fstat(file).st_size
    block = 4096
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
