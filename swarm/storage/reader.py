"""Everything that is asked of an SQLite store; changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from swarm.primitives.errors import DecodeError, StoreError, StoreGoneError
from swarm.storage.chain import GONE_HINT, Chain, Entry, Head, ViewNumber, is_whole
from swarm.storage.damage import SQLITE_ERRORS, damaged, reason_of
from swarm.storage.rows import (
    CERTIFICATE,
    CHECKPOINT,
    GENESIS_VIEW,
    HEADER,
    PROPOSAL,
    STATEMENT,
    SUBMISSION_PREFIX,
    decode_raw,
    decode_row,
    finality_view,
    node_id,
)
from swarm.storage.store import OwnRecord, Restored, Snapshot, StoredBlock
from swarm.wire.leaves import Leaf, decode_leaf
from swarm.wire.messages import Checkpoint, Submission
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, header_hash

_LOG_COLUMNS = "SELECT hash, header, counts FROM log WHERE "


class SqliteReader:
    """Reads of the contract over one connection. Every method raises `StoreError` when the medium fails."""

    def __init__(self, connection: sqlite3.Connection, where: str) -> None:
        """Read through `connection`; `where` names the file in errors."""
        self._connection = connection
        self._where = where

    # ----------------------------------------------------------------------------- the chain and what is live

    def read_chain(self) -> tuple[Chain, bytes | None, int]:
        """Return the chain, verified link by link, the unbroken seal or None, and the boot number.

        Raises `StoreGoneError` when a link is missing or broken.
        """
        state = self._one(
            "SELECT seal, boot, base_count, base_hash, sequence, attest_n, attest_epoch, attest_height,"
            " attest_digest, attest_signature, attest_hash FROM state"
        )
        if state is None:
            raise StoreGoneError(f"{self._where} has neither a seal nor a chain", hint=GONE_HINT)
        attest = None
        if state[5] is not None:
            record = OwnRecord(int(Kind.ATTEST), state[6], state[7], state[8], state[9])
            if None in state[6:11] or not is_whole(record):
                raise StoreGoneError(
                    f"{self._where}: the newest attestation of this device is damaged", hint=GONE_HINT
                )
            attest = Entry(state[5], record, state[10])
        chain = Chain(Head(state[2], state[3]), sequence=state[4], attest=attest)
        rows = self._all("SELECT n, hash, kind, epoch, number, digest, signature FROM records ORDER BY n")
        for n, digest, *columns in rows:
            chain.replay(Entry(n, OwnRecord(*columns), digest))
        return chain, state[0], state[1]

    def highest_finality(self) -> Certificate | None:
        """Return the FC of the highest view, delivered or not."""
        row = self._one("SELECT body FROM finality ORDER BY epoch DESC, view DESC LIMIT 1")
        stored = (
            self.waiting_finality()
            if row is None
            else [decode_row(CERTIFICATE, row[0]), *self.waiting_finality()]
        )
        return max(stored, key=finality_view, default=None)

    def waiting_finality(self) -> list[Certificate]:
        """Return the FCs whose block is not in the log yet, by view."""
        rows = self._all(
            "SELECT body FROM certificates WHERE kind = ? ORDER BY epoch, view", (int(Kind.FINALIZE),)
        )
        return [decode_row(CERTIFICATE, body) for (body,) in rows]

    def kept_headers(self) -> dict[bytes, Header]:
        """Return hash and header of the blocks that are not in the log, by view."""
        rows = self._all("SELECT hash, header FROM blocks")
        kept = [(digest, decode_row(HEADER, header)) for digest, header in rows]
        kept.sort(key=lambda pair: (pair[1].epoch, pair[1].view, pair[0]))
        return dict(kept)

    def tip(self) -> StoredBlock | None:
        """Return the last block of the log."""
        row = self._one("SELECT hash, header, counts FROM log ORDER BY height DESC LIMIT 1")
        return None if row is None else self._log_block(row)

    def log_size(self) -> int:
        """Return the number of leaves."""
        row = self._one("SELECT MAX(position) FROM leaves")
        return 0 if row is None or row[0] is None else int(row[0]) + 1

    def restored(self, chain: Chain, boot: int) -> Restored:
        """Return everything needed to go on from this chain."""
        highest = self.highest_finality()
        finalized: ViewNumber = GENESIS_VIEW if highest is None else (highest.epoch, highest.number)
        certificates = [
            decode_row(CERTIFICATE, body)
            for (body,) in self._all(
                "SELECT body FROM certificates WHERE (epoch, view) > (?, ?) ORDER BY epoch, view, kind",
                finalized,
            )
        ]
        if highest is not None:
            certificates.insert(0, highest)
        snapshot = self._one("SELECT height, state FROM snapshots ORDER BY height DESC LIMIT 1")
        checkpoint = self._one("SELECT body FROM checkpoints ORDER BY height DESC LIMIT 1")
        proposals = self._all(
            "SELECT body FROM proposals WHERE (epoch, view) > (?, ?) ORDER BY epoch, view", finalized
        )
        own = self._all(
            "SELECT raw FROM own_submissions JOIN submissions USING (id) ORDER BY own_submissions.sequence, id"
        )
        own_submissions = tuple(decode_raw(raw) for (raw,) in own)
        return Restored(
            boot=boot,
            records=chain.statements_above(finalized),
            sequence=max([chain.sequence, *(s.body.sequence for s in own_submissions)]),
            proposals=tuple(decode_row(PROPOSAL, body) for (body,) in proposals),
            certificates=tuple(certificates),
            blocks=tuple(self._kept_block(digest, header) for digest, header in self.kept_headers().items()),
            own_submissions=own_submissions,
            tip=self.tip(),
            snapshot=None if snapshot is None else Snapshot(*snapshot),
            log_size=self.log_size(),
            checkpoint=None if checkpoint is None else decode_row(CHECKPOINT, checkpoint[0]),
        )

    # ----------------------------------------------------------------------------- reads of the contract

    def block_at(self, height: int) -> StoredBlock | None:
        """Return the log's block of `height`."""
        row = self._one(_LOG_COLUMNS + "height = ?", (height,))
        return None if row is None else self._log_block(row)

    def block_by_hash(self, digest: bytes) -> StoredBlock | None:
        """Return a kept or finalized block by its hash."""
        row = self._one(_LOG_COLUMNS + "hash = ?", (digest,))
        if row is not None:
            return self._log_block(row)
        row = self._one("SELECT header FROM blocks WHERE hash = ?", (digest,))
        return None if row is None else self._kept_block(digest, decode_row(HEADER, row[0]))

    def finality_of(self, height: int) -> Certificate | None:
        """Return the FC that names the log's block of exactly this height, if one is stored."""
        row = self._one("SELECT body FROM log JOIN finality USING (epoch, view) WHERE height = ?", (height,))
        return None if row is None else decode_row(CERTIFICATE, row[0])

    def certificate(self, kind: int, view: int) -> Certificate | None:
        """Return a stored certificate of this kind and view, of the newest epoch that has one."""
        row = self._one(
            "SELECT body FROM certificates WHERE view = ? AND kind = ? ORDER BY epoch DESC LIMIT 1",
            (view, kind),
        )
        if row is None and kind == Kind.FINALIZE:
            # Once per epoch a look by the primary key: an index on the view alone would cost every commit a page.
            row = self._one(
                "WITH RECURSIVE epochs(e) AS (SELECT MAX(epoch) FROM finality UNION ALL SELECT e - 1 FROM epochs"
                " WHERE e > 0) SELECT body FROM epochs JOIN finality ON epoch = e AND view = ? LIMIT 1",
                (view,),
            )
        return None if row is None else decode_row(CERTIFICATE, row[0])

    def submission(self, digest: bytes) -> Submission | None:
        """Return a stored submission by id."""
        row = self._one("SELECT raw FROM submissions WHERE id = ?", (digest,))
        if row is None:
            return None
        found = decode_raw(row[0])
        if found.id != digest:
            raise damaged(self._where, f"the bytes of submission {digest.hex()[:8]} are others")
        return found

    def node(self, level: int, index: int) -> bytes:
        """Return a perfect-subtree hash of the log's Merkle tree; raises `StoreError` if absent."""
        row = self._one("SELECT hash FROM nodes WHERE id = ?", (node_id(level, index),))
        if row is None:
            raise StoreError(
                f"{self._where} has no Merkle node {index} of level {level}",
                hint=f"swarm store repair {self._where}",
            )
        return bytes(row[0])

    def leaf(self, position: int) -> bytes | None:
        """Return the leaf data at `position`."""
        row = self._one(
            "SELECT data, raw FROM leaves LEFT JOIN submissions ON row = submission WHERE position = ?",
            (position,),
        )
        if row is None:
            return None
        if row[0] is None and row[1] is None:
            raise StoreError(
                f"the submission of leaf {position} is missing", hint="run `swarm store check` on it"
            )
        return bytes(row[0]) if row[0] is not None else SUBMISSION_PREFIX + row[1]

    def decoded_leaf(self, position: int) -> Leaf | None:
        """Return the leaf at `position` decoded, None where there is none or it is damaged."""
        try:
            data = self.leaf(position)
            return None if data is None else decode_leaf(data)
        except (DecodeError, StoreError):
            return None

    def log_size_at(self, height: int) -> int:
        """Return how many leaves the log had after the block of `height`; reads all of them."""
        return self._number("SELECT COUNT(*) FROM leaves WHERE height <= ?", (height,)) or 0

    def highest_own_sequence(self, device: str) -> int:
        """Return the highest number of an own submission that is in the log or waits for it."""
        waiting = self._number("SELECT COALESCE(MAX(sequence), 0) FROM own_submissions", ())
        applied = self._number("SELECT COALESCE(MAX(sequence), 0) FROM leaves WHERE origin = ?", (device,))
        return max(waiting or 0, applied or 0)

    def find(self, key: bytes) -> int | None:
        """Return the position of the last leaf stored with `key`."""
        return self._number("SELECT position FROM keys WHERE key = ?", (key,))

    def find_sequence(self, origin: str, incarnation: int, sequence: int) -> int | None:
        """Return the position of the applied submission leaf with this origin, incarnation and sequence."""
        return self._number(
            "SELECT position FROM leaves WHERE origin = ? AND incarnation = ? AND sequence = ? LIMIT 1",
            (origin, incarnation, sequence),
        )

    def checkpoint_covering(self, log_size: int) -> Checkpoint | None:
        """Return the oldest checkpoint whose log size is at least `log_size`."""
        row = self._one(
            "SELECT body FROM checkpoints WHERE log_size >= ? ORDER BY log_size, height LIMIT 1", (log_size,)
        )
        return None if row is None else decode_row(CHECKPOINT, row[0])

    def blocks_after(self, height: int) -> Iterator[StoredBlock]:
        """Yield the log's blocks above `height` in order; a commit in between is harmless."""
        while (block := self.block_at(height + 1)) is not None:
            yield block
            height += 1

    def evidence(self) -> tuple[tuple[SignedStatement, SignedStatement], ...]:
        """Return the stored evidence in the order of epoch, voter and kinds; one pair of each."""
        rows = self._all("SELECT first, second FROM evidence ORDER BY epoch, voter, first_kind, second_kind")
        return tuple((decode_row(STATEMENT, first), decode_row(STATEMENT, second)) for first, second in rows)

    # ----------------------------------------------------------------------------- rows

    def _log_block(self, row: tuple[bytes, bytes, bytes]) -> StoredBlock:
        digest, header_bytes, counts = row
        header = decode_row(HEADER, header_bytes)
        self._check_hash(digest, header)
        return StoredBlock(digest, header, self._bodies(header), tuple(map(bool, counts)))

    def _kept_block(self, digest: bytes, header: Header) -> StoredBlock:
        self._check_hash(digest, header)
        return StoredBlock(digest, header, self._bodies(header))

    def _check_hash(self, digest: bytes, header: Header) -> None:
        # A hash costs microseconds; a header with a flipped bit would go into the core, and to peers that ask for it.
        if header_hash(header) != digest:
            raise damaged(self._where, f"the header of view {header.view} does not have the block's hash")

    def _bodies(self, header: Header) -> tuple[Submission, ...]:
        bodies = []
        for digest in header.submissions:
            found = self.submission(digest)
            if found is None:
                raise StoreError(
                    f"{self._where}: a submission of the block of view {header.view} is missing",
                    hint="run `swarm store check` on it",
                )
            bodies.append(found)
        return tuple(bodies)

    def _number(self, sql: str, arguments: tuple[Any, ...]) -> int | None:
        row = self._one(sql, arguments)
        return None if row is None else int(row[0])

    def _one(self, sql: str, arguments: Iterable[Any] = ()) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._connection.execute(sql, tuple(arguments)).fetchone()
        except SQLITE_ERRORS as error:
            raise self._unreadable(error) from error
        return row

    def _all(self, sql: str, arguments: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, tuple(arguments)).fetchall()
        except SQLITE_ERRORS as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> StoreError:
        return StoreError(
            f"cannot read {self._where}: {reason_of(error)}", hint=f"swarm store repair {self._where}"
        )
