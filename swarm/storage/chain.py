"""The numbered hash chain of own signatures, and what its mark proves about it (PROTOCOL R10).

Record n has the hash SHA-256(previous hash | n | kind | epoch | number | digest | signature). The hash before record
0 is the seal's, so a chain belongs to one swarm, device and key. Both stores keep their chain in a `Chain`, so that the
rules of pruning and of refusal exist once.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from swarm.crypto.digest import tagged_sha256
from swarm.primitives.errors import StoreGoneError, check
from swarm.storage.store import OwnRecord
from swarm.wire.statements import Kind

SEAL_KIND: Final = 0
"""Kind of record 0, which is the broken seal and no signature."""

GONE_HINT: Final = (
    "this device can no longer prove that it holds every statement it signed, so it must not vote; "
    "rejoining comes later: give the device a new key, or take it out of the swarm"
)

_PACKED: Final = struct.Struct(">QBIQ")

ViewNumber = tuple[int, int]
"""(epoch, view): statements are ordered by it."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: how many records it has had, and the hash of the last."""

    count: int
    hash: bytes


class Entry(NamedTuple):
    """One record of the chain with its number and its chain hash."""

    n: int
    record: OwnRecord
    hash: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """What lies beside the store and is synced after it: the chain's head of this turn, and the boot number."""

    count: int
    hash: bytes
    boot: int


def seal_digest(swarm_id: bytes, device: str, key_public: bytes) -> bytes:
    """Return the seal (32 bytes) of a store that has never signed; the chain starts from it."""
    return tagged_sha256("swarm store seal", swarm_id, device.encode("ascii"), key_public)


def seal_record(seal: bytes) -> OwnRecord:
    """Return record 0, into which the first start turns the seal."""
    return OwnRecord(kind=SEAL_KIND, epoch=0, number=0, digest=seal, signature=bytes(64))


def is_whole(record: OwnRecord) -> bool:
    """Answer whether a record read from a disk has the shape of one, so that it can be hashed at all."""
    return (
        0 <= record.kind < 2**8
        and 0 <= record.epoch < 2**32
        and 0 <= record.number < 2**64
        and (len(record.digest), len(record.signature)) == (32, 64)
    )


def record_hash(previous: bytes, n: int, record: OwnRecord) -> bytes:
    """Return the chain hash (32 bytes) of record `n` after the hash `previous`."""
    # Fixed lengths, or two different records could have one hash.
    check(
        len(record.digest) == 32 and len(record.signature) == 64,
        "a record has a digest of 32, a signature of 64 bytes",
    )
    packed = _PACKED.pack(n, record.kind, record.epoch, record.number)
    return hashlib.sha256(previous + packed + record.digest + record.signature).digest()


class Chain:
    """A chain from its base on: records before the base are pruned, what they taught is kept.

    Mutable. `base` is the head before the oldest record kept, `sequence` the highest own submission number ever
    signed, `attest` the newest A ever signed.
    """

    __slots__ = ("attest", "base", "entries", "head", "sequence")

    def __init__(self, base: Head, *, sequence: int = 0, attest: Entry | None = None) -> None:
        """Start at `base`; `sequence` and `attest` are what the pruned records left behind."""
        self.base = base
        self.head = base
        self.entries: deque[Entry] = deque()
        self.sequence = sequence
        self.attest = attest

    def copy(self) -> Chain:
        """Return an independent chain of the same (immutable) entries."""
        twin = Chain(self.base, sequence=self.sequence, attest=self.attest)
        twin.head = self.head
        twin.entries = self.entries.copy()
        return twin

    def verified(self) -> Chain:
        """Return this chain rebuilt from its base, link by link; raises `StoreGoneError` where one does not fit."""
        twin = Chain(self.base, sequence=self.sequence, attest=self.attest)
        for entry in self.entries:
            twin.replay(entry)
        return twin

    def append(self, record: OwnRecord) -> Entry:
        """Add a record at the end and return it as it is to be stored."""
        entry = Entry(self.head.count, record, record_hash(self.head.hash, self.head.count, record))
        self._take(entry)
        return entry

    def replay(self, entry: Entry) -> None:
        """Take a stored record up again; raises `StoreGoneError` unless it continues the chain."""
        if entry.n != self.head.count:
            raise StoreGoneError(
                f"own statement {self.head.count} is missing from the store, statement {entry.n} follows",
                hint=GONE_HINT,
            )
        if not is_whole(entry.record) or record_hash(self.head.hash, entry.n, entry.record) != entry.hash:
            raise StoreGoneError(f"own statement {entry.n} breaks the chain of the store", hint=GONE_HINT)
        self._take(entry)

    def prune(self, finalized: ViewNumber, marked_count: int) -> bool:
        """Drop the oldest records that nothing needs any more; returns whether the base moved.

        Never past the durable mark (`marked_count`): the mark must always find its record's hash in the store.
        """
        before = self.base.count
        while self.entries:
            n, record, digest = self.entries[0]
            if n >= marked_count or (
                record.kind in _VIEW_KINDS and (record.epoch, record.number) > finalized
            ):
                break
            self.entries.popleft()
            self.base = Head(n + 1, digest)
        return self.base.count != before

    def statements_above(self, finalized: ViewNumber) -> tuple[OwnRecord, ...]:
        """Return the statements of views above the finalized one and the newest A, in signing order."""
        kept = [
            entry
            for entry in self.entries
            if entry.record.kind in _VIEW_KINDS and (entry.record.epoch, entry.record.number) > finalized
        ]
        if self.attest is not None:
            kept.append(self.attest)
            kept.sort(key=lambda entry: entry.n)
        return tuple(entry.record for entry in kept)

    def hash_at(self, count: int) -> bytes | None:
        """Return the hash of the head when the chain had `count` records; None where that is unknown."""
        offset = count - self.base.count
        if offset == 0:
            return self.base.hash
        return self.entries[offset - 1].hash if 0 < offset <= len(self.entries) else None

    def _take(self, entry: Entry) -> None:
        record = entry.record
        self.entries.append(entry)
        self.head = Head(entry.n + 1, entry.hash)
        if record.kind == Kind.SUBMISSION:
            self.sequence = max(self.sequence, record.number)
        elif record.kind == Kind.ATTEST:
            newest = self.attest
            if newest is None or (record.epoch, record.number) >= (newest.record.epoch, newest.record.number):
                self.attest = entry


def check_mark(chain: Chain, mark: Mark | None) -> bool:
    """Return whether the mark is behind the store and has to be written anew.

    That is what a power cut between transaction and mark leaves, and it is harmless. Raises `StoreGoneError` when the
    store ends before its mark, when both tell of different chains, and when there is no mark.
    """
    if mark is None:
        raise StoreGoneError("the mark beside the store is missing or unreadable", hint=GONE_HINT)
    if mark.count > chain.head.count:
        raise StoreGoneError(
            f"the store ends after {chain.head.count} own statements, its mark says {mark.count}",
            hint=GONE_HINT,
        )
    if chain.hash_at(mark.count) != mark.hash:
        raise StoreGoneError("the store and its mark tell of different chains of statements", hint=GONE_HINT)
    return mark.count < chain.head.count


def check_beginning(chain: Chain, seal: bytes | None) -> bool:
    """Return whether the store is still sealed; raises `StoreGoneError` for one with neither seal nor chain."""
    if seal is None and chain.head.count == 0:
        raise StoreGoneError("the store has neither a seal nor a first statement", hint=GONE_HINT)
    if seal is not None and (chain.head.count != 0 or seal != chain.base.hash):
        raise StoreGoneError("the store has statements under an unbroken or foreign seal", hint=GONE_HINT)
    return seal is not None


_VIEW_KINDS: Final = frozenset((int(Kind.PROPOSE), int(Kind.NOTARIZE), int(Kind.SKIP), int(Kind.FINALIZE)))
