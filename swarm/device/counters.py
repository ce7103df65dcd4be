"""Counters of requests, answers and heartbeats: a restart is no replay, and a replay is worth nothing."""

from __future__ import annotations

WINDOW = 64
"""How far behind the newest counter an envelope may come: brokers reorder a little, attackers replay a lot."""


SPREAD = 1024
"""How far behind the newest counter of any kind: one counter serves all kinds, and at 400 frames a second this is more
than two seconds by which a question may arrive later than a heartbeat."""


class ReplayWindows:
    """Per sender and kind: the newest (boot, n) and which of the last 64 numbers were used. Bounded by the members.

    They live in memory. After a start the first envelope of a sender, its heartbeat at the latest, closes all kinds to
    what is older (ADR 0015 says why that is enough).
    """

    def __init__(self) -> None:
        """Start without any counter seen."""
        self._seen: dict[tuple[str, int], tuple[int, int, int]] = {}
        self._newest: dict[str, tuple[int, int]] = {}
        """Per sender the newest (boot, n) of any kind."""

    def is_fresh(self, sender: str, kind: int, boot: int, n: int) -> bool:
        """Answer whether (boot, n) was not used yet and is not too old; changes nothing."""
        if (boot, n + SPREAD) <= self._newest.get(sender, (0, 0)):
            return False
        seen = self._seen.get((sender, kind))
        if seen is None:
            return True
        last_boot, high, used = seen
        if boot != last_boot:
            return boot > last_boot
        if n > high:
            return True
        return high - n < WINDOW and not used >> (high - n) & 1

    def use(self, sender: str, kind: int, boot: int, n: int) -> None:
        """Mark (boot, n) used; only after its signature was checked."""
        last_boot, high, used = self._seen.get((sender, kind), (boot, n, 0))
        if boot != last_boot:
            last_boot, high, used = boot, n, 0
        if n > high:
            used = (used << (n - high) if n - high < WINDOW else 0) & ((1 << WINDOW) - 1)
            high = n
        self._seen[sender, kind] = (last_boot, high, used | 1 << (high - n))
        self._newest[sender] = max(self._newest.get(sender, (0, 0)), (boot, n))


class Counter:
    """The own (boot, n); the boot number was made durable before the first use."""

    def __init__(self, boot: int) -> None:
        """Count from (boot, 1)."""
        self.boot = boot
        self._n = 0

    def next(self) -> tuple[int, int]:
        """Return the next (boot, n)."""
        self._n += 1
        return self.boot, self._n
