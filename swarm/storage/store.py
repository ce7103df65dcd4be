"""The store's contract: one transaction a turn, then the mark (PROTOCOL R10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from swarm.wire.messages import Checkpoint, Proposal, Submission
from swarm.wire.statements import Certificate, Header, SignedStatement


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """One signature this device made: a statement, or a submission (kind S, number = sequence, digest = id)."""

    kind: int
    epoch: int
    number: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block with its bytes; `height` counts only once it is in the log, `counts` likewise."""

    hash: bytes
    header: Header
    submissions: tuple[Submission, ...]
    counts: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Finality:
    """The block at `height` entered the log; `certificate` is the FC that names this very block, if any does."""

    block: StoredBlock
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class NewLeaf:
    """One leaf of the log at `position`. `keys` find it again (submission id, decision id); 32 bytes each."""

    position: int
    height: int
    data: bytes
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Canonical application state after the block of `height`."""

    height: int
    state: bytes


@dataclass(slots=True)
class Batch:
    """Everything of one turn that must be durable before a byte of it leaves; collected, then committed whole."""

    records: list[OwnRecord] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    blocks: list[StoredBlock] = field(default_factory=list)
    own_submissions: list[Submission] = field(default_factory=list)
    finalized: list[Finality] = field(default_factory=list)
    leaves: list[NewLeaf] = field(default_factory=list)
    nodes: list[tuple[int, int, bytes]] = field(default_factory=list)
    """New perfect-subtree hashes of the Merkle tree: (level, index, hash)."""
    snapshots: list[Snapshot] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    evidence: list[tuple[SignedStatement, SignedStatement]] = field(default_factory=list)
    settled_submissions: list[bytes] = field(default_factory=list)
    """Ids of own submissions that need no republishing although this store saw no block with them: expired,
    superseded, or proven to a light client."""
    boot: int | None = None

    def is_empty(self) -> bool:
        """Answer whether this turn needs no transaction."""
        return not (
            self.records
            or self.proposals
            or self.certificates
            or self.blocks
            or self.own_submissions
            or self.finalized
            or self.leaves
            or self.nodes
            or self.snapshots
            or self.checkpoints
            or self.evidence
            or self.settled_submissions
            or self.boot is not None
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """What a store holds at start; everything volatile is rebuilt from it."""

    boot: int
    """Highest boot number made durable; the next start uses boot + 1."""
    records: tuple[OwnRecord, ...]
    """Own statements of views above the finalized one, the newest A, in signing order."""
    sequence: int
    """Highest own submission sequence number ever signed."""
    proposals: tuple[Proposal, ...]
    """Own proposals of views above the finalized one."""
    certificates: tuple[Certificate, ...]
    """Certificates of views above the finalized one, and the highest FC."""
    blocks: tuple[StoredBlock, ...]
    """Blocks kept that are not in the log yet."""
    own_submissions: tuple[Submission, ...]
    """Own submissions not yet seen in the log."""
    tip: StoredBlock | None
    """Last block of the log (delivered), None before the first."""
    snapshot: Snapshot | None
    log_size: int
    checkpoint: Checkpoint | None
    """The newest checkpoint."""


class Store(Protocol):
    """One device's durable memory; held by one process, by an exclusive lock.

    Every method raises `StoreError` when the medium fails; the caller discards the turn and stops.
    """

    def load(self) -> Restored:
        """Return everything needed to go on; raises `StoreGoneError` when the store cannot be trusted."""

    def commit(self, batch: Batch) -> None:
        """Make the whole batch durable in one synced transaction, then sync the mark, then return.

        Records of views <= the finalized one and certificates below it that are no FC of the log may be pruned
        in the same transaction that stores that FC. Raises `StoreError`; nothing of the batch is then durable
        or everything is, and the caller must stop.
        """

    def block_at(self, height: int) -> StoredBlock | None:
        """Return the log's block of `height`."""

    def block_by_hash(self, digest: bytes) -> StoredBlock | None:
        """Return a kept or finalized block by its hash."""

    def finality_of(self, height: int) -> Certificate | None:
        """Return the FC that names the log's block of exactly this height, if one is stored."""

    def certificate(self, kind: int, view: int) -> Certificate | None:
        """Return a stored certificate of this kind and view."""

    def submission(self, digest: bytes) -> Submission | None:
        """Return a stored submission by id."""

    def node(self, level: int, index: int) -> bytes:
        """Return a perfect-subtree hash of the log's Merkle tree; raises `StoreError` if absent."""

    def leaf(self, position: int) -> bytes | None:
        """Return the leaf data at `position`."""

    def find(self, key: bytes) -> int | None:
        """Return the position of the last leaf stored with `key`."""

    def find_sequence(self, origin: str, incarnation: int, sequence: int) -> int | None:
        """Return the position of the applied submission leaf with this origin, incarnation and sequence."""

    def checkpoint_covering(self, log_size: int) -> Checkpoint | None:
        """Return the oldest checkpoint whose log size is at least `log_size`."""

    def blocks_after(self, height: int) -> Iterator[StoredBlock]:
        """Yield the log's blocks above `height` in order, for the replay into the applications."""

    def evidence(self) -> tuple[tuple[SignedStatement, SignedStatement], ...]:
        """Return the stored evidence in the order of epoch, voter and kinds; one pair of each."""

    def close(self) -> None:
        """Release the lock; a closed store answers nothing."""
