"""What a turn asks of the behaviours, and what comes back as an input of a later turn."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.apps.decisions.rules import DecisionView, Outcome


@dataclass(frozen=True, slots=True)
class AskBallot:
    """Ask the behaviours for a ballot; the answer returns as `BallotReady`. Idempotent: asked again after a crash."""

    decision: DecisionView


@dataclass(frozen=True, slots=True)
class TellOutcome:
    """Tell the behaviours how a decision ended; idempotent."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Ask every behaviour that has a `check_health` whether it can do its work; answered by `SelfTested`."""

    tag: int


Action = AskBallot | TellOutcome | SelfTest


@dataclass(frozen=True, slots=True)
class BallotReady:
    """A behaviour's answer to an `AskBallot` action; `ballot` None abstains. Index of an option, or an integer."""

    decision: bytes
    ballot: int | None


@dataclass(frozen=True, slots=True)
class SelfTested:
    """What the behaviours said to a `SelfTest`; an empty `reason` = passed, else a code of a-z, 0-9 and hyphens."""

    tag: int
    reason: str
    detail: str = ""
    """In words, for this device's own screen."""
