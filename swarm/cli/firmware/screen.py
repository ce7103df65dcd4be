"""What moves while a command works: bars and tables on a terminal, a line a second where there is none.

All of it goes to stderr, so that results on stdout stay clean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from swarm.cli.logs import is_json, tell

EVERY_S: Final = 1.0

OnProgress = Callable[[int, int], None]
"""Told (done, total)."""


class Lines:
    """A line whenever there is something new to say, at most one a second."""

    def __init__(self) -> None:
        """Say the first line at once."""
        self._next_at = time.monotonic()
        self._said = ""

    def say(self, line: str) -> None:
        """Say `line` unless it was the last one or the second is not over."""
        if line != self._said and time.monotonic() >= self._next_at:
            tell(line)
            self._said = line
            self._next_at = time.monotonic() + EVERY_S


def is_terminal() -> bool:
    """Answer whether something may be painted."""
    return sys.stderr.isatty() and not is_json()


@contextmanager
def reading(what: str, unit: str = "blocks") -> Iterator[OnProgress]:
    """Show how far something countable is: a bar on a terminal, else a line a second from the second second on."""
    if not is_terminal():
        lines = _Late(what, unit)
        yield lines.show
        return
    # Only here: whoever pipes the output does not pay for a terminal library.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show


class _Late:
    """Nothing for what is over within a second."""

    def __init__(self, what: str, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._next_at = time.monotonic() + EVERY_S

    def show(self, done: int, total: int) -> None:
        if done < total and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + EVERY_S
            tell(f"{self._what}: {done} of {total} {self._unit}")
