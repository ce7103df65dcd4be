"""From a proof to an outcome or an entry, offline, with nothing but genesis."""

from __future__ import annotations

import pytest

from swarm.apps.decisions.commands import Opened
from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import Entry, read_leaf, verify_proof
from swarm.primitives.errors import DecodeError, ProofError
from swarm.wire.codec import encode
from swarm.wire.leaves import EventBody, event_leaf
from swarm.wire.proof import encode_proof
from tests.support.swarms import make_genesis, make_proof
from tests.support.vectors import BUNDLE, EVENT, GENESIS, LEAVES, NOTE, OUTCOME, VIEW


def test_a_proved_outcome_is_an_outcome() -> None:
    outcome = verify_proof(encode_proof(make_proof(GENESIS, LEAVES, 2)), GENESIS)

    assert outcome == OUTCOME
    assert isinstance(outcome, Outcome)
    assert outcome.value_in_words() == "21.40"


def test_a_proved_submission_is_an_entry() -> None:
    entry = verify_proof(encode_proof(make_proof(GENESIS, LEAVES, 1)), GENESIS)

    assert entry == Entry(
        position=1, kind="submission", submission=NOTE.id, origin="dev-1", commands=(("notes", b"hello"),)
    )
    assert entry.in_words() == f"submission {NOTE.id[:4].hex()} of dev-1: notes (5 bytes)"


def test_a_proved_refusal_is_an_entry_with_its_reason() -> None:
    entry = verify_proof(encode_proof(make_proof(GENESIS, LEAVES, 3)), GENESIS)

    assert isinstance(entry, Entry)
    assert (entry.kind, entry.reason, entry.height, entry.command) == ("rejected", "unknown", 4, 0)
    assert (
        entry.in_words()
        == f"no-such rejected command 0 of submission {BUNDLE.id[:4].hex()} at height 4: unknown"
    )


def test_an_opening_is_an_event() -> None:
    body = encode(Opened(VIEW))
    leaf = event_leaf(
        EventBody(height=2, submission=BUNDLE.id, command=0, app="decisions", body=b"\x01" + body)
    )

    entry = read_leaf(leaf, 8, GENESIS)

    assert isinstance(entry, Entry)
    assert (entry.kind, entry.app, entry.body, entry.position) == ("event", "decisions", body, 8)


def test_bytes_of_another_application_are_never_an_outcome() -> None:
    """Whoever writes its own application must not be able to print our words."""
    leaf = event_leaf(EventBody(height=2, submission=BUNDLE.id, command=0, app="notes", body=EVENT.body))
    assert isinstance(read_leaf(leaf, 0, GENESIS), Entry)

    other = make_genesis(apps=("decisions@2", "notes@1"))
    assert isinstance(read_leaf(LEAVES[2], 0, other), Entry)


def test_a_rejected_command_with_the_words_of_an_outcome_is_no_outcome() -> None:
    leaf = event_leaf(
        EventBody(height=2, submission=BUNDLE.id, command=0, app="decisions", body=b"\x00closed")
    )
    entry = read_leaf(leaf, 0, GENESIS)
    assert isinstance(entry, Entry)
    assert entry.kind == "rejected"


def test_a_proof_that_fails_says_nothing() -> None:
    data = bytearray(encode_proof(make_proof(GENESIS, LEAVES, 2)))
    data[len(data) // 2] ^= 1
    with pytest.raises(ProofError):
        verify_proof(bytes(data), GENESIS)


def test_what_is_proved_and_unreadable_is_said_to_be_so() -> None:
    leaf = event_leaf(
        EventBody(height=2, submission=BUNDLE.id, command=0, app="decisions", body=b"\x01garbage")
    )
    with pytest.raises(DecodeError):
        read_leaf(leaf, 0, GENESIS)
    with pytest.raises(ProofError, match="is proved, but this program cannot read it"):
        verify_proof(encode_proof(make_proof(GENESIS, (leaf, *LEAVES), 0)), GENESIS)
