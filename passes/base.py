"""What a pass is, and the notes that passes leave for the report after a compile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sqc.ir import Graph, Op


class Pass(Protocol):
    """A rewriting of graphs.

    Passes are frozen dataclasses whose fields, all with defaults, are their options. ``name`` is the module's name
    with dashes. The docstring says in its first line what the pass does, then how, as ``before -> after``.
    """

    name: ClassVar[str]

    def apply(self, graph: Graph, notes: Notes) -> Graph:
        """The rewritten graph; ``graph`` itself stays as it is. Raises an SqcError where the user has to act."""
        ...


@dataclass(frozen=True, slots=True)
class Note:
    """A remark of a pass about ``subject``, a node of the user's model."""

    pass_name: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {self.subject}: {self.message}"


class Notes:
    """Collects what passes did, and did not do and why."""

    def __init__(self) -> None:
        self._notes: list[Note] = []

    def add(self, origin: Pass, subject: Op | str, message: str) -> None:
        """Record that pass ``origin`` has to say ``message`` about an op or a node by name. Repetitions are dropped."""
        note = Note(origin.name, subject if isinstance(subject, str) else subject.label(), message)
        if note not in self._notes:
            self._notes.append(note)

    def __iter__(self) -> Iterator[Note]:
        return iter(self._notes)

    def __len__(self) -> int:
        return len(self._notes)

    def of(self, pass_name: str) -> list[Note]:
        """The notes of one pass, in order."""
        return [note for note in self._notes if note.pass_name == pass_name]
