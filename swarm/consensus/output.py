"""What the core wants done: one frozen record, with the order rule written on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.consensus.inputs import ProtocolAsk
from swarm.primitives.ids import DeviceId
from swarm.wire.messages import Checkpoint, Item, Proposal, Submission
from swarm.wire.statements import Certificate, Header, SignedStatement


class Priority(IntEnum):
    """R8's order under the token bucket, most urgent first."""

    VOTE = 0
    SUBMISSION = 1
    ANSWER = 2
    BULK = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """A statement the rules ask for; only the guard may sign it. `proposal` is set for kind P, unsigned."""

    kind: int
    epoch: int
    number: int
    digest: bytes
    proposal: Proposal | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Publish an item to everybody (`to` None) or to one member."""

    item: Item
    to: DeviceId | None
    priority: Priority


@dataclass(frozen=True, slots=True)
class AskFor:
    """Ask one member something; the device signs and counts the request."""

    to: DeviceId
    ask: ProtocolAsk


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer a question from the store (`device/answers`): it needs blocks the core no longer holds."""

    to: DeviceId
    ask: ProtocolAsk


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """A block whose bytes must be durable: it was notarized by us, or is being finalized."""

    hash: bytes
    header: Header
    submissions: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class FinalizedBlock:
    """One block of the log, delivered in height order exactly once.

    `counts[i]` says whether submission i is applied or a no-op without a leaf. `finality` is set on the block
    that the FC itself names; its ancestors are final by it.
    """

    hash: bytes
    header: Header
    submissions: tuple[Submission, ...]
    counts: tuple[bool, ...]
    finality: Certificate | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two signed statements of one voter that no correct device makes both (PROTOCOL, evidence table)."""

    first: SignedStatement
    second: SignedStatement


@dataclass(frozen=True, slots=True)
class Output:
    """Everything to do next, in one record.

    Order rule (R10): sign `wanted` in memory and feed the statements back; apply `finalized` in order and feed
    `Applied` back; call `advance` again until nothing is wanted and nothing is finalized; then make everything
    durable in one transaction and sync the mark; only then may `sends`, `asks` and answers leave.
    """

    wanted: tuple[Wanted, ...] = ()
    sends: tuple[Send, ...] = ()
    asks: tuple[AskFor, ...] = ()
    serves: tuple[Serve, ...] = ()
    finalized: tuple[FinalizedBlock, ...] = ()
    keep_blocks: tuple[KeptBlock, ...] = ()
    keep_certificates: tuple[Certificate, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[tuple[str, int], ...] = ()
    """Observable happenings as (name, number): `entered` view, `skipped` view, `standstill`, `attest-mismatch`."""
    wake_at_ms: int | None = None
    """When to call `advance` again at the latest, None for never; said in a quiet output only."""

    def is_quiet(self) -> bool:
        """Answer whether the loop of absorb, sign and apply has come to rest."""
        return not self.wanted and not self.finalized
