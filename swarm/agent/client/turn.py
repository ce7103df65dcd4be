"""What goes into a turn of a light client, and the only record that comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.agent.client.results import (
    ClientError,
    DecidedOutcome,
    Progress,
    ProvedEntry,
    Receipt,
    SwarmStatus,
    VerifiedEntries,
)
from swarm.device.turn import FrameIn, OutFrame
from swarm.install.port import InstallPlan
from swarm.storage.store import StoredBlock
from swarm.wire.messages import Command

# ------------------------------------------------------------------------------------------ inputs


@dataclass(frozen=True, slots=True)
class WantSubmit:
    """Put one command on the log; ends with a `Receipt`."""

    ticket: int
    command: Command


@dataclass(frozen=True, slots=True)
class WantDecision:
    """Open a decision with the command `opening`, cast `ballot` in it if given, end with a `DecidedOutcome`."""

    ticket: int
    opening: bytes
    ballot: int | None = None


@dataclass(frozen=True, slots=True)
class WantOutcome:
    """Wait for the end of a decision that somebody opened; ends with a `DecidedOutcome`."""

    ticket: int
    decision: bytes


@dataclass(frozen=True, slots=True)
class WantEntries:
    """Read at most `count` entries of the log; ends with `VerifiedEntries`."""

    ticket: int
    position: int
    count: int


@dataclass(frozen=True, slots=True)
class WantProof:
    """Prove one entry of the log; ends with a `ProvedEntry`."""

    ticket: int
    position: int


@dataclass(frozen=True, slots=True)
class WantBlocks:
    """Read consecutive blocks of the log from `height`, whose parent has the hash `parent`; ends with `VerifiedBlocks`.

    With none after `wait_ms`: nobody says when there is nothing new.
    """

    ticket: int
    height: int
    parent: bytes
    wait_ms: int


@dataclass(frozen=True, slots=True)
class WantStatus:
    """Ask every voter about itself, wait this long for answers; ends with a `SwarmStatus`."""

    ticket: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Nobody waits for this ticket any more. What was signed for it is followed to its end all the same."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Offer:
    """Serve this image to voters who ask for it, at most so many bytes a second, if that is given."""

    plan: InstallPlan
    image: bytes
    bytes_per_s: int | None = None


Want = WantSubmit | WantDecision | WantOutcome | WantEntries | WantProof | WantBlocks | WantStatus
ClientInput = FrameIn | Want | Offer | Forget

# ------------------------------------------------------------------------------------------ output


@dataclass(frozen=True, slots=True)
class VerifiedBlocks:
    """Consecutive blocks of the log, in order, with a quorum's word that they are final; none if nobody had any."""

    blocks: tuple[StoredBlock, ...]


Result = Receipt | DecidedOutcome | VerifiedEntries | ProvedEntry | VerifiedBlocks | SwarmStatus


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a ticket: what was proved, or why not."""

    ticket: int
    result: Result | ClientError


@dataclass(frozen=True, slots=True)
class ClientTurn:
    """The only thing that leaves a client, after its transaction is durable."""

    frames: tuple[OutFrame, ...]
    finished: tuple[Finished, ...]
    progress: tuple[tuple[int, Progress], ...]
    """(ticket, step)."""
    wake_at_ms: int | None
