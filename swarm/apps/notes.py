"""The application `notes@1`: bytes that somebody wanted on the log, numbered in order."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from swarm.apps.application import Context, Event, Rejected
from swarm.crypto.digest import sha256
from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.codec import U63, Bytes32, Codec, encode


class NotesState(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """How many notes there were, and a digest over all of them in order."""

    count: U63
    head: Bytes32


class Noted(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The event of a note: which one of the log it is, counted from 0. The bytes stand in the submission."""

    index: U63


_STATE: Final[Codec[NotesState]] = Codec(NotesState, bytes_max=64)
_NOTED: Final[Codec[Noted]] = Codec(Noted, bytes_max=16)


class Notes:
    """Keeps a count and a running hash: head' = SHA-256(head | SHA-256(note)), starting with 32 zero bytes."""

    name: ClassVar[str] = "notes"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        """Start without a note."""
        self._state = NotesState(0, ZERO_DIGEST)

    def apply(self, context: Context, body: bytes) -> tuple[Event, ...]:  # noqa: ARG002  -- every note is welcome
        """Count one note; its event names its index. An empty one is rejected."""
        if not body:
            raise Rejected("a note has at least one byte")
        index = self._state.count
        self._state = NotesState(index + 1, sha256(self._state.head, sha256(body)))
        return (Event(encode(Noted(index))),)

    @property
    def count(self) -> int:
        """Notes so far."""
        return self._state.count

    @property
    def head(self) -> bytes:
        """Running hash (32 bytes) over all notes so far."""
        return self._state.head

    def query(self, question: bytes) -> bytes:  # noqa: ARG002  -- there is only one thing to ask
        """Answer any question with the canonical `NotesState`."""
        return encode(self._state)

    def snapshot(self) -> bytes:
        """Return count and head in their canonical encoding."""
        return encode(self._state)

    def restore(self, state: bytes) -> None:
        """Replace count and head by those of a snapshot; raises `DecodeError` for other bytes."""
        self._state = _STATE.decode(state)


def decode_noted(body: bytes) -> Noted:
    """Return the event of `notes` in `body` (without the router's tag), or raise `DecodeError`."""
    return _NOTED.decode(body)
