"""Each device's own timer of each open decision: started when it first saw it open, and again after a restart.

So a device is late, never early, and no clock has to be right: r+1 voters saying "passed" include an honest one.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.apps.decisions.rules import DecisionView

_AGAIN_MS = 1_000
"""After which a deadline that found no room among the own commands is due again."""


class Deadlines:
    """Timers by decision id; bounded by the number of open decisions."""

    def __init__(self) -> None:
        """Start without timers."""
        self._due_ms: dict[bytes, int] = {}
        self._said: dict[bytes, None] = {}

    def watch(self, decisions: Iterable[DecisionView], now_ms: int) -> None:
        """Start a timer for each open decision that has none; forget those that closed."""
        open_now = {decision.id: decision for decision in decisions}
        for id in [d for d in self._due_ms if d not in open_now]:
            del self._due_ms[id]
        for id in [d for d in self._said if d not in open_now]:
            del self._said[id]
        for id, decision in open_now.items():
            if id not in self._said:
                self._due_ms.setdefault(id, now_ms + decision.deadline_ms)

    def take_due(self, now_ms: int) -> list[bytes]:
        """Return the decisions whose deadline passed here, each once per start."""
        due = [id for id, at in self._due_ms.items() if at <= now_ms]
        for id in due:
            del self._due_ms[id]
            self._said[id] = None
        return due

    def say_again(self, id: bytes, now_ms: int) -> None:
        """Let the deadline be due once more in a moment: it could not be said."""
        if self._said.pop(id, ()) is None:
            self._due_ms[id] = now_ms + _AGAIN_MS

    def next_due_ms(self) -> int | None:
        """Return when the next timer fires."""
        return min(self._due_ms.values(), default=None)
