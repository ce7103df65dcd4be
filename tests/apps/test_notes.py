"""Notes: numbered in order, under one running hash."""

from __future__ import annotations

import hashlib

import pytest

from swarm.apps.application import Application, Rejected
from swarm.apps.notes import Notes, decode_noted
from swarm.primitives.errors import DecodeError
from tests.support.logs import Log


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_it_is_an_application() -> None:
    assert isinstance(Notes(), Application)


def test_every_note_gets_the_next_index() -> None:
    notes = Notes()
    log = Log(notes)

    indices = [decode_noted(log.apply("dev-0", b"hello")[0].body).index for _ in range(300)]

    assert indices == list(range(300))
    assert notes.count == 300


def test_the_head_covers_all_notes_and_their_order() -> None:
    notes = Notes()
    log = Log(notes)
    assert notes.head == bytes(32)

    log.apply("dev-0", b"one")
    log.apply("dev-1", b"two")

    assert notes.head == sha(sha(bytes(32) + sha(b"one")) + sha(b"two"))


def test_an_empty_note_is_rejected() -> None:
    notes = Notes()
    with pytest.raises(Rejected, match="at least one byte"):
        Log(notes).apply("dev-0", b"")
    assert notes.count == 0


def test_a_snapshot_comes_back() -> None:
    notes, other = Notes(), Notes()
    Log(notes).apply("dev-0", b"hello")
    other.restore(notes.snapshot())

    assert (other.count, other.head) == (notes.count, notes.head)
    assert other.snapshot() == notes.snapshot() == other.query(b"")
    with pytest.raises(DecodeError):
        other.restore(b"garbage")
