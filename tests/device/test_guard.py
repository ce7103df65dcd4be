"""The one-guard rule: every signature passes one function that knows what was signed before (PROTOCOL section 3)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.signing import verify
from swarm.device.guard import Guard
from swarm.primitives.errors import InvariantError
from swarm.primitives.ids import ZERO_DIGEST
from swarm.storage.store import Batch, OwnRecord
from swarm.wire.messages import Command
from swarm.wire.statements import Kind, envelope_bytes, statement_bytes
from tests.support.swarms import keypair

SWARM = bytes(range(32))
A, B = b"a" * 32, b"b" * 32
KEY = keypair("dev-0")


def make(records: tuple[OwnRecord, ...] = (), *, finalized: int = 0, voter: int | None = 0) -> Guard:
    return Guard(swarm_id=SWARM, keypair=KEY, voter=voter, records=records, finalized_view=finalized)


def signed(guard: Guard, *statements: tuple[Kind, int, bytes]) -> Batch:
    batch = Batch()
    for kind, number, digest in statements:
        guard.sign(kind, 0, number, digest, batch)
    return batch


def test_signs_a_good_statement_and_queues_its_record() -> None:
    batch = Batch()

    statement = make().sign(Kind.NOTARIZE, 0, 3, A, batch)

    assert verify(KEY.public, statement_bytes(SWARM, Kind.NOTARIZE, 0, 3, A), statement.signature)
    assert batch.records == [OwnRecord(Kind.NOTARIZE, 0, 3, A, statement.signature)]


FORBIDDEN = [
    ("two N", (Kind.NOTARIZE, 1, A), (Kind.NOTARIZE, 1, B)),
    ("the same N again", (Kind.NOTARIZE, 1, A), (Kind.NOTARIZE, 1, A)),
    ("two P", (Kind.PROPOSE, 1, A), (Kind.PROPOSE, 1, B)),
    ("P after N", (Kind.NOTARIZE, 1, A), (Kind.PROPOSE, 1, A)),
    ("P after K", (Kind.SKIP, 1, ZERO_DIGEST), (Kind.PROPOSE, 1, A)),
    ("two F", (Kind.FINALIZE, 1, A), (Kind.FINALIZE, 1, B)),
    ("F after K", (Kind.SKIP, 1, ZERO_DIGEST), (Kind.FINALIZE, 1, A)),
    ("K after F", (Kind.FINALIZE, 1, A), (Kind.SKIP, 1, ZERO_DIGEST)),
    ("N after K", (Kind.SKIP, 1, ZERO_DIGEST), (Kind.NOTARIZE, 1, A)),
    ("two K", (Kind.SKIP, 1, ZERO_DIGEST), (Kind.SKIP, 1, ZERO_DIGEST)),
    ("A of one height twice", (Kind.ATTEST, 5, A), (Kind.ATTEST, 5, B)),
    ("A of a lower height", (Kind.ATTEST, 5, A), (Kind.ATTEST, 4, A)),
]


@pytest.mark.parametrize(("name", "first", "second"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN])
def test_refuses(name: str, first: tuple[Kind, int, bytes], second: tuple[Kind, int, bytes]) -> None:
    """Against what was signed in this turn, and, after a restart, against what the store gives back."""
    guard = make()
    batch = signed(guard, first)
    with pytest.raises(InvariantError, match="guard"):
        guard.sign(second[0], 0, second[1], second[2], batch)

    again = make(tuple(batch.records))
    with pytest.raises(InvariantError, match="guard"):
        again.sign(second[0], 0, second[1], second[2], Batch())


ALLOWED = [
    ((Kind.NOTARIZE, 1, A), (Kind.SKIP, 1, ZERO_DIGEST)),
    ((Kind.NOTARIZE, 1, A), (Kind.FINALIZE, 1, B)),
    ((Kind.NOTARIZE, 1, A), (Kind.NOTARIZE, 2, B)),
    ((Kind.SKIP, 1, ZERO_DIGEST), (Kind.FINALIZE, 2, A)),
    ((Kind.PROPOSE, 1, A), (Kind.NOTARIZE, 1, A)),
]


@pytest.mark.parametrize(("first", "second"), ALLOWED)
def test_allows_what_correct_devices_do(
    first: tuple[Kind, int, bytes], second: tuple[Kind, int, bytes]
) -> None:
    assert len(signed(make(), first, second).records) == 2


def test_refuses_every_view_up_to_the_finalized_one() -> None:
    guard = make(finalized=7)
    for view in (1, 7):
        with pytest.raises(InvariantError, match="finalized"):
            guard.sign(Kind.NOTARIZE, 0, view, A, Batch())
    guard.sign(Kind.NOTARIZE, 0, 8, A, Batch())
    guard.on_finalized(9)
    with pytest.raises(InvariantError, match="finalized"):
        guard.sign(Kind.FINALIZE, 0, 9, A, Batch())


def test_an_observer_signs_no_statement() -> None:
    with pytest.raises(InvariantError, match="not a voter"):
        make(voter=None).sign(Kind.NOTARIZE, 0, 1, A, Batch())


def test_refuses_a_skip_with_a_digest_and_a_vote_without() -> None:
    with pytest.raises(InvariantError, match="digest"):
        make().sign(Kind.SKIP, 0, 1, A, Batch())
    with pytest.raises(InvariantError, match="digest"):
        make().sign(Kind.NOTARIZE, 0, 1, ZERO_DIGEST, Batch())


def test_refuses_another_epoch() -> None:
    with pytest.raises(InvariantError, match="epoch"):
        make().sign(Kind.NOTARIZE, 1, 1, A, Batch())


def test_submissions_number_themselves_and_never_repeat() -> None:
    guard, batch = make(), Batch()

    first = guard.sign_submission("dev-0", [Command("notes", b"x")], batch)
    second = guard.sign_submission("dev-0", [Command("notes", b"x")], batch)

    assert (first.body.sequence, second.body.sequence) == (1, 2)
    assert verify(KEY.public, envelope_bytes(SWARM, Kind.SUBMISSION, first.signed), first.signature)
    assert [r.number for r in batch.records] == [1, 2]
    assert batch.own_submissions == [first, second]
    again = make(tuple(batch.records))
    assert again.sign_submission("dev-0", [Command("notes", b"y")], Batch()).body.sequence == 3


Choice = st.tuples(
    st.sampled_from([Kind.PROPOSE, Kind.NOTARIZE, Kind.SKIP, Kind.FINALIZE]),
    st.integers(1, 3),
    st.sampled_from([A, B]),
)


@given(st.lists(Choice, max_size=30), st.integers(0, 30))
@settings(deadline=None, max_examples=200)
def test_whatever_is_asked_what_is_signed_never_convicts(
    choices: list[tuple[Kind, int, bytes]], cut: int
) -> None:
    """A guard that is asked anything, with a restart in the middle, signs no convicting pair and no N after K."""
    guard = make()
    batch = Batch()
    for index, (kind, view, wanted) in enumerate(choices):
        if index == cut:
            guard = make(tuple(batch.records))
        digest = ZERO_DIGEST if kind is Kind.SKIP else wanted
        if guard.why_refused(kind, 0, view, digest) is None:
            guard.sign(kind, 0, view, digest, batch)
    said: dict[tuple[int, int], list[bytes]] = {}
    for record in batch.records:
        said.setdefault((record.kind, record.number), []).append(record.digest)
    assert all(len(digests) == 1 for digests in said.values())
    for view in (1, 2, 3):
        assert not ((Kind.SKIP, view) in said and (Kind.FINALIZE, view) in said)


def test_nothing_else_in_the_package_signs_statements_or_submissions() -> None:
    """One guard: `crypto.signing.sign` is called by the guard, and elsewhere only for envelopes and presence."""
    callers = set()
    for path in Path("swarm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sign":
                callers.add(path.as_posix())

    assert "swarm/device/guard.py" in callers
    assert callers <= {
        "swarm/device/guard.py",
        "swarm/device/outbox.py",  # requests, answers, heartbeats: claims, never votes
        "swarm/agent/presence.py",  # a hint on the status topic
        "swarm/apps/rollout/manifest.py",  # release keys, which are no device's
        "swarm/lab/bench/bare_loop.py",  # a benchmark without a protocol
        "swarm/lab/bench/primitives.py",  # measures what a signature costs
        "swarm/lab/attackers/chunks.py",  # attackers sign what no device would
        "swarm/lab/attackers/equivocate.py",
        "swarm/lab/firmware_images.py",  # images of scenarios, by throw-away keys
        "swarm/lab/install_simulated/backend.py",  # what a board attests
        "swarm/lab/sim/operators.py",  # operators vote nothing; their clients sign submissions
    }
