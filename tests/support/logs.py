"""Runs commands through applications as the log would: in order, each in its own submission."""

from __future__ import annotations

from swarm.apps.application import Application, Context, Event
from swarm.apps.decisions.app import Decisions
from swarm.apps.decisions.commands import Closed, Opened, cast_command, deadline_command, decode_event
from swarm.apps.decisions.rules import Outcome
from swarm.crypto.digest import sha256


class Log:
    """Applies commands to one application at rising heights; `voters`, `observers` and `r` may be changed."""

    def __init__(self, app: Application, voters: int = 4, observers: int = 0, r: int = 1) -> None:
        self.app = app
        self.voters = tuple(f"dev-{index}" for index in range(voters))
        self.observers = tuple(f"obs-{index}" for index in range(observers))
        self.r = r
        self.epoch = 0
        self.height = 0

    def apply(self, origin: str, body: bytes) -> tuple[Event, ...]:
        """Apply one command of `origin`; raises what the application raises."""
        self.height += 1
        context = Context(
            height=self.height,
            epoch=self.epoch,
            submission=self.submission,
            command=0,
            origin=origin,
            role="voter" if origin in self.voters else "observer" if origin in self.observers else "operator",
            voters=self.voters,
            observers=self.observers,
            r=self.r,
        )
        return self.app.apply(context, body)

    @property
    def submission(self) -> bytes:
        """Id of the submission that was applied last, or that is applied now."""
        return sha256(b"submission", self.height.to_bytes(8, "big"))


class DecisionLog(Log):
    """A log of decisions with the words of a test."""

    def __init__(self, voters: int = 4, observers: int = 0, r: int = 1) -> None:
        self.decisions = Decisions()
        super().__init__(self.decisions, voters, observers, r)

    def open(self, command: bytes, origin: str = "ops") -> bytes:
        """Open a decision and return its id."""
        (event,) = self.apply(origin, command)
        opened = decode_event(event.body)
        assert isinstance(opened, Opened)
        return opened.decision.id

    def cast(self, decision: bytes, origin: str, ballot: int | None) -> Outcome | None:
        """Ballot, and return the outcome if that closed the decision."""
        return _outcome(self.apply(origin, cast_command(decision, ballot)))

    def deadline(self, decision: bytes, origin: str) -> Outcome | None:
        """Log that the deadline has passed, and return the outcome if that closed the decision."""
        return _outcome(self.apply(origin, deadline_command(decision)))


def _outcome(events: tuple[Event, ...]) -> Outcome | None:
    if not events:
        return None
    (event,) = events
    closed = decode_event(event.body)
    assert isinstance(closed, Closed)
    assert event.key == closed.outcome.decision, "an outcome is found by its decision's id"
    return closed.outcome
