"""One turn of a device: what goes in, and the only record that comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.apps.decisions.rules import DecisionView, Outcome
from swarm.primitives.ids import DeviceId
from swarm.transport.topics import Scope

# ------------------------------------------------------------------------------------------ inputs


@dataclass(frozen=True, slots=True)
class FrameIn:
    """A frame as the transport received it; `sender` and `scope` are the topic's words, nobody's proof."""

    sender: DeviceId
    scope: Scope
    payload: bytes


@dataclass(frozen=True, slots=True)
class Submit:
    """Put a command on the log as this device's own. `tag` comes back in the events that tell its fate."""

    app: str
    command: bytes
    tag: int = 0


@dataclass(frozen=True, slots=True)
class BallotReady:
    """A behaviour's answer to an `AskBallot` action; `ballot` None abstains. Index of an option, or an integer."""

    decision: bytes
    ballot: int | None


TurnInput = FrameIn | Submit | BallotReady

# ------------------------------------------------------------------------------------------ actions


@dataclass(frozen=True, slots=True)
class AskBallot:
    """Ask the behaviours for a ballot; the answer returns as `BallotReady`. Idempotent: asked again after a crash."""

    decision: DecisionView


@dataclass(frozen=True, slots=True)
class TellOutcome:
    """Tell the behaviours how a decision ended; idempotent."""

    outcome: Outcome


Action = AskBallot | TellOutcome

# ------------------------------------------------------------------------------------------ output


@dataclass(frozen=True, slots=True)
class OutFrame:
    """Payload to publish on the topic of `scope`; `to` is set for Scope.TO."""

    scope: Scope
    to: DeviceId | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """Something observable: for screens, reports, metrics and tests. `kind` is one of device/events."""

    kind: str
    at_ms: int
    data: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """The only thing that leaves a device, and only after its transaction is durable (R10)."""

    frames: tuple[OutFrame, ...] = ()
    actions: tuple[Action, ...] = ()
    wake_at_ms: int | None = None
    events: tuple[DeviceEvent, ...] = field(default=())
    synced: bool = False
    """Whether this turn had a transaction; the simulator charges the disk for it."""
