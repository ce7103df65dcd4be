"""What an engine tells a screen while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swarm.apps.decisions.rules import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNow:
    """One device at one moment. `view` and `height` are the last known ones while it is down."""

    id: str
    up: bool
    byzantine: bool
    view: int
    height: int
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One moment of a run, in milliseconds since its start."""

    at_ms: int
    duration_ms: int
    phase: str
    """What the engine does: `starting`, `running`, `collecting`."""
    devices: tuple[DeviceNow, ...] = ()
    closed: tuple[tuple[Outcome, int, int], ...] = ()
    """(outcome, height, closed at ms), oldest first."""
    happened: tuple[str, ...] = ()
    """Faults so far, in words."""


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Watch nothing."""
