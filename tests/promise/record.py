"""What a long run found, a line of JSON for each graph and target, and what it amounts to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What came of a seed compiled for a target: ``failure`` says what went wrong, empty if nothing did.

    ``seconds`` is the time that it took, that of drawing the graph included for the first target.
    """

    seed: int
    target: str
    failure: str
    seconds: float = 0.0
    ops: dict[str, int] = field(default_factory=dict)


class Record:
    """The outcomes by seed and target; with a ``path``, each goes to the file there as it comes."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.outcomes = {} if path is None else _read(path)

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.seed, outcome.target] = outcome
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")


def _read(path: Path) -> dict[tuple[int, str], Outcome]:
    """A last line that was cut off is taken away from the file."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        path.write_bytes(whole)
    outcomes = [Outcome(**json.loads(line)) for line in whole.splitlines()]
    return {(outcome.seed, outcome.target): outcome for outcome in outcomes}


def summary(outcomes: Iterable[Outcome]) -> list[str]:
    """A table of ops by target, and how many graphs, failures and seconds there were for each target."""
    by_target: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_target.setdefault(outcome.target, []).append(outcome)
    ops = [sum((Counter(outcome.ops) for outcome in group), Counter[str]()) for group in by_target.values()]
    lines = [f"{'':36s}" + "".join(f"{name:>20s}" for name in by_target)]
    for kind in sorted(set[str]().union(*ops)):
        lines.append(f"{kind:36s}" + "".join(f"{counts[kind]:20d}" for counts in ops))
    for name, group in by_target.items():
        failed = sum(bool(outcome.failure) for outcome in group)
        seconds = sum(outcome.seconds for outcome in group)
        lines.append(f"{name}: {len(group)} graphs, {failed} failed, {seconds:.0f} s of work")
    return lines
