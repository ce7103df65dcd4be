"""Virtual time: a heap of (time, insertion number, what to do). The insertion number makes ties deterministic."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from swarm.primitives.errors import check


class Scheduler:
    """One clock for the whole simulated world, in microseconds since its start."""

    def __init__(self) -> None:
        """Start at time 0 with nothing to do."""
        self.now_us = 0
        self.steps = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._inserted = 0
        self._place = -1

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Do `action` at `time_us`, after everything that was put in earlier for the same time."""
        check(time_us >= self.now_us, "an event in the past")
        heapq.heappush(self._heap, (time_us, self._inserted, action))
        self._inserted += 1

    def reserve(self) -> int:
        """Return the place of an event that is put in later with `at_place`, as if it were put in now."""
        self._inserted += 1
        return self._inserted - 1

    def at_place(self, time_us: int, place: int, action: Callable[[], None]) -> None:
        """Do `action` at `time_us`, at a reserved place among what happens at that time."""
        check(time_us >= self.now_us, "an event in the past")
        heapq.heappush(self._heap, (time_us, place, action))

    def has_passed(self, time_us: int, place: int) -> bool:
        """Answer whether what stands at this time and place is being done, or was."""
        return (time_us, place) <= (self.now_us, self._place)

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Do `action` after `delay_us` microseconds."""
        self.at(self.now_us + delay_us, action)

    def run_until(self, time_us: int) -> None:
        """Do everything up to and including `time_us`, and leave the clock there."""
        while self._heap and self._heap[0][0] <= time_us:
            self.now_us, self._place, action = heapq.heappop(self._heap)
            self.steps += 1
            action()
        self.now_us = max(self.now_us, time_us)
