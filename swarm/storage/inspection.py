"""What has to hold before a store is written to, found out without changing a byte of it.

A refused store stays as it was: SQLite would otherwise move its write-ahead log into the database when the last
connection closes, and what lay behind a flipped bit in that log would be lost for good.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.primitives.errors import StoreError, StoreGoneError
from swarm.primitives.ids import short_apart
from swarm.primitives.limits import STORE_CHECK_BYTES_MAX
from swarm.storage.chain import GONE_HINT, Chain, check_beginning, check_mark, seal_digest
from swarm.storage.damage import SQLITE_ERRORS, damaged, is_damage, reason_of
from swarm.storage.mark import Slots, mark_path, read_slots
from swarm.storage.migration import read_schema, schema_of, stored_version
from swarm.storage.reader import SqliteReader

INTEGRITY_MESSAGES_MAX: Final = 20
"""Messages of SQLite's check that are kept; the first ones say enough."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a store belongs to."""

    swarm_id: bytes
    device: str
    key_public: bytes

    @property
    def seal(self) -> bytes:
        """The seal of a store of this identity (32 bytes)."""
        return seal_digest(self.swarm_id, self.device, self.key_public)


@dataclass(frozen=True, slots=True)
class Inspected:
    """A store that may be trusted with a signature; `version` is its schema's."""

    identity: Identity
    version: int
    chain: Chain
    is_sealed: bool
    boot: int
    slots: Slots


def check_presence(path: Path) -> None:
    """Raise `StoreError` when there is no store at `path`, `StoreGoneError` when there once was one."""
    if path.is_file():
        return
    if path.exists():
        raise StoreError(f"{path} is not a file", hint="check the path of the store in agent.yaml")
    if mark_path(path).exists():
        raise StoreGoneError(f"{path} has vanished, its mark is still there", hint=GONE_HINT)
    raise StoreError(f"there is no store at {path}", hint="`swarm init` creates one for each device")


@contextmanager
def opened_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that cannot change the store; raises `StoreError` for a file that is no database."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except SQLITE_ERRORS as error:
        raise StoreError(f"cannot open {path}: {reason_of(error)}", hint="check its permissions") from error
    try:
        yield connection
    except SQLITE_ERRORS as error:
        if not is_damage(error):
            raise
        raise damaged(path, reason_of(error)) from error
    finally:
        connection.close()


def integrity_problems(connection: sqlite3.Connection, *, is_full: bool) -> list[str]:
    """Return what SQLite's own check finds, nothing when all is well; `is_full` compares indexes with tables too."""
    pragma = "integrity_check" if is_full else "quick_check"
    rows = connection.execute(f"PRAGMA {pragma}({INTEGRITY_MESSAGES_MAX})")
    found = [" ".join(row[0].split()) for row in rows]  # SQLite breaks lines in them
    return [] if found == ["ok"] else found


def check_schema(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Raise `StoreError` unless the tables are those of `version`, letter by letter.

    A type or a constraint that lost a bit may still be SQL, and then every row would be read with another meaning.
    """
    if read_schema(connection) != schema_of(version):
        raise damaged(path, "its schema is not that of this version")


def read_identity(connection: sqlite3.Connection, path: Path) -> Identity:
    """Return who the store belongs to; raises `StoreError` when it does not say."""
    row = connection.execute("SELECT swarm_id, device, key_public FROM identity").fetchone()
    if row is None:
        raise damaged(path, "it does not say whom it belongs to")
    return Identity(*row)


def inspect(path: Path) -> Inspected:
    """Return the store's chain after every check that comes before the first write; call it under the lock.

    Raises `StoreError` for a damaged or foreign file, naming the repair, and `StoreGoneError` when the store cannot
    prove that it holds every statement the device signed.
    """
    check_presence(path)
    with opened_read_only(path) as connection:
        version = stored_version(connection, str(path))
        check_schema(connection, path, version)
        problems = integrity_problems(connection, is_full=path.stat().st_size <= STORE_CHECK_BYTES_MAX)
        if problems:
            raise damaged(path, problems[0])
        identity = read_identity(connection, path)
        chain, seal, boot = SqliteReader(connection, str(path)).read_chain()
    slots = read_slots(mark_path(path), identity.seal)
    is_sealed = check_beginning(chain, seal)
    check_mark(chain, slots.newest)
    # The boot number only has to grow: a lost commit of it alone loses no statement.
    boot = max(boot, slots.newest.boot if slots.newest else 0)
    return Inspected(identity, version, chain, is_sealed, boot, slots)


def check_identity(
    path: Path, found: Identity, swarm_id: bytes, device: str, key_public: bytes | None
) -> None:
    """Raise `StoreError` when a store belongs to another swarm, device or key than the one that opens it."""
    if found.swarm_id != swarm_id:
        theirs, ours = short_apart(found.swarm_id, swarm_id)
        raise StoreError(
            f"{path} is the store of another swarm ({theirs}, not {ours})",
            hint="use the genesis file it was made with, or a store of this swarm from `swarm init`",
        )
    if found.device != device:
        raise StoreError(
            f"{path} is the store of device {found.device}, not of {device}",
            hint="give every device its own store",
        )
    if key_public is not None and found.key_public != key_public:
        raise StoreError(
            f"{path} was made for another key of {device}", hint="use the key that `swarm init` made with it"
        )
