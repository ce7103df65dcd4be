"""What an application of the log is: a deterministic state machine over ordered commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from swarm.primitives.errors import SwarmError
from swarm.primitives.ids import DeviceId
from swarm.wire.genesis import Genesis


class Rejected(SwarmError):  # noqa: N818  -- it is the log's word for the event, not a failure of the program
    """A command that the application refuses; the router turns it into an event `rejected` with the reason.

    Raise it before changing any state. Every device must refuse the same command with the same reason.
    """

    def __init__(self, reason: str) -> None:
        """Keep the reason, at most 200 characters of ASCII."""
        self.reason = reason[:200]
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where in the log a command stands: all that an application may know besides its own state."""

    height: int
    epoch: int
    submission: bytes
    """Id of the submission, 32 bytes."""
    command: int
    """Index of the command in it."""
    origin: DeviceId
    role: str
    """`voter`, `observer` or `operator`, as genesis says."""
    voters: tuple[DeviceId, ...]
    """Voters of the epoch in force, sorted."""
    observers: tuple[DeviceId, ...]
    r: int
    """How many voters may lie in this epoch."""
    position: int = 0
    """Position that the first event of this command gets in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockContext:
    """What an application may know of a block before any command of it."""

    height: int
    hash: bytes
    """Hash of the header, 32 bytes; its leader could choose between several."""
    epoch: int
    voters: tuple[DeviceId, ...]
    """Voters of the epoch in force, sorted."""
    observers: tuple[DeviceId, ...]
    r: int


@dataclass(frozen=True, slots=True)
class Event:
    """What an application tells the log: `body` is its own canonical bytes; `key` (32 bytes) finds it again."""

    body: bytes
    key: bytes | None = None


@runtime_checkable
class Application(Protocol):
    """A deterministic state machine on the log.

    Determinism duties: integers, bytes and strings only; no floats, clock, random numbers, environment or files;
    iterate dicts in insertion or sorted order and never a set; the same commands in the same order must give the
    same events and the same snapshot bytes on every machine. An exception other than `Rejected` stops the device,
    because a device that guesses has left the log.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def apply(self, context: Context, body: bytes) -> tuple[Event, ...]:
        """Apply one command; returns the events it produced; raises `Rejected` before any change."""

    def snapshot(self) -> bytes:
        """Return the whole state in one canonical encoding."""

    def restore(self, state: bytes) -> None:
        """Replace the state by what `snapshot` returned, here or on another device."""

    def query(self, question: bytes) -> bytes:
        """Answer a local question; never changes the state."""


@runtime_checkable
class SwarmFollower(Protocol):
    """An application that wants to read the genesis: told once, before anything is applied or restored."""

    def begin_swarm(self, genesis: Genesis) -> None:
        """Take from genesis what the first state needs. What is taken here is no part of a snapshot."""


@runtime_checkable
class BlockFollower(Protocol):
    """An application that wants to know of every block of the log, the empty ones included."""

    def begin_block(self, block: BlockContext) -> None:
        """Note the block whose commands follow. No events: an event belongs to a command."""
