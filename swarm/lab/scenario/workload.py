"""The workload of a scenario as a list of what to do when: pure, ordered, equal for equal scenarios."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarm.apps.decisions.commands import Group, open_command
from swarm.lab.scenario.schema import Decide, Scenario, SubmitShape, WorkLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Commands for the application `notes`, bundled in one submission."""

    commands: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One thing to do at `at_ms`; `index` counts all items of the run from 0.

    `origin` None leaves the choice to the engine, which alone knows who is up: round-robin over those, by `index`.
    """

    at_ms: int
    index: int
    origin: str | None
    action: Decide | Submit

    def origin_among(self, free: Sequence[str]) -> str | None:
        """Return who does it: the device that the file names, else the next of `free` in turn; None if there is none."""
        if self.origin is not None:
            return self.origin
        return free[self.index % len(free)] if free else None

    def commands(self) -> list[tuple[str, bytes]]:
        """Return (application, command) of everything to put on the log."""
        if isinstance(self.action, Decide):
            return [("decisions", _opening(self.action))]
        return [("notes", body) for body in self.action.commands]


def plan(scenario: Scenario) -> Iterator[WorkItem]:
    """Yield the work of a scenario in the order in which it is to be done, within the run.

    The first repetition of a line comes one period after the start, so that a run begins with devices that have
    met. At one time the line that stands first in the file goes first. Payloads depend on seed, line and number
    only. Changes nothing; raises nothing for a checked scenario.
    """
    lines = [_times_of(line, number, scenario.duration_ms) for number, line in enumerate(scenario.workload)]
    for index, (at_ms, number, repetition) in enumerate(heapq.merge(*lines)):
        line = scenario.workload[number]
        yield WorkItem(
            at_ms=at_ms,
            index=index,
            origin=line.origin,
            action=_action_of(line.action, scenario.seed, number, repetition),
        )


def _times_of(line: WorkLine, number: int, duration_ms: int) -> Iterator[tuple[int, int, int]]:
    """Yield (at_ms, line number, repetition) of one line; integer division spreads a rate without drift."""
    repetition = 0
    while (at_ms := (repetition + 1) * line.period_ms // line.count) < duration_ms:
        yield at_ms, number, repetition
        repetition += 1


def _action_of(action: Decide | SubmitShape, seed: int, number: int, repetition: int) -> Decide | Submit:
    if isinstance(action, Decide):
        return action
    return Submit(
        commands=tuple(
            _payload(f"{seed}/{number}/{repetition}/{command}", action.bytes)
            for command in range(action.commands)
        )
    )


def _payload(label: str, size: int) -> bytes:
    """Return `size` bytes that look random and are the same for one label on every machine."""
    return hashlib.shake_256(f"swarm workload {label}".encode()).digest(size)


def _opening(action: Decide) -> bytes:
    return open_command(
        subject=action.subject,
        rule=action.rule,
        options=action.options,
        scale=action.scale or 0,
        eligible=_eligible(action.eligible),
        deadline_ms=action.deadline_ms,
    )


def _eligible(eligible: str | tuple[str, ...]) -> Group | tuple[str, ...]:
    if isinstance(eligible, tuple):
        return eligible
    return "all" if eligible == "all" else "voters"
