"""R0 at the door: garbage, wrong swarm, wrong epoch, forged, replayed, oversized, unknown: a counter, and life goes on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign
from swarm.device.turn import FrameIn
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import FRAME_BYTES_MAX, NUMBER_MAX
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import (
    AskBlocks,
    AskStatus,
    Block,
    Envelope,
    Heartbeat,
    Item,
    Request,
    SubmissionItem,
    decode_frame,
    encode_frame,
)
from swarm.wire.statements import (
    Certificate,
    Header,
    Kind,
    SignedStatement,
    envelope_bytes,
    statement_bytes,
)
from tests.support.fleet import Fleet
from tests.support.swarms import keypair, make_genesis, make_submission

A = b"a" * 32


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.settle()
    return fleet


def statement(
    fleet: Fleet,
    kind: int = Kind.NOTARIZE,
    view: int = 1,
    digest: bytes = A,
    voter: int = 1,
    *,
    epoch: int = 0,
    key: KeyPair | None = None,
    swarm_id: bytes | None = None,
) -> SignedStatement:
    message = statement_bytes(swarm_id or fleet.genesis.id, kind, epoch, view, digest)
    signer = key or keypair(f"dev-{voter}")
    return SignedStatement(kind, epoch, view, digest, voter, sign(signer, message))


def envelope(fleet: Fleet, kind: int, sender: str, body: bytes, *, key: KeyPair | None = None) -> Envelope:
    return Envelope(
        kind, sender, body, sign(key or keypair(sender), envelope_bytes(fleet.genesis.id, kind, body))
    )


def request(fleet: Fleet, n: int = 1, *, boot: int = 9, to: str = "dev-0", sender: str = "dev-1") -> Envelope:
    return envelope(fleet, Kind.REQUEST, sender, encode(Request(boot, n, to, AskBlocks(1))))


def feed(fleet: Fleet, payload: bytes, *, sender: str = "dev-1", scope: Scope = Scope.ALL) -> dict[str, int]:
    """Give dev-0 one frame and return what that added to its counters."""
    device = fleet["dev-0"].running
    before = dict(device.dropped)
    device.turn([FrameIn(sender, scope, payload)], fleet.now_ms)
    return {k: v - before.get(k, 0) for k, v in device.dropped.items() if v != before.get(k, 0)}


def items(*given_items: Item) -> bytes:
    return encode_frame(given_items)


def bad_certificate(fleet: Fleet, count: int, *, double: bool = False) -> Certificate:
    message = statement_bytes(fleet.genesis.id, Kind.NOTARIZE, 0, 1, A)
    voters = [0] * count if double else range(count)
    signatures = tuple((v, sign(keypair(f"dev-{v}"), message)) for v in voters)
    return Certificate(Kind.NOTARIZE, 0, 1, A, signatures)


Make = Callable[[Fleet], bytes]

CASES: list[tuple[str, Make, str]] = [
    ("garbage", lambda _f: b"\xff garbage", "malformed"),
    ("empty", lambda _f: b"", "malformed"),
    ("empty list", lambda _f: encode(()), "malformed"),
    ("oversized", lambda _f: bytes(FRAME_BYTES_MAX + 1), "oversized"),
    ("deeply nested", lambda _f: b"\x91" * 100_000, "malformed"),
    ("one byte too long", lambda f: items(statement(f)) + b"\0", "malformed"),
    ("one byte short", lambda f: items(statement(f))[:-1], "malformed"),
    ("non-canonical", lambda f: b"\xdc\x00\x01" + items(statement(f))[1:], "not-canonical"),
    ("wrong swarm", lambda f: items(statement(f, swarm_id=b"z" * 32)), "bad-signature"),
    ("wrong epoch", lambda f: items(statement(f, epoch=3)), "wrong-epoch"),
    ("forged", lambda f: items(statement(f, key=keypair("dev-2"))), "bad-signature"),
    ("unknown voter", lambda f: items(statement(f, voter=9, key=keypair("dev-1"))), "unknown-sender"),
    ("skip with a digest", lambda f: items(statement(f, Kind.SKIP)), "malformed-statement"),
    ("vote without a digest", lambda f: items(statement(f, digest=ZERO_DIGEST)), "malformed-statement"),
    ("a request as a statement", lambda f: items(statement(f, Kind.REQUEST)), "malformed-statement"),
    ("too few signatures", lambda f: items(bad_certificate(f, 2)), "too-few-signatures"),
    ("one voter thrice", lambda f: items(bad_certificate(f, 3, double=True)), "voters-not-ascending"),
    ("too many signatures", lambda f: items(bad_certificate(f, 4)), "too-many-signatures"),
    (
        "submission of a stranger",
        lambda f: items(SubmissionItem(make_submission(f.genesis, "nobody", 1, ("notes", b"x")).raw)),
        "unknown-origin",
    ),
    (
        "submission forged",
        lambda f: items(SubmissionItem(forged_submission(f))),
        "bad-signature",
    ),
    ("submission garbage", lambda _f: items(SubmissionItem(bytes(100))), "malformed"),
    (
        "block nobody asked for",
        lambda _f: items(Block(Header(0, 1, 1, 0, A, (), ZERO_DIGEST, 1), ())),
        "unwanted-block",
    ),
    ("envelope of another sender", lambda f: items(request(f, sender="dev-2")), "topic-sender-mismatch"),
    ("request to somebody else", lambda f: items(request(f, to="dev-3")), "not-for-me"),
    (
        "request forged",
        lambda f: items(
            envelope(
                f, Kind.REQUEST, "dev-1", encode(Request(9, 1, "dev-0", AskStatus())), key=keypair("dev-2")
            )
        ),
        "bad-signature",
    ),
    ("heartbeat on the wrong topic", lambda f: items(beat(f)), "unwanted-envelope"),
]


def forged_submission(fleet: Fleet) -> bytes:
    good = make_submission(fleet.genesis, "dev-1", 1, ("notes", b"x"))
    return encode((good.signed, bytes(64)))


def beat(fleet: Fleet, n: int = 1) -> Envelope:
    body = Heartbeat(9, n, 0, 0, 0, 0, None, 0, None)
    return envelope(fleet, Kind.HEARTBEAT, "dev-1", encode(body))


@pytest.mark.parametrize(("name", "make", "reason"), CASES, ids=[case[0] for case in CASES])
def test_bad_frame_is_one_counter_and_nothing_else(fleet: Fleet, name: str, make: Make, reason: str) -> None:
    assert feed(fleet, make(fleet)) == {reason: 1}

    fleet.note("dev-1")
    fleet.advance(300)

    assert set(fleet.heights().values()) == {1}


def test_unknown_sender_costs_one_counter(fleet: Fleet) -> None:
    assert feed(fleet, items(statement(fleet)), sender="stranger") == {"unknown-sender": 1}


def test_a_statement_may_be_relayed_by_anybody(fleet: Fleet) -> None:
    assert feed(fleet, items(statement(fleet, voter=2)), sender="dev-3") == {}
    assert 2 in fleet["dev-0"].running.replica.state.views[1].notarizes


def test_a_replayed_request_is_worth_nothing(fleet: Fleet) -> None:
    frame = items(request(fleet, 5))
    assert feed(fleet, frame, scope=Scope.TO) == {}
    assert feed(fleet, frame, scope=Scope.TO) == {"replayed": 1}
    assert feed(fleet, items(request(fleet, 4)), scope=Scope.TO) == {}, (
        "a little disorder is a broker's right"
    )
    assert feed(fleet, items(request(fleet, 1, boot=8)), scope=Scope.TO) == {"replayed": 1}
    assert feed(fleet, items(request(fleet, 1, boot=10)), scope=Scope.TO) == {}, "a restart is no replay"


def test_a_forged_counter_does_not_shut_out_its_owner(fleet: Fleet) -> None:
    """Only a good signature moves the window."""
    body = encode(Request(NUMBER_MAX, 1, "dev-0", AskStatus()))
    forged = envelope(fleet, Kind.REQUEST, "dev-1", body, key=keypair("dev-2"))
    assert feed(fleet, items(forged), scope=Scope.TO) == {"bad-signature": 1}
    assert feed(fleet, items(request(fleet, 1)), scope=Scope.TO) == {}


def test_a_bad_item_does_not_hurt_its_neighbours(fleet: Fleet) -> None:
    payload = items(statement(fleet, key=keypair("dev-2")), statement(fleet, voter=2))
    assert feed(fleet, payload) == {"bad-signature": 1}
    assert list(fleet["dev-0"].running.replica.state.views[1].notarizes) == [2]


def test_window_comes_before_signature(fleet: Fleet) -> None:
    """Above the window one statement per sender and Δ is verified; the flood behind it costs no signature check."""
    assert feed(fleet, items(statement(fleet, view=1000))) == {}
    flood = items(*(statement(fleet, view=2000 + i, key=keypair("dev-2")) for i in range(50)))
    assert feed(fleet, flood) == {"above-window": 50}
    assert len(fleet["dev-0"].running.replica.state.views) <= 6


def test_memory_stays_bounded_under_a_flood_of_valid_votes(fleet: Fleet) -> None:
    """A voter that signs everything fills its own slots and nothing else (limits.py, R0)."""
    for view in range(1, 400):
        feed(fleet, items(statement(fleet, view=view), statement(fleet, Kind.ATTEST, view)))
    state = fleet["dev-0"].running.replica.state
    assert len(state.views) <= 6
    assert len(state.attests[1]) <= 4
    assert len(state.fetches) <= 8


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_survived(payload: bytes) -> None:
    device = SHARED["dev-0"].running
    device.turn([FrameIn("dev-1", Scope.ALL, payload)], SHARED.now_ms)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_any_change_of_a_good_frame_is_survived(data: st.DataObject) -> None:
    good = bytearray(items(statement(SHARED), beat(SHARED), statement(SHARED, Kind.FINALIZE, 2)))
    position = data.draw(st.integers(0, len(good) - 1))
    good[position] ^= data.draw(st.integers(1, 255))
    SHARED["dev-0"].running.turn([FrameIn("dev-1", Scope.ALL, bytes(good))], SHARED.now_ms)


SHARED = Fleet()


def test_frames_of_the_fleet_decode_and_are_canonical(fleet: Fleet) -> None:
    fleet.note("dev-0")
    fleet.advance(200)
    for _, frame in fleet.published:
        assert msgspec.msgpack.encode(decode_frame(frame.payload)) == frame.payload


def test_two_genesis_files_do_not_understand_each_other() -> None:
    ours, theirs = Fleet(), Fleet(genesis=make_genesis(4, snapshot_every=7))
    theirs.note("dev-1")
    theirs.settle()
    for sender, frame in theirs.published:
        if sender == "dev-1":
            ours.put("dev-0", FrameIn("dev-1", frame.scope, frame.payload))
    ours.settle()
    assert ours.heights()["dev-0"] == 0
    assert ours["dev-0"].running.dropped["bad-signature"] > 0
