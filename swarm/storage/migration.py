"""The numbered schema files: what a store of an older version still has to go through."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache
from importlib.resources import files
from typing import Final

from swarm.primitives.errors import StoreError, check

APPLICATION_ID: Final = 0x53574D31
"""SQLite's `application_id` of a store, "SWM1": any other database is not ours, however valid it is."""


@lru_cache(maxsize=1)
def schema_files() -> tuple[str, ...]:
    """Return the text of `schema/NNNN_*.sql` in order; the file numbered n makes version n out of n - 1."""
    folder = files("swarm.storage") / "schema"
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    for number, file in enumerate(found, start=1):
        check(file.name.startswith(f"{number:04d}_"), f"schema file {file.name} should have number {number}")
    return tuple(file.read_text(encoding="utf-8") for file in found)


def known_version() -> int:
    """Return the newest schema version that this program knows."""
    return len(schema_files())


def stored_version(connection: sqlite3.Connection, where: str) -> int:
    """Return the schema version of a store.

    Raises `StoreError` for a database that is no store of ours, and for a version newer than this program.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{where} is not a swarm store", hint="check the path of the store in agent.yaml")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known_version():
        raise StoreError(
            f"{where} has schema version {version}, this program knows up to {known_version()}",
            hint="run it with the newer swarm that wrote it",
        )
    return version


@lru_cache(maxsize=8)
def schema_of(version: int) -> tuple[tuple[object, ...], ...]:
    """Return what SQLite keeps of the schema of `version`: type, name, table and text of each part."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in schema_files()[:version]:
            connection.executescript(script)
        return read_schema(connection)


def read_schema(connection: sqlite3.Connection) -> tuple[tuple[object, ...], ...]:
    """Return the schema of a database as `schema_of` does."""
    return tuple(
        connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    )


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring a store of schema `version` (0 = empty database) to the newest, each step in one transaction."""
    for number, script in enumerate(schema_files()[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )
