"""The bytes of `decisions@1`: three commands that go in, two events that come out, and its snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from swarm.apps.decisions.rules import Count, DeadlineMs, DecisionView, Eligible, Options, Outcome, Scale
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    COMMAND_BYTES_MAX,
    DECISIONS_CLOSED_KEPT,
    DECISIONS_OPEN_MAX,
    SNAPSHOT_BYTES_MAX,
    SUBMISSION_BYTES_MAX,
    VOTERS_MAX,
)
from swarm.wire.codec import I64, U63, Bytes32, Codec, Name, encode

Group = Literal["voters", "all"]
"""`all` = voters and observers; an operator ballots only if listed by id."""

# ------------------------------------------------------------------------------------------ commands


class Open(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Open a decision. `options` empty = about a number; `minimum` 0 = half of the eligible, rounded up."""

    subject: Name
    rule: Name
    options: Options
    scale: Scale
    group: Group | None
    """Who may ballot; None when `ids` says so."""
    ids: Eligible
    deadline_ms: DeadlineMs
    minimum: Count


class Cast(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Ballot in a decision: the index of an option, an integer in units of 10^-scale, or None to abstain."""

    decision: Bytes32
    ballot: I64 | None


class DeadlinePassed(msgspec.Struct, tag=3, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Say that by my own monotonic clock the deadline of this decision has passed."""

    decision: Bytes32


Command = Open | Cast | DeadlinePassed

_COMMAND: Final[Codec[Command]] = Codec(Command, bytes_max=COMMAND_BYTES_MAX)


def open_command(
    *,
    subject: str,
    rule: str,
    options: Iterable[str] = (),
    scale: int = 0,
    eligible: Group | Iterable[DeviceId] = "voters",
    deadline_ms: int,
    minimum: int = 0,
) -> bytes:
    """Return the command that opens a decision; what is wrong with it, the application says (`rejected`).

    `options` are names; without them the decision is about a number with `scale` decimal places. `eligible` is
    `voters`, `all` or ids. `minimum` is the fewest ballots that decide; 0 means half of the eligible.
    """
    group: Group | None = None
    ids: tuple[DeviceId, ...] = ()
    if eligible == "voters" or eligible == "all":
        group = eligible
    else:
        ids = tuple(sorted(eligible))
    return encode(
        Open(
            subject=subject,
            rule=rule,
            options=tuple(options),
            scale=scale,
            group=group,
            ids=ids,
            deadline_ms=deadline_ms,
            minimum=minimum,
        )
    )


def cast_command(decision: bytes, ballot: int | None) -> bytes:
    """Return the command that ballots (or abstains with None) in `decision` (32 bytes)."""
    return encode(Cast(decision, ballot))


def deadline_command(decision: bytes) -> bytes:
    """Return the command that says that the deadline of `decision` (32 bytes) has passed here."""
    return encode(DeadlinePassed(decision))


def decode_command(body: bytes) -> Command:
    """Return the command in `body`, or raise `DecodeError`."""
    return _COMMAND.decode(body)


# ------------------------------------------------------------------------------------------ events


class Opened(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A decision is open from here on; ballots are visible as submissions and make no events of their own."""

    decision: DecisionView


class Closed(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A decision is closed; the event is found by the decision's id."""

    outcome: Outcome


_EVENT: Final[Codec[Opened | Closed]] = Codec(Opened | Closed, bytes_max=SUBMISSION_BYTES_MAX)


def decode_event(body: bytes) -> Opened | Closed:
    """Return the event of `decisions` in `body` (without the router's tag), or raise `DecodeError`."""
    return _EVENT.decode(body)


# ------------------------------------------------------------------------------------------ snapshot


class OpenState(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One open decision: its view with the ballots so far, and the voters whose deadline has passed, in log order."""

    view: DecisionView
    passed: Annotated[tuple[Name, ...], msgspec.Meta(max_length=VOTERS_MAX)]


class DecisionsState(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The whole state: open decisions in order of opening; (id, height) of the last closed ones, oldest first."""

    open: Annotated[tuple[OpenState, ...], msgspec.Meta(max_length=DECISIONS_OPEN_MAX)]
    closed: Annotated[tuple[tuple[Bytes32, U63], ...], msgspec.Meta(max_length=DECISIONS_CLOSED_KEPT)]


STATE: Final[Codec[DecisionsState]] = Codec(DecisionsState, bytes_max=SNAPSHOT_BYTES_MAX)
