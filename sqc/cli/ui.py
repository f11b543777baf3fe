"""What commands share in talking to a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

    from sqc.page import Table as Content
    from sqc.progress import Progress as Move

PIPE_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """A console; into a file or pipe it writes wide lines and no colours."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, markup=False)


def say(message: str) -> None:
    """A line on stdout that is never wrapped."""
    console().print(message, soft_wrap=True)


def warn(message: str) -> None:
    """A line on stderr that is never wrapped."""
    console(stderr=True).print(f"Warning: {message}", soft_wrap=True)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in ``right`` hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def show(content: Content) -> None:
    """Print a table of figures; a sum stands apart."""
    result = table(content.heading, *content.columns, right=content.right)
    for index, row in enumerate(content.rows):
        if content.summed and index == len(content.rows) - 1:
            result.add_section()
        result.add_row(*row)
    console().print(result)


@contextmanager
def progress() -> Iterator[Move]:
    """A progress bar on stderr (nothing if that is no terminal), and what moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    terminal = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal, redirect_stdout=False) as bar:
        tasks: list[TaskID] = []

        def move(done: int, total: int, what: str) -> None:
            if not tasks:
                tasks.append(bar.add_task(what, total=None))
            bar.update(tasks[0], completed=done, total=total or None, description=what)

        yield move


@contextmanager
def status(message: str) -> Iterator[None]:
    """A spinner on stderr while something runs that cannot tell how far it is."""
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield
        return
    with terminal.status(message):
        yield


def kilobytes(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"


def milliseconds(seconds: float) -> str:
    """Three digits that matter, from microseconds to seconds."""
    value = seconds * 1e3
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"
