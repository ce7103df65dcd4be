"""One turn of a device: what goes in, and the only record that comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.behaviours.actions import Action as BehaviourAction
from swarm.behaviours.actions import AskBallot, BallotReady, SelfTest, SelfTested, TellOutcome
from swarm.device.firmware.operations import FirmwareAction, Healthy, Install, InstallDone, Reboot
from swarm.primitives.ids import DeviceId
from swarm.transport.topics import Scope

__all__ = [
    "Action",
    "AskBallot",
    "BallotReady",
    "BehaviourAction",
    "DeviceEvent",
    "FirmwareAction",
    "FrameIn",
    "Healthy",
    "Install",
    "InstallDone",
    "OutFrame",
    "Reboot",
    "SelfTest",
    "SelfTested",
    "Submit",
    "TellOutcome",
    "Turn",
    "TurnInput",
]

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


TurnInput = FrameIn | Submit | BallotReady | SelfTested | InstallDone

# ------------------------------------------------------------------------------------------ output

Action = BehaviourAction | FirmwareAction


@dataclass(frozen=True, slots=True)
class OutFrame:
    """Payload to publish on the topic of `scope`; `to` is set for Scope.TO."""

    scope: Scope
    to: DeviceId | None
    payload: bytes
    bulk: bool = False
    """A chunk of firmware: leaves only while nothing else waits."""
    repeated: bool = False
    """A question for chunks: put again when no answer comes, so no broker need acknowledge it (ADR 0018)."""


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

    @property
    def behaviour_actions(self) -> tuple[BehaviourAction, ...]:
        """What the behaviours are asked, in order."""
        return tuple(a for a in self.actions if isinstance(a, BehaviourAction))

    @property
    def firmware_actions(self) -> tuple[FirmwareAction, ...]:
        """What is ordered of the install back end, and of whoever watches this device, in order."""
        return tuple(a for a in self.actions if isinstance(a, FirmwareAction))
