"""`swarm store check` and `swarm store repair`: what is wrong with a store, and what can be mended without inventing.

Repair only restores what follows from the rest of the store: indexes from their tables, Merkle nodes from the leaves
(and only if the result fits what voters attested), a mark slot from the other one. A statement that is missing stays
missing, so a store that counts as gone stays refused. Before anything is changed the originals are copied beside it,
under names with which they are no store: a store without its mark is refused.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.primitives.errors import DecodeError, StoreError, StoreGoneError, StoreHeldError
from swarm.storage.chain import Chain, Mark, check_beginning, check_mark
from swarm.storage.damage import SQLITE_ERRORS, is_damage, reason_of
from swarm.storage.inspection import (
    Identity,
    check_presence,
    integrity_problems,
    opened_read_only,
    read_identity,
)
from swarm.storage.lock import StoreLock, sync_folder
from swarm.storage.mark import MarkFile, Slots, mark_path, read_slots
from swarm.storage.migration import stored_version
from swarm.storage.reader import SqliteReader
from swarm.storage.rows import HEADER, decode_row, node_id, view_of
from swarm.wire.leaves import decode_leaf
from swarm.wire.statements import Kind, header_hash

FINDINGS_MAX: Final = 100
"""Findings that are listed; a store with more has lost a whole table."""

_INDEX_MESSAGE: Final = re.compile(r"(row \d+ missing from|wrong # of entries in|non-unique entry in) index ")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `part` of the store, what, and whether repair can restore it from the rest."""

    part: str
    text: str
    is_repairable: bool = False


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a check saw. `is_gone`: the store cannot prove that it holds every statement the device signed."""

    path: Path
    device: str
    statements: int
    height: int
    log_size: int
    findings: tuple[Finding, ...]
    is_gone: bool

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What repair did, in order, how the store checks afterwards, and the copies of what it was before."""

    done: tuple[str, ...]
    after: StoreReport
    kept: tuple[Path, ...] = ()


def check_store(path: str | Path) -> StoreReport:
    """Return everything that is wrong with the store at `path`; changes nothing in it.

    Raises `StoreError` when there is no such store, an agent holds it, or it is no store or a newer one.
    """
    store = Path(path)
    check_presence(store)
    lock = _lock(store)
    try:
        return _Checker(store).report()
    finally:
        lock.close()


def repair_store(path: str | Path) -> RepairReport:
    """Restore what provably follows from the rest of the store, and say what was done.

    Raises `StoreGoneError` for a store that lost statements (nothing is changed then), and `StoreError` when something
    else is beyond repair, the originals cannot be kept, or an agent holds the store. On a good store it keeps nothing
    and only empties the write-ahead log.
    """
    store = Path(path)
    check_presence(store)
    lock = _lock(store)
    try:
        before = _Checker(store).report()
        if before.is_gone:
            raise StoreGoneError(
                f"{store} cannot be repaired: {next(f.text for f in before.findings if f.part in _GONE_PARTS)}",
                hint="the device may have signed what is lost, so it must not vote; rejoining comes later",
            )
        broken = next((f for f in before.findings if not f.is_repairable), None)
        if broken is not None:
            raise StoreError(
                f"{store} cannot be repaired: {broken.part}: {broken.text}",
                hint="restore the disk, never an older copy of the store: it would have forgotten statements",
            )
        kept = () if before.ok else _keep_originals(store)
        done = tuple(_mend(store, {finding.part for finding in before.findings}))
        after = _Checker(store).report()
    except SQLITE_ERRORS as error:
        raise StoreError(
            f"cannot repair {store}: {reason_of(error)}", hint="check the disk's space and health"
        ) from error
    except OSError as error:
        raise StoreError(
            f"cannot repair {store}: {error}", hint="check the disk's space and health"
        ) from error
    finally:
        lock.close()
    return RepairReport(done, after, kept)


def _lock(store: Path) -> StoreLock:
    """Take the store for oneself, since what an agent writes meanwhile would look like damage."""
    try:
        return StoreLock(store)
    except StoreHeldError as error:
        raise StoreHeldError(error.message, hint="stop it, do this again, and start it anew") from None


_GONE_PARTS: Final = ("chain", "mark")


def _keep_originals(store: Path) -> tuple[Path, ...]:
    """Copy database, write-ahead log and mark to names of their own, synced; returns the copies.

    An earlier copy is never overwritten: of two repairs the first one's original says more.
    """
    label = ".before-repair"
    number = 1
    while store.with_name(store.name + label).exists():
        number += 1
        label = f".before-repair-{number}"
    mark = mark_path(store)
    # The copied log fits the copied database, so SQLite can read them; the copied mark fits no store's name.
    names = {
        store: store.with_name(store.name + label),
        store.with_name(store.name + "-wal"): store.with_name(f"{store.name}{label}-wal"),
        mark: mark.with_name(mark.name + label),
    }
    kept = tuple(target for source, target in names.items() if source.exists())
    for source, target in names.items():
        if source.exists():
            shutil.copy2(source, target)
            with target.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(store.parent)
    return kept


class _Checker:
    """One pass over a store; `report` collects, nothing raises for what is merely wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._findings: list[Finding] = []
        self._is_gone = False
        self._identity: Identity | None = None
        self._statements = self._height = self._log_size = 0

    def report(self) -> StoreReport:
        try:
            with opened_read_only(self._path) as connection:
                stored_version(connection, str(self._path))
                problems = integrity_problems(connection, is_full=True)
                for text in problems:
                    is_index = _INDEX_MESSAGE.match(text) is not None
                    self._find("index" if is_index else "file", text, is_repairable=is_index)
                if not any(f.part == "file" for f in self._findings):
                    self._check_content(connection)
        except StoreError as error:
            # Before it is known to be our store, only damage is a finding; a foreign or newer file is refused.
            if self._identity is None and not is_damage(error.__cause__):
                raise
            self._find("file", error.message)
        return StoreReport(
            path=self._path,
            device=self._identity.device if self._identity else "",
            statements=self._statements,
            height=self._height,
            log_size=self._log_size,
            findings=tuple(self._findings),
            is_gone=self._is_gone,
        )

    def _find(self, part: str, text: str, *, is_repairable: bool = False) -> None:
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(Finding(part, text, is_repairable))

    def _check_content(self, connection: sqlite3.Connection) -> None:
        self._identity = read_identity(connection, self._path)
        reader = SqliteReader(connection, str(self._path))
        self._check_chain(reader, self._identity)
        self._check_submissions(connection)
        self._check_log(connection)
        self._check_finality(connection)
        self._check_leaves(connection, reader)

    def _check_chain(self, reader: SqliteReader, identity: Identity) -> None:
        part = "chain"
        try:
            chain, seal, _ = reader.read_chain()
            self._statements = chain.head.count
            check_beginning(chain, seal)
            part = "mark"
            slots = read_slots(mark_path(self._path), identity.seal)
            if check_mark(chain, slots.newest):
                self._find(part, "behind the store, as after a power cut", is_repairable=True)
        except StoreGoneError as error:
            self._is_gone = True
            self._find(part, error.message)
            return
        for index in slots.torn:
            self._find(part, f"slot {index} is unreadable, the other one is good", is_repairable=True)

    def _check_submissions(self, connection: sqlite3.Connection) -> None:
        for digest, raw in connection.execute("SELECT id, raw FROM submissions ORDER BY row"):
            if sha256(raw) != digest:
                self._find("submission", f"the bytes of submission {digest.hex()[:8]} do not hash to its id")
        for (digest,) in connection.execute("SELECT id FROM own_submissions"):
            if connection.execute("SELECT 1 FROM submissions WHERE id = ?", (digest,)).fetchone() is None:
                self._find("submission", f"the bytes of own submission {digest.hex()[:8]} are missing")

    def _check_log(self, connection: sqlite3.Connection) -> None:
        parent: tuple[bytes, tuple[int, int]] | None = None
        rows = connection.execute("SELECT height, hash, epoch, view, header, counts FROM log ORDER BY height")
        for height, digest, epoch, view, body, counts in rows:
            self._height += 1
            try:
                header = decode_row(HEADER, body)
            except StoreError as error:
                self._find("block", f"height {height}: {error.message}")
                parent = None
                continue
            if height != self._height or header.height != height or view_of(header) != (epoch, view):
                self._find("block", f"height {self._height} is missing or stands elsewhere")
                self._height = height
            if header_hash(header) != digest:
                self._find("block", f"height {height}: the header does not have the block's hash")
            if parent is not None and (header.parent, (header.epoch, header.parent_view)) != parent:
                self._find("block", f"height {height} is no child of the block before it")
            if len(counts) != len(header.submissions):
                self._find(
                    "block",
                    f"height {height}: verdicts for {len(counts)} of {len(header.submissions)} submissions",
                )
            for wanted in header.submissions:
                row = connection.execute("SELECT final FROM submissions WHERE id = ?", (wanted,)).fetchone()
                if row is None:
                    self._find("block", f"height {height}: submission {wanted.hex()[:8]} is missing")
            parent = (digest, (epoch, view))

    def _check_finality(self, connection: sqlite3.Connection) -> None:
        from_log = "SELECT epoch, view, body, hash FROM finality LEFT JOIN log USING (epoch, view)"
        reader = SqliteReader(connection, str(self._path))
        for epoch, view, _, digest in connection.execute(from_log):
            found = reader.certificate(Kind.FINALIZE, view)
            if found is None or (found.epoch, found.number, found.digest) != (epoch, view, digest):
                self._find("finality", f"the FC of view {view} does not name the log's block")

    def _check_leaves(self, connection: sqlite3.Connection, reader: SqliteReader) -> None:
        tree = Frontier()
        roots = _attested_roots(connection, reader)
        count = 0
        for position, data in _leaves(connection):
            if position != self._log_size or data is None:
                self._find("leaf", f"leaf {self._log_size} is missing")
                return
            self._log_size += 1
            try:
                leaf = decode_leaf(data)
            except DecodeError as error:
                self._find("leaf", f"leaf {position} is no leaf: {error}")
                return
            if leaf.submission is not None and reader.find(leaf.submission.id) is None:
                self._find("leaf", f"leaf {position} cannot be found by its submission")
            for level, index, digest in tree.append(leaf_hash(data)):
                count += 1
                stored = connection.execute("SELECT hash FROM nodes WHERE id = ?", (node_id(level, index),))
                if stored.fetchone() != (digest,):
                    text = f"node {index} of level {level} is missing or wrong"
                    self._find("node", text, is_repairable=True)
            if self._log_size in roots and tree.root() != roots[self._log_size]:
                self._find(
                    "leaf", f"the first {self._log_size} leaves have not the root that voters attested"
                )
                return
        if connection.execute("SELECT COUNT(*) FROM nodes").fetchone()[0] > count:
            self._find("node", "there are nodes of no leaf", is_repairable=True)


def _leaves(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes | None]]:
    rows = connection.execute(
        "SELECT position, data, raw FROM leaves LEFT JOIN submissions ON row = submission ORDER BY position"
    )
    for position, data, raw in rows:
        yield position, data if data is not None else None if raw is None else b"\x01" + raw


def _attested_roots(connection: sqlite3.Connection, reader: SqliteReader) -> dict[int, bytes]:
    roots = {}
    for (log_size,) in connection.execute("SELECT DISTINCT log_size FROM checkpoints"):
        found = reader.checkpoint_covering(log_size)
        if found is not None:
            roots[found.log_size] = found.log_root
    return roots


def _mend(path: Path, parts: set[str]) -> Iterator[str]:
    """Do what the findings allow and yield each thing done, in an order in which the earlier helps the later."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL").fetchall()
        if "index" in parts:
            connection.execute("REINDEX")
            yield "rebuilt all indexes from their tables"
        if "node" in parts:
            yield f"recomputed {_rebuild_nodes(connection)} Merkle nodes from the leaves"
        reader = SqliteReader(connection, str(path))
        if "mark" in parts:
            identity = read_identity(connection, path)
            chain, _, boot = reader.read_chain()
            slots = read_slots(mark_path(path), identity.seal)
            _rewrite_mark(mark_path(path), identity.seal, chain, boot, slots)
            yield f"wrote the mark anew: {chain.head.count} statements"
        wal = path.with_name(path.name + "-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if wal_bytes and not busy:
            yield f"moved the write-ahead log ({wal_bytes} bytes) into the database"
    finally:
        connection.close()


def _rebuild_nodes(connection: sqlite3.Connection) -> int:
    tree = Frontier()
    count = 0
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM nodes")
    for _, data in _leaves(connection):
        made = tree.append(leaf_hash(data or b""))
        connection.executemany(
            "INSERT INTO nodes VALUES (?, ?)",
            [(node_id(level, index), digest) for level, index, digest in made],
        )
        count += len(made)
    connection.execute("COMMIT")
    return count


def _rewrite_mark(path: Path, seal: bytes, chain: Chain, boot: int, slots: Slots) -> None:
    newest = slots.newest
    mark = MarkFile(path, seal)
    try:
        # Twice, so that both slots are good; the first write goes to the torn or older one.
        for _ in range(2):
            boot = max(boot, newest.boot if newest else 0)
            mark.write(Mark(chain.head.count, chain.head.hash, boot))
    finally:
        mark.close()
