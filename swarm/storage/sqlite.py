"""The store on a disk: SQLite in WAL mode, one synced transaction a turn, then the mark (PROTOCOL R10).

The hot path touches few tables: a vote is one row in `records` and one in `certificates` or `blocks`. Live tables are
emptied up to the finalized view and stay a page or two; log tables only grow at their end.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from swarm.primitives.errors import StoreError, StoreGoneError
from swarm.primitives.limits import CHAIN_RECORDS_KEPT, SNAPSHOTS_KEPT, STORE_WAL_BYTES_MAX, STORE_WAL_PAGES
from swarm.storage.chain import GONE_HINT, Entry, Mark, ViewNumber, check_mark, seal_record
from swarm.storage.damage import SQLITE_ERRORS, reason_of
from swarm.storage.inspection import Identity, Inspected, check_identity, check_presence, inspect
from swarm.storage.lock import StoreLock, sync_folder
from swarm.storage.mark import MarkFile, create_mark, mark_path, read_slots
from swarm.storage.migration import upgrade
from swarm.storage.reader import SqliteReader
from swarm.storage.rows import (
    GENESIS_VIEW,
    SUBMISSION_PREFIX,
    check_continues,
    decode_raw,
    evidence_key,
    finality_view,
    node_id,
    view_of,
)
from swarm.storage.store import Batch, Finality, NewLeaf, Restored, StoredBlock
from swarm.wire.codec import encode
from swarm.wire.messages import Submission
from swarm.wire.statements import Certificate, Kind

_BEGIN: Final = "BEGIN IMMEDIATE"
_ADD_RECORD: Final = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_SUBMISSION: Final = (
    "INSERT INTO submissions (id, final, raw) VALUES (?, 0, ?) ON CONFLICT (id) DO NOTHING"
)
_ADD_FINAL_SUBMISSION: Final = (
    "INSERT INTO submissions (id, final, raw) VALUES (?, 1, ?)"
    " ON CONFLICT (id) DO UPDATE SET final = 1 WHERE final = 0"
)
_ADD_LEAF: Final = "INSERT INTO leaves VALUES (?, ?, (SELECT row FROM submissions WHERE id = ?), ?, ?, ?, ?)"
_DROP_CERTIFICATES: Final = "DELETE FROM certificates WHERE (epoch, view) <= (?, ?) AND kind <> ?"


def create_store(path: str | os.PathLike[str], swarm_id: bytes, device: str, key_public: bytes) -> None:
    """Create the sealed store of a device that has never signed anything (used by `swarm init`).

    `swarm_id` and `key_public` are 32 bytes. The store appears at `path` complete and synced, or not at all. Raises
    `StoreError` when something lies there already: a second first store would forget what the first one signed.
    """
    target = Path(path)
    identity = Identity(swarm_id, device, key_public)
    if target.exists():
        raise StoreError(
            f"{target} exists already", hint="an existing store is never replaced; choose another folder"
        )
    mark = mark_path(target)
    sealed = Mark(0, identity.seal, 0)
    if mark.exists() and read_slots(mark, identity.seal).newest != sealed:
        raise StoreGoneError(f"{mark} tells of an earlier store of a device here", hint=GONE_HINT)
    draft = target.with_name(target.name + ".new")
    try:
        for leftover in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-shm")):
            leftover.unlink(missing_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            _configure(connection)
            upgrade(connection, 0)
            connection.execute(_BEGIN)
            connection.execute("INSERT INTO identity VALUES (1, ?, ?, ?)", (swarm_id, device, key_public))
            connection.execute(
                "INSERT INTO state (id, seal, boot, base_count, base_hash, sequence) VALUES (1, ?, 0, 0, ?, 0)",
                (identity.seal, identity.seal),
            )
            connection.execute("COMMIT")
        finally:
            connection.close()
        # The mark comes first: a store without one counts as gone, a mark of nothing signed harms nobody.
        create_mark(mark, identity.seal, sealed)
        sync_folder(target.parent)
        draft.rename(target)
        sync_folder(target.parent)
    except (*SQLITE_ERRORS, OSError) as error:
        raise StoreError(
            f"cannot create {target}: {reason_of(error)}", hint="check the folder, its permissions and space"
        ) from error


class SqliteStore(SqliteReader):
    """The store of `device` at `path`, held by this process until `close`.

    Opening checks the file, the chain and the mark, turns the seal of a new store into record 0, and writes a mark
    anew that a power cut left behind. Raises `StoreError` for a missing, foreign, damaged or held store with the way
    out as hint, and `StoreGoneError` for one that cannot prove to hold every statement the device signed.
    May be used by another thread than the one that made it, by one at a time.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, swarm_id: bytes, device: str, key_public: bytes | None = None
    ) -> None:
        """Open the store of this swarm (32 bytes) and device; `key_public` (32 bytes), where given, must fit too."""
        self.path = Path(path)
        self._failed = ""
        if not self.path.parent.is_dir():
            raise StoreError(
                f"there is no folder {self.path.parent}", hint="`swarm init` creates one for each device"
            )
        check_presence(self.path)  # before the lock: no lock file where there is no store
        self._lock = StoreLock(self.path)
        connection = None
        try:
            found = inspect(self.path)
            check_identity(self.path, found.identity, swarm_id, device, key_public)
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            super().__init__(connection, str(self.path))
            self._start(found)
        except BaseException as error:
            if connection is not None:
                connection.close()
            self._lock.close()
            if isinstance(error, StoreError) and str(self.path) not in error.message:
                raise type(error)(f"{self.path}: {error.message}", hint=error.hint) from error
            if isinstance(error, (*SQLITE_ERRORS, OSError)):
                raise StoreError(
                    f"cannot open {self.path}: {reason_of(error)}", hint="check its folder and disk"
                ) from error
            raise

    def load(self) -> Restored:
        """Return everything needed to go on; the checks that refuse a store were made when it was opened."""
        self._check_usable()
        return self.restored(self._chain, self._boot)

    def commit(self, batch: Batch) -> None:
        """Make the whole batch durable in one synced transaction, then sync the mark, then return.

        A batch without own records and boot number writes no mark, an empty one nothing at all. After `StoreError`
        the store refuses every further commit.
        """
        self._check_usable()
        if batch.is_empty():
            return
        try:
            self._transact(batch)
            if batch.records or batch.boot is not None:
                self._sync_mark()
        except (*SQLITE_ERRORS, OSError) as error:
            self._failed = reason_of(error)
            raise StoreError(
                f"cannot write {self.path}: {self._failed}",
                hint="check the disk's space and health, then start again",
            ) from error
        except BaseException as error:
            self._failed = repr(error)
            raise

    def close(self) -> None:
        """Release the lock; a closed store answers nothing. Closing twice is harmless."""
        self._failed = self._failed or "it is closed"
        self._connection.close()
        self._mark.close()
        self._lock.close()

    # ----------------------------------------------------------------------------- opening

    def _start(self, found: Inspected) -> None:
        _configure(self._connection)
        upgrade(self._connection, found.version)
        self._chain = found.chain
        self._boot = found.boot
        self._mark = MarkFile(mark_path(self.path), found.identity.seal)
        try:
            if found.is_sealed:
                self._break_seal(found.identity.seal)
            newest = found.slots.newest
            self._marked_count = 0 if newest is None else newest.count
            if check_mark(self._chain, newest) or found.slots.torn:
                self._sync_mark()
            sync_folder(self.path.parent)
            tip = self.tip()
            highest = self.highest_finality()
            self._tip: ViewNumber = GENESIS_VIEW if tip is None else view_of(tip.header)
            self._height = 0 if tip is None else tip.header.height
            self._finalized: ViewNumber = GENESIS_VIEW if highest is None else finality_view(highest)
            self._log_size = self.log_size()
            self._kept = self.kept_headers()
            # FCs whose block is not in the log yet.
            self._waiting: dict[ViewNumber, Certificate] = {
                finality_view(c): c for c in self.waiting_finality()
            }
        except BaseException:
            self._mark.close()
            raise

    def _break_seal(self, seal: bytes) -> None:
        """Turn the seal into record 0: from here on a lost chain is a lost chain."""
        execute = self._connection.execute
        execute(_BEGIN)
        self._connection.execute(_ADD_RECORD, _record_row(self._chain.append(seal_record(seal))))
        execute("UPDATE state SET seal = NULL")
        execute("COMMIT")

    def _check_usable(self) -> None:
        if self._failed:
            raise StoreError(
                f"{self.path} cannot be used any more: {self._failed}", hint="start the device again"
            )

    # ----------------------------------------------------------------------------- committing

    def _sync_mark(self) -> None:
        head = self._chain.head
        self._mark.write(Mark(head.count, head.hash, self._boot))
        self._marked_count = head.count

    def _transact(self, batch: Batch) -> None:
        connection = self._connection
        connection.execute(_BEGIN)
        try:
            self._write(batch)
            connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already; whatever is still open must not become durable later.
            if connection.in_transaction:
                connection.rollback()
            raise

    def _write(self, batch: Batch) -> None:
        check_continues(batch, height=self._height, tip=self._tip, log_size=self._log_size)
        many = self._connection.executemany
        if batch.records:
            many(_ADD_RECORD, [_record_row(self._chain.append(record)) for record in batch.records])
        if batch.finalized:
            self._append_log(batch.finalized)
        if batch.blocks:
            self._keep_blocks(batch.blocks)
        if batch.own_submissions:
            many(_ADD_SUBMISSION, [(s.id, s.raw) for s in batch.own_submissions])
            many(
                "INSERT OR IGNORE INTO own_submissions SELECT id, ? FROM submissions WHERE id = ? AND final = 0",
                [(s.body.sequence, s.id) for s in batch.own_submissions],
            )
        if batch.settled_submissions:
            many(
                "DELETE FROM own_submissions WHERE id = ?",
                [(digest,) for digest in batch.settled_submissions],
            )
        if batch.certificates or batch.finalized:
            self._keep_certificates(batch)
        if batch.proposals:
            many(
                "INSERT OR IGNORE INTO proposals VALUES (?, ?, ?)",
                [(*view_of(p.header), encode(p)) for p in batch.proposals],
            )
        if batch.leaves:
            self._append_leaves(batch.leaves, batch.finalized)
        if batch.nodes:
            many(
                "INSERT OR REPLACE INTO nodes VALUES (?, ?)",
                [(node_id(level, index), digest) for level, index, digest in batch.nodes],
            )
        self._write_rare(batch)
        self._prune(batch)

    def _write_rare(self, batch: Batch) -> None:
        execute, many = self._connection.execute, self._connection.executemany
        if batch.snapshots:
            many(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?)",
                [(s.height, s.state) for s in batch.snapshots],
            )
            execute(
                "DELETE FROM snapshots WHERE height NOT IN (SELECT height FROM snapshots ORDER BY height DESC LIMIT ?)",
                (SNAPSHOTS_KEPT,),
            )
        if batch.checkpoints:
            many(
                "INSERT OR IGNORE INTO checkpoints VALUES (?, ?, ?)",
                [(c.height, c.log_size, encode(c)) for c in batch.checkpoints],
            )
        if batch.evidence:
            many(
                "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (*evidence_key(first, second), encode(first), encode(second))
                    for first, second in batch.evidence
                ],
            )
        if batch.boot is not None:
            self._boot = max(self._boot, batch.boot)
            execute("UPDATE state SET boot = ?", (self._boot,))

    def _keep_blocks(self, blocks: list[StoredBlock]) -> None:
        fresh = [b for b in blocks if b.hash not in self._kept and view_of(b.header) > self._tip]
        many = self._connection.executemany
        many("INSERT INTO blocks VALUES (?, ?)", [(b.hash, encode(b.header)) for b in fresh])
        many(_ADD_SUBMISSION, [(s.id, s.raw) for b in fresh for s in b.submissions])
        self._kept.update((b.hash, b.header) for b in fresh)

    def _append_log(self, finalized: list[Finality]) -> None:
        rows = []
        for finality in finalized:
            block, header = finality.block, finality.block.header
            self._height, self._tip = header.height, view_of(header)
            counts = bytes(block.counts)
            rows.append((header.height, block.hash, *self._tip, encode(header), counts))
        many = self._connection.executemany
        many("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
        submissions = [s for finality in finalized for s in finality.block.submissions]
        if submissions:
            many(_ADD_FINAL_SUBMISSION, [(s.id, s.raw) for s in submissions])
            many("DELETE FROM own_submissions WHERE id = ?", [(s.id,) for s in submissions])

    def _keep_certificates(self, batch: Batch) -> None:
        """Store what is above the finalized view, and with a block of the log the FC that names it; once each."""
        given = batch.certificates + [f.certificate for f in batch.finalized if f.certificate is not None]
        self._finalized = max([self._finalized, *map(finality_view, given)])
        live, final = [], []
        for certificate in given:
            at = (certificate.epoch, certificate.number)
            if certificate.kind != Kind.FINALIZE:
                if at > self._finalized:
                    live.append((*at, certificate.kind, encode(certificate)))
            elif self._is_waiting(at, certificate):
                if at not in self._waiting:
                    self._waiting[at] = certificate
                    live.append((*at, certificate.kind, encode(certificate)))
            else:
                final.append(certificate)
        settled = [at for at, certificate in self._waiting.items() if not self._is_waiting(at, certificate)]
        final += [self._waiting.pop(at) for at in settled]
        many = self._connection.executemany
        if live:
            many("INSERT OR IGNORE INTO certificates VALUES (?, ?, ?, ?)", live)
        if settled:
            many(
                "DELETE FROM certificates WHERE epoch = ? AND view = ? AND kind = ?",
                [(*at, int(Kind.FINALIZE)) for at in settled],
            )
        if final:
            # An FC beyond the ending block of an epoch names no block of the log (R13): nobody will ask for it.
            many(
                "INSERT OR IGNORE INTO finality SELECT ?, ?, ? FROM log WHERE hash = ?",
                [(c.epoch, c.number, encode(c), c.digest) for c in final],
            )

    def _is_waiting(self, at: ViewNumber, finality: Certificate) -> bool:
        """Answer whether an FC stays among the live certificates: its block may still come, or it is the highest.

        The finalized view must never fall, not even after more liars than the budget allows have certified a block
        beside the log: the statements up to that view are pruned.
        """
        if at != self._finalized or at > self._tip:
            return at > self._tip
        return self._one("SELECT 1 FROM log WHERE hash = ?", (finality.digest,)) is None

    def _append_leaves(self, leaves: list[NewLeaf], finalized: list[Finality]) -> None:
        self._log_size += len(leaves)
        known = {s.id: s for finality in finalized for s in finality.block.submissions}
        rows: list[tuple[object, ...]] = []
        missing: list[Submission] = []
        for leaf in leaves:
            if leaf.data[:1] != SUBMISSION_PREFIX:
                rows.append((leaf.position, leaf.height, None, leaf.data, None, None, None))
                continue
            raw = leaf.data[1:]
            submission = next(
                (known[key] for key in leaf.keys if key in known and known[key].raw == raw), None
            )
            if submission is None:
                submission = decode_raw(raw)
                missing.append(submission)
            body = submission.body
            rows.append(
                (
                    leaf.position,
                    leaf.height,
                    submission.id,
                    None,
                    body.origin,
                    body.incarnation,
                    body.sequence,
                )
            )
        many = self._connection.executemany
        if missing:
            many(_ADD_FINAL_SUBMISSION, [(s.id, s.raw) for s in missing])
        many(_ADD_LEAF, rows)
        many(
            "INSERT OR REPLACE INTO keys VALUES (?, ?)",
            [(key, leaf.position) for leaf in leaves for key in leaf.keys],
        )

    # ----------------------------------------------------------------------------- pruning

    def _prune(self, batch: Batch) -> None:
        """Drop what an FC that is stored now, or was before, has made useless."""
        has_finality = bool(batch.finalized) or any(c.kind == Kind.FINALIZE for c in batch.certificates)
        if not has_finality and len(self._chain.entries) <= CHAIN_RECORDS_KEPT:
            return
        execute = self._connection.execute
        if has_finality:
            execute(_DROP_CERTIFICATES, (*self._finalized, int(Kind.FINALIZE)))
            execute("DELETE FROM proposals WHERE (epoch, view) <= (?, ?)", self._finalized)
        if batch.finalized:
            self._drop_blocks({finality.block.hash for finality in batch.finalized})
        if self._chain.prune(self._finalized, self._marked_count):
            base, attest = self._chain.base, self._chain.attest
            execute("DELETE FROM records WHERE n < ?", (base.count,))
            execute(
                "UPDATE state SET base_count = ?, base_hash = ?, sequence = ?, attest_n = ?, attest_epoch = ?,"
                " attest_height = ?, attest_digest = ?, attest_signature = ?, attest_hash = ?",
                (base.count, base.hash, self._chain.sequence, *_attest_columns(attest)),
            )

    def _drop_blocks(self, finalized: set[bytes]) -> None:
        """Drop kept blocks up to the tip: they are in the log now, or never will be."""
        gone = [digest for digest, header in self._kept.items() if view_of(header) <= self._tip]
        if not gone:
            return
        self._connection.executemany("DELETE FROM blocks WHERE hash = ?", [(digest,) for digest in gone])
        headers = {digest: self._kept.pop(digest) for digest in gone}
        dropped = [header for digest, header in headers.items() if digest not in finalized]
        if dropped:
            needed = {digest for header in self._kept.values() for digest in header.submissions}
            self._connection.executemany(
                "DELETE FROM submissions WHERE id = ?1 AND final = 0"
                " AND NOT EXISTS (SELECT 1 FROM own_submissions WHERE id = ?1)",
                [(digest,) for header in dropped for digest in header.submissions if digest not in needed],
            )


def _configure(connection: sqlite3.Connection) -> None:
    """Set what is not stored in the file. Exclusive locking also keeps the WAL's index in memory, off the disk."""
    for pragma in (
        # Half the default: a vote touches two or three pages, and every touched page is written whole to the WAL.
        "page_size = 2048",
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {STORE_WAL_PAGES}",
        f"journal_size_limit = {STORE_WAL_BYTES_MAX}",
        "temp_store = MEMORY",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _record_row(entry: Entry) -> tuple[object, ...]:
    n, record, digest = entry
    return n, record.kind, record.epoch, record.number, record.digest, record.signature, digest


def _attest_columns(attest: Entry | None) -> tuple[object, ...]:
    if attest is None:
        return (None,) * 6
    n, record, digest = attest
    return n, record.epoch, record.number, record.digest, record.signature, digest
