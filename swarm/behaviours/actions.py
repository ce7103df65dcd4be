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


Action = AskBallot | TellOutcome


@dataclass(frozen=True, slots=True)
class BallotReady:
    """A behaviour's answer to an `AskBallot` action; `ballot` None abstains. Index of an option, or an integer."""

    decision: bytes
    ballot: int | None
