"""What Python's SQLite raises over a spoilt file, and the one error that becomes of it.

A flipped byte in the schema is quoted in SQLite's own message, which Python then decodes strictly: the error arrives
as `UnicodeDecodeError`, and a length beyond all bounds as `OverflowError`. Every place that opens or reads a store
catches `SQLITE_ERRORS`, never `sqlite3.Error` alone.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from swarm.primitives.errors import StoreError

SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError, OverflowError)
"""All that a statement on a damaged file raises."""


def reason_of(error: BaseException) -> str:
    """Return on one line what SQLite found, for the message of a `StoreError`."""
    text = " ".join(str(error).split())
    # Python's own message about a text that is none quotes all of it.
    if isinstance(error, UnicodeDecodeError) or text.startswith("Could not decode to UTF-8"):
        return "its schema or a text in it is no UTF-8"
    return text


def is_damage(error: BaseException | None) -> bool:
    """Answer whether an error says that the file itself is spoilt, not that it is another one or cannot be opened."""
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError | OverflowError)


class StoreDamagedError(StoreError):
    """The file at the store's place is spoilt."""


def damaged(path: str | Path, what: str) -> StoreDamagedError:
    """Return the error that refuses a damaged store and names the command that says what can be mended."""
    return StoreDamagedError(f"{path} is damaged: {what}", hint=f"swarm store repair {path}")
