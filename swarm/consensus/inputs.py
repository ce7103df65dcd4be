"""Everything the core can be told, already verified by device/admission; a closed set of frozen types."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.primitives.ids import DeviceId
from swarm.wire.messages import (
    AskBlock,
    AskBlocks,
    AskCertificates,
    AskSubmissions,
    Proposal,
    Submission,
)
from swarm.wire.statements import Certificate, Header, SignedStatement

ProtocolAsk = AskCertificates | AskBlock | AskSubmissions | AskBlocks


@dataclass(frozen=True, slots=True)
class StatementIn:
    """A statement whose signature was verified; `own` when this device's guard just signed it or replays it."""

    statement: SignedStatement
    own: bool = False


@dataclass(frozen=True, slots=True)
class CertificateIn:
    """A certificate with q verified signatures of distinct voters of its epoch.

    `broadcast` is False when it came to this device alone: nobody else may have it, so R8 spreads it.
    """

    certificate: Certificate
    broadcast: bool = True


@dataclass(frozen=True, slots=True)
class ProposalIn:
    """A proposal whose P signature and certificates were verified; `hash` is its header's hash."""

    proposal: Proposal
    hash: bytes
    own: bool = False


@dataclass(frozen=True, slots=True)
class SubmissionIn:
    """A submission with a verified signature; `own` when this device is its origin and just signed it."""

    submission: Submission
    own: bool = False


@dataclass(frozen=True, slots=True)
class BlockIn:
    """A block whose submissions hash to its header, each with a verified signature."""

    header: Header
    hash: bytes
    submissions: tuple[Submission, ...]


@dataclass(frozen=True, slots=True)
class BlocksIn:
    """Consecutive blocks and the FC on the last of them (verified), answering AskBlocks."""

    blocks: tuple[BlockIn, ...]
    finality: Certificate | None


@dataclass(frozen=True, slots=True)
class HeartbeatIn:
    """What a member says it has: a claim that is only ever used to ask it for more."""

    sender: DeviceId
    finalized_view: int
    height: int


@dataclass(frozen=True, slots=True)
class RequestIn:
    """A question of another member that the core or the store answers."""

    sender: DeviceId
    ask: ProtocolAsk


@dataclass(frozen=True, slots=True)
class Applied:
    """The device applied the block of `height`: the log and the state are now this.

    `notable` is set when the block produced an event or held an operator's submission (R14).
    """

    height: int
    log_size: int
    log_root: bytes
    state_root: bytes
    notable: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened but time."""


Input = (
    StatementIn
    | CertificateIn
    | ProposalIn
    | SubmissionIn
    | BlockIn
    | BlocksIn
    | HeartbeatIn
    | RequestIn
    | Applied
    | Tick
)
