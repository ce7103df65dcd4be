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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm.crypto.digest import sha256
from swarm.crypto.merkle import Frontier, leaf_hash
from swarm.primitives.errors import DecodeError, StoreError, StoreGoneError, StoreHeldError
from swarm.storage.audit import Audit, key_of
from swarm.storage.chain import Chain, Mark, check_beginning, check_mark
from swarm.storage.damage import SQLITE_ERRORS, StoreDamagedError, is_damage, reason_of
from swarm.storage.finding import Finding
from swarm.storage.inspection import (
    Identity,
    check_presence,
    check_schema,
    integrity_problems,
    opened_read_only,
    read_identity,
)
from swarm.storage.lock import StoreLock, sync_folder
from swarm.storage.mark import MarkFile, Slots, mark_path, read_slots
from swarm.storage.migration import stored_version
from swarm.storage.reader import SqliteReader
from swarm.storage.rows import GENESIS_VIEW, HEADER, decode_row, node_id, view_of
from swarm.wire.genesis import Genesis
from swarm.wire.leaves import Leaf, decode_leaf
from swarm.wire.statements import Header, genesis_header, header_hash

FINDINGS_MAX: Final = 100
"""Findings that are listed; a store with more has lost a whole table."""

_INDEX_MESSAGE: Final = re.compile(r"(row \d+ missing from|wrong # of entries in|non-unique entry in) index ")


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
    has_genesis: bool = False
    """Whether signatures of other voters were checked too, against the genesis of this swarm."""

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


def check_store(path: str | Path, genesis: Genesis | None = None) -> StoreReport:
    """Return everything that is wrong with the store at `path`; changes nothing in it.

    With the `genesis` of its swarm the signatures of other voters are checked too, else no more than their form; a
    genesis of another swarm is passed over.

    Raises `StoreError` when there is no such store, an agent holds it, or it is no store or a newer one.
    """
    store = Path(path)
    check_presence(store)
    lock = _lock(store)
    try:
        return _Checker(store, genesis).report()
    finally:
        lock.close()


def repair_store(path: str | Path, genesis: Genesis | None = None) -> RepairReport:
    """Restore what provably follows from the rest of the store, and say what was done.

    Raises `StoreGoneError` for a store that lost statements (nothing is changed then), and `StoreError` when something
    else is beyond repair, the originals cannot be kept, or an agent holds the store. On a good store it keeps nothing
    and only empties the write-ahead log.
    """
    store = Path(path)
    check_presence(store)
    lock = _lock(store)
    try:
        before = _Checker(store, genesis).report()
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
        after = _Checker(store, genesis).report()
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

    def __init__(self, path: Path, genesis: Genesis | None) -> None:
        self._path = path
        self._genesis = genesis
        self._has_genesis = False
        self._counted: list[tuple[int, bytes]] = []
        """Height and id of every submission that counts, in the order of the log."""
        self._findings: list[Finding] = []
        self._is_gone = False
        self._identity: Identity | None = None
        self._statements = self._height = self._log_size = 0

    def report(self) -> StoreReport:
        try:
            with opened_read_only(self._path) as connection:
                version = stored_version(connection, str(self._path))
                check_schema(connection, self._path, version)
                problems = integrity_problems(connection, is_full=True)
                for text in problems:
                    is_index = _INDEX_MESSAGE.match(text) is not None
                    self._find("index" if is_index else "file", text, is_repairable=is_index)
                if not any(f.part == "file" for f in self._findings):
                    self._check_content(connection)
        except StoreError as error:
            # Before it is known to be our store, only damage is a finding; a foreign or newer file is refused.
            is_known = self._identity is not None or isinstance(error, StoreDamagedError)
            if not is_known and not is_damage(error.__cause__):
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
            has_genesis=self._has_genesis,
        )

    def _find(self, part: str, text: str, *, is_repairable: bool = False) -> None:
        self._take(Finding(part, text, is_repairable))

    def _take(self, finding: Finding) -> None:
        # Never a repairable one in the place of one that is not: repair would go ahead.
        if len(self._findings) < FINDINGS_MAX or not finding.is_repairable:
            self._findings.append(finding)

    def _check_content(self, connection: sqlite3.Connection) -> None:
        identity = self._identity = read_identity(connection, self._path)
        genesis = self._genesis
        if genesis is not None and genesis.id != identity.swarm_id:
            genesis = None
        self._has_genesis = genesis is not None
        reader = SqliteReader(connection, str(self._path))
        audit = Audit(connection, identity, genesis)
        self._check_chain(reader, identity)
        self._check_submissions(connection)
        self._check_log(connection, identity)
        for finding in audit.findings():
            self._take(finding)
        checkpoints, wrong = audit.checkpoints()
        for finding in wrong:
            self._take(finding)
        roots: dict[int, set[bytes]] = {}
        for checkpoint in checkpoints:
            roots.setdefault(checkpoint.log_size, set()).add(checkpoint.log_root)
        self._check_leaves(connection, reader, roots)
        for finding in (*audit.snapshots(checkpoints, reader.log_size_at), *audit.keys(reader.decoded_leaf)):
            self._take(finding)

    def _check_chain(self, reader: SqliteReader, identity: Identity) -> None:
        part = "chain"
        try:
            chain, seal, _ = reader.read_chain()
            self._statements = chain.head.count
            if chain.sequence < (highest := reader.highest_own_sequence(identity.device)):
                text = f"own submissions were numbered up to {highest}, it tells of {chain.sequence}"
                self._find("state", text)
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

    def _check_log(self, connection: sqlite3.Connection, identity: Identity) -> None:
        genesis = header_hash(genesis_header(identity.swarm_id))
        parent: tuple[bytes, tuple[int, int]] | None = (genesis, GENESIS_VIEW)
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
            self._check_counted(connection, header, counts)
            parent = (digest, (epoch, view))

    def _check_counted(self, connection: sqlite3.Connection, header: Header, counts: bytes) -> None:
        height = header.height
        if len(counts) != len(header.submissions) or not set(counts) <= {0, 1}:
            self._find(
                "block",
                f"height {height}: verdicts for {len(counts)} of {len(header.submissions)} submissions",
            )
        for wanted in header.submissions:
            row = connection.execute("SELECT final FROM submissions WHERE id = ?", (wanted,)).fetchone()
            if row is None:
                self._find("block", f"height {height}: submission {wanted.hex()[:8]} is missing")
            elif row[0] != 1:
                self._find("submission", f"submission {wanted.hex()[:8]} is in the log and not final")
        self._counted.extend(
            (height, wanted)
            for wanted, is_counted in zip(header.submissions, counts, strict=False)
            if is_counted
        )

    def _check_leaves(
        self, connection: sqlite3.Connection, reader: SqliteReader, roots: Mapping[int, set[bytes]]
    ) -> None:
        tree = Frontier()
        count = 0
        doubted: list[int] = []
        counted = iter(self._counted)
        owner: tuple[int, bytes] | None = None
        for position, data, *columns in _leaf_rows(connection):
            if position != self._log_size or data is None:
                self._find("leaf", f"leaf {self._log_size} is missing")
                return
            self._log_size += 1
            try:
                leaf = decode_leaf(data)
            except DecodeError as error:
                self._find("leaf", f"leaf {position} is no leaf: {error}")
                return
            if leaf.submission is not None:
                owner = next(counted, None)
            if not _stands_right(leaf, owner, columns):
                self._find("leaf", f"leaf {position} is not what the log counts there")
                return
            key, _ = key_of(leaf)
            if key is not None and (reader.find(key) or 0) < position:
                self._find("leaf", f"leaf {position} cannot be found by its key")
            for level, index, digest in tree.append(leaf_hash(data)):
                count += 1
                row = connection.execute(
                    "SELECT hash FROM nodes WHERE id = ?", (node_id(level, index),)
                ).fetchone()
                if row != (digest,):
                    self._find(
                        "node", f"node {index} of level {level} is missing or wrong", is_repairable=True
                    )
                    if row is not None and level == 0 and leaf.submission is None:
                        doubted.append(position)
            if self._log_size in roots and roots[self._log_size] != {tree.root()}:
                text = f"the first {self._log_size} leaves have not the root that voters attested"
                self._find("leaf", text)
                return
            if self._log_size in roots:
                doubted.clear()
        if next(counted, None) is not None:
            self._find("leaf", "the log counts submissions that have no leaf")
        for position in doubted:
            # The bytes of a submission have their id as witness, those of an event nothing but this hash.
            self._find("leaf", f"leaf {position} or its hash is wrong, and no attested root says which")
        if connection.execute("SELECT COUNT(*) FROM nodes").fetchone()[0] > count:
            self._find("node", "there are nodes of no leaf", is_repairable=True)


def _stands_right(leaf: Leaf, owner: tuple[int, bytes] | None, columns: list[Any]) -> bool:
    """Answer whether a leaf and the columns beside it are of the submission `owner` (height, id)."""
    if leaf.submission is not None:
        body = leaf.submission.body
        place: tuple[Any, ...] = (body.origin, body.incarnation, body.sequence)
        return owner is not None and owner[1] == leaf.submission.id and (*columns,) == (owner[0], *place)
    event = leaf.event
    is_of_owner = event is not None and (event.height, event.submission) == owner
    return is_of_owner and owner is not None and (*columns,) == (owner[0], None, None, None)


def _leaf_rows(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield (position, data, height, origin, incarnation, sequence)."""
    rows = connection.execute(
        "SELECT position, data, raw, height, origin, incarnation, leaves.sequence"
        " FROM leaves LEFT JOIN submissions ON row = submission ORDER BY position"
    )
    for position, data, raw, *columns in rows:
        yield position, data if data is not None else None if raw is None else b"\x01" + raw, *columns


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
    for _, data, *_ in _leaf_rows(connection):
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
