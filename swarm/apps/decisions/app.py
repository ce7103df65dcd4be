"""The application `decisions@1`: ballots on the log become one outcome (PROTOCOL section 5)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from swarm.apps.application import Context, Event, Rejected
from swarm.apps.decisions.commands import (
    STATE,
    Cast,
    Closed,
    DeadlinePassed,
    DecisionsState,
    Open,
    Opened,
    OpenState,
    decode_command,
)
from swarm.apps.decisions.rules import DecisionView, check_question, decide, decision_id, default_minimum
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import (
    DECISION_ELIGIBLE_MAX,
    DECISIONS_CLOSED_KEPT,
    DECISIONS_OPEN_MAX,
    DECISIONS_OPEN_PER_ORIGIN_MAX,
)
from swarm.wire.codec import encode


class _OpenDecision:
    """The changing side of an open decision; `view` holds what was fixed at the opening, without ballots."""

    __slots__ = ("ballots", "passed", "view")

    def __init__(self, view: DecisionView, passed: tuple[DeviceId, ...] = ()) -> None:
        self.ballots: dict[DeviceId, int | None] = dict(view.ballots)
        self.passed: dict[DeviceId, None] = dict.fromkeys(passed)
        self.view = msgspec.structs.replace(view, ballots=())

    def now(self) -> DecisionView:
        return msgspec.structs.replace(self.view, ballots=tuple(self.ballots.items()))


class Decisions:
    """Opens decisions, takes ballots, closes with an outcome. See `swarm.apps.application.Application`."""

    name: ClassVar[str] = "decisions"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Start without any decision."""
        self._open: dict[bytes, _OpenDecision] = {}
        self._closed: dict[bytes, int] = {}

    # -------------------------------------------------------------------------------------- commands

    def apply(self, context: Context, body: bytes) -> tuple[Event, ...]:
        """Apply one command of `commands`; raises `Rejected` with a reason for people."""
        try:
            command = decode_command(body)
        except DecodeError as error:
            # Only the reason: the detail is a library's sentence and may differ between its versions.
            raise Rejected(f"not a command of decisions@1: {error.reason}") from None
        match command:
            case Open():
                return self._apply_open(context, command)
            case Cast():
                return self._apply_cast(context, command)
            case DeadlinePassed():
                return self._apply_deadline(context, command)

    def _apply_open(self, context: Context, command: Open) -> tuple[Event, ...]:
        check_question(command.rule, options=command.options, scale=command.scale)
        eligible = _eligible(context, command)
        if command.minimum > len(eligible):
            raise Rejected(f"at least {command.minimum} ballots asked for, {len(eligible)} are eligible")
        if len(self._open) >= DECISIONS_OPEN_MAX:
            raise Rejected(f"{DECISIONS_OPEN_MAX} decisions are open already")
        own = sum(decision.view.opened_by == context.origin for decision in self._open.values())
        if own >= DECISIONS_OPEN_PER_ORIGIN_MAX:
            raise Rejected(f"{context.origin} has {DECISIONS_OPEN_PER_ORIGIN_MAX} decisions open already")
        view = DecisionView(
            id=decision_id(context.submission, context.command),
            subject=command.subject,
            rule=command.rule,
            options=command.options,
            scale=command.scale,
            eligible=eligible,
            minimum=command.minimum or default_minimum(len(eligible)),
            deadline_ms=command.deadline_ms,
            opened_height=context.height,
            opened_by=context.origin,
            ballots=(),
        )
        self._open[view.id] = _OpenDecision(view)
        return (Event(encode(Opened(view))),)

    def _apply_cast(self, context: Context, command: Cast) -> tuple[Event, ...]:
        decision = self._decision(command.decision)
        if context.origin not in decision.view.eligible:
            raise Rejected(f"{context.origin} is not eligible")
        if context.origin in decision.ballots:
            raise Rejected(f"{context.origin} has balloted already; the first ballot counts")
        options = len(decision.view.options)
        if command.ballot is not None and options and not 0 <= command.ballot < options:
            raise Rejected(f"option {command.ballot} is not 0 to {options - 1}")
        decision.ballots[context.origin] = command.ballot
        if len(decision.ballots) == len(decision.view.eligible):
            return self._close(context, decision)
        return ()

    def _apply_deadline(self, context: Context, command: DeadlinePassed) -> tuple[Event, ...]:
        decision = self._decision(command.decision)
        if context.origin not in context.voters:
            raise Rejected(f"{context.origin} is no voter; only voters say that a deadline has passed")
        if context.origin in decision.passed:
            raise Rejected(f"{context.origin} has said so already")
        decision.passed[context.origin] = None
        # Counted among the voters of the epoch in force here: one who has left it no longer speaks.
        if sum(voter in context.voters for voter in decision.passed) > context.r:
            return self._close(context, decision)
        return ()

    def _close(self, context: Context, decision: _OpenDecision) -> tuple[Event, ...]:
        outcome = decide(decision.now(), context.height)
        del self._open[outcome.decision]
        self._closed[outcome.decision] = context.height
        if len(self._closed) > DECISIONS_CLOSED_KEPT:
            del self._closed[next(iter(self._closed))]
        return (Event(encode(Closed(outcome)), key=outcome.decision),)

    def _decision(self, id: bytes) -> _OpenDecision:
        decision = self._open.get(id)
        if decision is None:
            height = self._closed.get(id)
            raise Rejected(
                "unknown decision" if height is None else f"the decision closed at height {height}"
            )
        return decision

    # -------------------------------------------------------------------------------------- reading

    def open_decisions(self) -> tuple[DecisionView, ...]:
        """Return all open decisions in the order of their opening."""
        return tuple(decision.now() for decision in self._open.values())

    def view(self, id: bytes) -> DecisionView | None:
        """Return the open decision with this id (32 bytes), or None: unknown or closed."""
        decision = self._open.get(id)
        return None if decision is None else decision.now()

    def is_closed(self, id: bytes) -> bool:
        """Answer whether this decision is among the last closed ones."""
        return id in self._closed

    def query(self, question: bytes) -> bytes:
        """Answer a decision id (32 bytes) with its canonical `DecisionView` or nil, and b"" with all open ids."""
        if not question:
            return encode(tuple(self._open))
        return encode(self.view(question))

    # -------------------------------------------------------------------------------------- snapshot

    def snapshot(self) -> bytes:
        """Return the whole state in its one canonical encoding."""
        return encode(
            DecisionsState(
                tuple(OpenState(decision.now(), tuple(decision.passed)) for decision in self._open.values()),
                tuple(self._closed.items()),
            )
        )

    def restore(self, state: bytes) -> None:
        """Replace the state by that of a snapshot; raises `DecodeError` and changes nothing for other bytes."""
        decoded = STATE.decode(state)
        self._open = {entry.view.id: _OpenDecision(entry.view, entry.passed) for entry in decoded.open}
        self._closed = dict(decoded.closed)


def _eligible(context: Context, command: Open) -> tuple[DeviceId, ...]:
    if command.group is None:
        if any(a >= b for a, b in zip(command.ids, command.ids[1:], strict=False)):
            raise Rejected("the eligible ids are not sorted and distinct")
        eligible = command.ids
    elif command.ids:
        raise Rejected("eligible is a group or a list of ids, not both")
    elif command.group == "voters":
        eligible = context.voters
    else:
        eligible = tuple(sorted((*context.voters, *context.observers)))
    if not eligible:
        raise Rejected("nobody is eligible")
    if len(eligible) > DECISION_ELIGIBLE_MAX:
        raise Rejected(
            f"{len(eligible)} are eligible, at most {DECISION_ELIGIBLE_MAX} may be; list them by id"
        )
    return eligible
