"""Histories to store, and media to store them on: the same for the store on a disk and the one in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from unittest import mock

from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.primitives.ids import ZERO_DIGEST
from swarm.storage.memory import Boundary, MemoryStore, PowerCut
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.storage.store import Batch, Finality, NewLeaf, OwnRecord, StoredBlock
from swarm.wire.codec import encode
from swarm.wire.leaves import EventBody, event_leaf, submission_leaf
from swarm.wire.messages import (
    Checkpoint,
    Command,
    Proposal,
    Submission,
    SubmissionBody,
    seal_submission,
)
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, genesis_header, header_hash

SWARM = sha256(b"swarm")
KEY = sha256(b"key")
DEVICE = "dev-0"
SIGNATURES = tuple((voter, bytes([voter + 1]) * 64) for voter in range(3))


def record(kind: int, number: int, *, epoch: int = 0, digest: bytes = ZERO_DIGEST) -> OwnRecord:
    """Return an own record whose signature depends on everything in it; none of the stores verifies it."""
    signed = sha256(bytes([kind]), number.to_bytes(8, "big"), digest)
    return OwnRecord(int(kind), epoch, number, digest, signed + signed)


def certificate(kind: int, view: int, digest: bytes = ZERO_DIGEST, *, epoch: int = 0) -> Certificate:
    """Return a certificate of three signatures."""
    return Certificate(kind=int(kind), epoch=epoch, number=view, digest=digest, signatures=SIGNATURES)


def submission(sequence: int, *, origin: str = DEVICE, body: bytes = b"hello") -> Submission:
    """Return a submission of one command."""
    content = SubmissionBody(
        origin=origin, incarnation=0, sequence=sequence, expiry=0, commands=(Command(app="notes", body=body),)
    )
    signed = encode(content)
    return seal_submission(content, signed, sha256(signed) * 2)


def statement(kind: int, view: int, *, voter: int = 0, digest: bytes = ZERO_DIGEST) -> SignedStatement:
    """Return a statement as evidence holds it."""
    return SignedStatement(
        kind=int(kind), epoch=0, number=view, digest=digest, voter=voter, signature=bytes(64)
    )


def checkpoint(height: int, log_size: int, root: bytes = ZERO_DIGEST) -> Checkpoint:
    """Return a checkpoint of one signature."""
    return Checkpoint(
        epoch=0,
        height=height,
        log_size=log_size,
        log_root=root,
        state_root=ZERO_DIGEST,
        signatures=SIGNATURES[:1],
    )


class History:
    """A log that grows block by block, with everything a device would store of it."""

    def __init__(self) -> None:
        self.blocks: list[StoredBlock] = []
        self.tree = Frontier()

    def block(self, view: int, *submissions: Submission, on: StoredBlock | None = None) -> StoredBlock:
        """Return a block of `view` on `on`, or on the last finalized one; it is not in the log yet."""
        parent = on or (self.blocks[-1] if self.blocks else None)
        above = parent.header if parent else genesis_header(SWARM)
        header = Header(
            epoch=0,
            view=view,
            height=above.height + 1,
            parent_view=above.view,
            parent=parent.hash if parent else header_hash(above),
            submissions=tuple(s.id for s in submissions),
            next=ZERO_DIGEST,
            proposer=0,
        )
        return StoredBlock(header_hash(header), header, submissions)

    def proposal(self, block: StoredBlock) -> Proposal:
        """Return the proposal of a block."""
        return Proposal(header=block.header, parent=None, skips=(), signature=bytes(64))

    def finalized(self, *blocks: StoredBlock, with_certificate: bool = True) -> Batch:
        """Return the batch that puts blocks into the log, the last one's FC with it; an event for each submission."""
        batch = Batch()
        for block in blocks:
            stored = StoredBlock(
                block.hash, block.header, block.submissions, (True,) * len(block.submissions)
            )
            named = with_certificate and block is blocks[-1]
            finality = certificate(Kind.FINALIZE, block.header.view, block.hash) if named else None
            batch.finalized.append(Finality(stored, finality))
            self.blocks.append(stored)
            for content in block.submissions:
                event = EventBody(
                    height=block.header.height, submission=content.id, command=0, app="notes", body=b"noted"
                )
                self._leaf(batch, block.header.height, submission_leaf(content.raw), (content.id,))
                self._leaf(batch, block.header.height, event_leaf(event), (sha256(content.id),))
        return batch

    def _leaf(self, batch: Batch, height: int, data: bytes, keys: tuple[bytes, ...]) -> None:
        batch.leaves.append(NewLeaf(self.tree.size, height, data, keys))
        batch.nodes.extend(self.tree.append(leaf_hash(data)))

    def vote(self, view: int, block: StoredBlock) -> Batch:
        """Return the turn that notarizes a block: the vote, the block with its bytes."""
        return Batch(records=[record(Kind.NOTARIZE, view, digest=block.hash)], blocks=[block])

    def lock(self, view: int, block: StoredBlock) -> Batch:
        """Return the turn that finalizes: the vote with its VC."""
        return Batch(
            records=[record(Kind.FINALIZE, view, digest=block.hash)],
            certificates=[certificate(Kind.NOTARIZE, view, block.hash)],
        )


Opened = SqliteStore | MemoryStore


class StoreMedium(Protocol):
    """Something a store lies on that outlives it."""

    def open(self) -> Opened:
        """Return the store as a start of the device would open it; the one opened before is closed."""

    def cut(self, batch: Batch, after: Boundary) -> None:
        """Commit `batch` on the open store and cut the power with this much of it durable."""

    def fail(self) -> None:
        """Let the next commit of the open store fail like a full disk."""

    def close(self) -> None:
        """Close what is open."""


class DiskMedium:
    """A folder with a store; a power cut goes on with a copy of what lies there at that moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders = 0
        self.path = folder / "0" / "dev-0.sqlite"
        self.path.parent.mkdir(parents=True)
        create_store(self.path, SWARM, DEVICE, KEY)
        self.store: SqliteStore | None = None

    def open(self) -> SqliteStore:
        self.close()
        self.store = SqliteStore(self.path, swarm_id=SWARM, device=DEVICE, key_public=KEY)
        return self.store

    def cut(self, batch: Batch, after: Boundary) -> None:
        assert self.store is not None
        if after == "transaction":
            cut_mark = mock.patch.object(type(self.store._mark), "write", side_effect=PowerCut)
            with cut_mark, suppress(PowerCut):
                self.store.commit(batch)
        elif after == "all":
            self.store.commit(batch)
        self.move_copy()

    def move_copy(self) -> Path:
        """Go on with a copy of the files as they lie now, as a power cut would leave them; returns its path."""
        self.folders += 1
        target = self.folder / str(self.folders) / self.path.name
        target.parent.mkdir()
        for suffix in ("", "-wal", ".mark"):
            if (source := self.path.with_name(self.path.name + suffix)).exists():
                shutil.copy(source, target.with_name(target.name + suffix))
        self.close()
        self.path = target
        return target

    def fail(self) -> None:
        assert self.store is not None
        pages = self.store._connection.execute("PRAGMA page_count").fetchone()[0]
        self.store._connection.execute(f"PRAGMA max_page_count = {pages}")

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None


class MemoryMedium:
    """A store in memory and what it leaves when it is reopened."""

    def __init__(self) -> None:
        self.store = MemoryStore(swarm_id=SWARM, device=DEVICE, key_public=KEY)
        self.is_open = False

    def open(self) -> MemoryStore:
        if self.is_open:
            self.store = self.store.reopen()
        self.is_open = True
        return self.store

    def cut(self, batch: Batch, after: Boundary) -> None:
        self.store.power_cut(after=after)
        try:
            self.store.commit(batch)
        except PowerCut:
            pass
        else:
            assert batch.is_empty()

    def fail(self) -> None:
        self.store.fail_next("database or disk is full")

    def close(self) -> None:
        self.store.close()


@contextmanager
def medium_of(kind: str, folder: Path) -> Iterator[StoreMedium]:
    """Give a fresh medium of `disk` or `memory`."""
    medium: StoreMedium = DiskMedium(folder) if kind == "disk" else MemoryMedium()
    try:
        yield medium
    finally:
        medium.close()


def spoil_schema(path: Path) -> None:
    """Overwrite the first type of `CREATE TABLE finality` with bytes that are no UTF-8, in a stopped store."""
    data = bytearray(path.read_bytes())
    at = data.index(b"INTEGER", data.index(b"CREATE TABLE finality"))
    data[at : at + 4] = b"\xff\xfe\xfd\xc0"
    path.write_bytes(data)
