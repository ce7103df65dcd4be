"""The one-guard rule: whatever the rules above it want, nothing that contradicts a signature is ever signed."""

from __future__ import annotations

import itertools

import pytest

from swarm.crypto.keys import KeyPair
from swarm.device.guard import Guard
from swarm.primitives.errors import InvariantError
from swarm.primitives.ids import ZERO_DIGEST
from swarm.storage.store import Batch
from swarm.wire.messages import Command
from swarm.wire.statements import Kind, SignedStatement
from tests.support.agreement import check_one_vote_per_view
from tests.support.fake_signatures import SWARM_ID
from tests.support.stage import A, F, K, N, P

X, Y = b"x" * 32, b"y" * 32
KEYPAIR = KeyPair(bytes(32))


def fresh(*, finalized_view: int = 0, sequence: int = 0) -> Guard:
    return Guard(
        swarm_id=SWARM_ID, keypair=KEYPAIR, voter=2, finalized_view=finalized_view, sequence=sequence
    )


def wants() -> list[tuple[Kind, bytes]]:
    return [(P, X), (P, Y), (N, X), (N, Y), (K, ZERO_DIGEST), (F, X), (F, Y)]


def test_guard_no_sequence_of_wishes_makes_evidence() -> None:
    """All 210 triples of wishes for one view, also with a restart from the stored records after each."""
    for triple in itertools.permutations(wants(), 3):
        for restarts in (False, True):
            guard, batch = fresh(), Batch()
            signed: list[SignedStatement] = []
            for kind, digest in triple:
                if guard.why_refused(kind, 0, 5, digest) is None:
                    signed.append(guard.sign(kind, 0, 5, digest, batch))
                else:
                    with pytest.raises(InvariantError):
                        guard.sign(kind, 0, 5, digest, batch)
                if restarts:
                    guard = Guard(swarm_id=SWARM_ID, keypair=KEYPAIR, voter=2, records=tuple(batch.records))
            assert signed, "the first wish is always granted"
            assert check_one_vote_per_view(signed) == []
            assert len(batch.records) == len(signed)


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        (P, N, True),
        (N, K, True),
        (N, F, True),
        (P, K, True),
        (K, N, False),
        (K, F, False),
        (F, K, False),
        (K, P, False),
        (N, P, False),
        (K, K, False),
        (N, N, False),
        (F, F, False),
        (P, P, False),
    ],
)
def test_guard_pairs(first: Kind, second: Kind, *, allowed: bool) -> None:
    guard = fresh()
    guard.sign(first, 0, 5, ZERO_DIGEST if first == K else X, Batch())
    assert (guard.why_refused(second, 0, 5, ZERO_DIGEST if second == K else X) is None) is allowed
    assert guard.why_refused(second, 0, 6, ZERO_DIGEST if second == K else X) is None, "views are independent"


def test_guard_refuses_views_at_or_below_the_stored_finalized_one() -> None:
    guard = fresh(finalized_view=7)
    assert guard.why_refused(K, 0, 7, ZERO_DIGEST) is not None
    assert guard.why_refused(K, 0, 8, ZERO_DIGEST) is None
    guard.on_finalized(8)
    assert guard.why_refused(K, 0, 8, ZERO_DIGEST) is not None


def test_guard_refuses_an_observer_another_epoch_and_odd_digests() -> None:
    observer = Guard(swarm_id=SWARM_ID, keypair=KEYPAIR, voter=None)
    assert observer.why_refused(N, 0, 1, X) is not None
    assert fresh().why_refused(N, 1, 1, X) is not None
    assert fresh().why_refused(N, 0, 1, ZERO_DIGEST) is not None
    assert fresh().why_refused(K, 0, 1, X) is not None
    assert fresh().why_refused(Kind.HEARTBEAT, 0, 1, X) is not None


def test_guard_attests_rising_heights_only() -> None:
    guard, batch = fresh(), Batch()
    guard.sign(A, 0, 5, X, batch)
    assert guard.why_refused(A, 0, 5, Y) is not None
    assert guard.why_refused(A, 0, 4, X) is not None
    assert guard.why_refused(A, 0, 6, X) is None


def test_guard_never_uses_a_sequence_number_twice() -> None:
    guard, batch = fresh(sequence=4), Batch()
    commands = (Command(app="notes", body=b"x"),)
    assert guard.sign_submission("dev-2", commands, batch).body.sequence == 5
    again = Guard(swarm_id=SWARM_ID, keypair=KEYPAIR, voter=2, records=tuple(batch.records), sequence=4)
    assert again.sign_submission("dev-2", commands, batch).body.sequence == 6
    assert [r.number for r in batch.records] == [5, 6]
