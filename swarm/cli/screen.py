"""The live screen of a run: a table that repaints on a terminal, one line a second where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from swarm.apps.decisions.rules import Outcome
from swarm.cli.logs import is_json, tell
from swarm.lab.scenario.progress import OnProgress, Progress, ignore_progress
from swarm.primitives.settings import format_duration_ms

LINES_EVERY_S: Final = 1.0
REPAINTS_PER_S: Final = 10
_OUTCOMES_SHOWN: Final = 6


@contextmanager
def watching(title: str, *, quiet: bool = False) -> Iterator[OnProgress]:
    """Give a callback that shows each `Progress`; on stderr, so that results on stdout stay clean."""
    console = Console(stderr=True)
    if quiet:
        yield ignore_progress
    elif console.is_terminal and not is_json():
        with Live(console=console, refresh_per_second=REPAINTS_PER_S, transient=True) as live:
            yield lambda progress: live.update(paint(title, progress))
    else:
        yield _Lines(title)


class _Lines:
    """One line a second, for logs and pipes."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next_at = time.monotonic() + LINES_EVERY_S

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + LINES_EVERY_S
        tell(line_of(self._title, progress))


def line_of(title: str, progress: Progress) -> str:
    """Return the one-line form of a moment."""
    up = sum(device.up for device in progress.devices)
    height = max((device.height for device in progress.devices), default=0)
    at = format_duration_ms(progress.at_ms // 1000 * 1000)
    text = (
        f"{title}: {progress.phase} {at} of {format_duration_ms(progress.duration_ms)}, "
        f"{up}/{len(progress.devices)} devices up, height {height}, {len(progress.closed)} decisions"
    )
    if progress.closed:
        text += f", last {outcome_line(progress.closed[-1][0])}"
    return text


def outcome_line(outcome: Outcome) -> str:
    """Return an outcome with its margin in a few words."""
    margin = "" if outcome.margin is None else f" (margin {outcome.margin})"
    return f"{outcome.subject} = {outcome.value_in_words()}{margin}"


def paint(title: str, progress: Progress) -> RenderableType:
    """Return the picture of a moment: devices, the last decisions, and how far the run is."""
    return Group(
        Text(f"{title}: {progress.phase}", style="bold"),
        _devices(progress),
        _outcomes(progress),
        _bar(progress),
    )


def _devices(progress: Progress) -> Table:
    table = Table(box=None, padding=(0, 2))
    for column in ("device", "state", "view", "height", "pending"):
        table.add_column(column, justify="left" if column in ("device", "state") else "right")
    for device in progress.devices:
        if not device.up:
            state = Text("down", style="red")
        elif device.byzantine:
            state = Text("attacker", style="yellow")
        else:
            state = Text("up", style="green")
        view = str(device.view) if device.up else "-"
        table.add_row(device.id, state, view, str(device.height), str(device.pending))
    return table


def _outcomes(progress: Progress) -> Table:
    table = Table(box=None, padding=(0, 2))
    for column in ("at", "decision", "outcome", "margin", "ballots"):
        table.add_column(column, no_wrap=column != "ballots")
    for outcome, _, closed_ms in progress.closed[-_OUTCOMES_SHOWN:]:
        margin = "-" if outcome.margin is None else str(outcome.margin)
        table.add_row(
            f"{closed_ms / 1000:.1f}s",
            outcome.subject,
            outcome.value_in_words(),
            margin,
            str(len(outcome.ballots)),
        )
    return table


def _bar(progress: Progress) -> RenderableType:
    done = min(progress.at_ms, progress.duration_ms)
    bar = Table.grid(padding=(0, 1))
    text = f"{done / 1000:.1f}s of {format_duration_ms(progress.duration_ms)}, {len(progress.closed)} decisions closed"
    bar.add_row(ProgressBar(total=progress.duration_ms, completed=done, width=40), text)
    return bar
