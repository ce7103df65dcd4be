"""What the log says about firmware: every entry of `rollout` with the events that it made, read from stored leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import Command, decode_command
from swarm.apps.rollout.events import RolloutEvent, decode_event
from swarm.apps.router import Refusal, read_body
from swarm.primitives.errors import DecodeError, check
from swarm.wire.leaves import decode_leaf
from swarm.wire.messages import Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """One command of `rollout` on the log; `position` is its submission's, `id` the submission's id (32 bytes)."""

    position: int
    id: bytes
    speaker: str
    command: Command
    events: tuple[tuple[int, RolloutEvent], ...]
    height: int
    """Of its block; 0 where it made no event."""


def read_entries(leaf: Callable[[int], bytes | None], first: int, end: int) -> Iterator[LoggedEntry]:
    """Yield the entries of `rollout` in the leaves `first` to `end` - 1, in order.

    `leaf` gives the data of a position; both ends lie between submissions, as block borders do. What is no command of
    `rollout` is passed over: the application refused it as well.
    """
    current: Submission | None = None
    position = first
    events: list[tuple[int, int, int, RolloutEvent]] = []
    for at in range(first, end):
        data = leaf(at)
        check(data is not None, f"the log has no leaf {at}")
        decoded = decode_leaf(data or b"")
        if decoded.submission is not None:
            if current is not None:
                yield from _entries(current, position, events)
            current, position, events = decoded.submission, at, []
        elif decoded.event is not None and decoded.event.app == Rollout.name:
            body = read_body(decoded.event.body)
            if not isinstance(body, Refusal):
                events.append((decoded.event.command, at, decoded.event.height, decode_event(body)))
    if current is not None:
        yield from _entries(current, position, events)


def _entries(
    submission: Submission, position: int, events: list[tuple[int, int, int, RolloutEvent]]
) -> Iterator[LoggedEntry]:
    for index, command in enumerate(submission.body.commands):
        if command.app != Rollout.name:
            continue
        try:
            decoded = decode_command(command.body)
        except DecodeError:
            continue
        own = [(at, height, event) for number, at, height, event in events if number == index]
        yield LoggedEntry(
            position=position,
            id=submission.id,
            speaker=submission.body.origin,
            command=decoded,
            events=tuple((at, event) for at, _, event in own),
            height=own[0][1] if own else 0,
        )
