"""PROTOCOL 2.3: what a replay is worth, also to a receiver that has just started and remembers no counter."""

from __future__ import annotations

import pytest

from swarm.crypto.signing import sign
from swarm.device.counters import SPREAD, ReplayWindows
from swarm.device.turn import FrameIn, OutFrame
from swarm.primitives.limits import (
    ANSWER_BYTES_PER_MEMBER_BURST,
    ANSWER_BYTES_PER_MEMBER_PER_SECOND,
    HEARTBEAT_MS,
)
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import (
    AnswerStatus,
    Ask,
    AskBlocks,
    AskStatus,
    Envelope,
    Heartbeat,
    Request,
    decode_answer,
    decode_frame,
    encode_frame,
)
from swarm.wire.statements import Kind, SignedStatement, envelope_bytes
from tests.support.fleet import Fleet
from tests.support.swarms import keypair

VICTIM, MEMBER = "dev-0", "dev-3"


def envelope(fleet: Fleet, sender: str, kind: Kind, body: bytes) -> Envelope:
    signature = sign(keypair(sender), envelope_bytes(fleet.genesis.id, kind, body))
    return Envelope(kind, sender, body, signature)


def question(fleet: Fleet, n: int, ask: Ask, *, sender: str = MEMBER, boot: int = 1) -> FrameIn:
    body = encode(Request(boot=boot, n=n, to=VICTIM, ask=ask))
    return FrameIn(sender, Scope.TO, encode_frame((envelope(fleet, sender, Kind.REQUEST, body),)))


def heartbeat(fleet: Fleet, n: int, *, view: int = 0, boot: int = 1) -> FrameIn:
    body = encode(
        Heartbeat(
            boot=boot,
            n=n,
            epoch=0,
            finalized_view=view,
            height=view,
            incarnation=0,
            attest=None,
            pending=0,
            oldest=None,
        )
    )
    return FrameIn(MEMBER, Scope.BEAT, encode_frame((envelope(fleet, MEMBER, Kind.HEARTBEAT, body),)))


def fleet_without_member() -> Fleet:
    """A log with something large in it, and the member's envelopes come from the test."""
    fleet = Fleet()
    fleet.crash(MEMBER)
    fleet.settle()
    for index in range(3):
        for _ in range(8):
            fleet.note("dev-1", bytes([65 + index]) * 15_000)
        fleet.advance(1_000)
    return fleet


def feed(fleet: Fleet, *frames: FrameIn, pause_ms: int = 5) -> list[OutFrame]:
    """Give the victim frames, one a turn, and return what it sent to single members."""
    sent: list[OutFrame] = []
    for frame in frames:
        fleet.put(VICTIM, frame)
        sent += [out for out in fleet.turn(VICTIM) if out.scope is Scope.TO]
        fleet.now_ms += pause_ms
    return sent


def restart(fleet: Fleet) -> None:
    fleet.crash(VICTIM)
    fleet.start(VICTIM)
    fleet.turn(VICTIM)


@pytest.mark.parametrize("boot", [1, 2], ids=["the same start", "a later start"])
def test_a_heartbeat_ends_the_replay_of_questions_after_a_restart_of_the_receiver(boot: int) -> None:
    """Found by an audit: windows are lost in a restart, and the whole recorded past was fresh again."""
    fleet = fleet_without_member()
    recorded = [question(fleet, n, AskBlocks(height=1)) for n in range(1, 21)]
    assert feed(fleet, *recorded)
    restart(fleet)
    newest = 1 if boot > 1 else 20 + SPREAD
    feed(fleet, heartbeat(fleet, newest, boot=boot))
    assert feed(fleet, *recorded) == []
    assert fleet[VICTIM].running.dropped["replayed"] == len(recorded)


def test_until_then_a_replay_costs_no_more_than_the_member_s_own_share() -> None:
    fleet = fleet_without_member()
    recorded = [question(fleet, n, AskBlocks(height=1)) for n in range(1, 1001)]
    restart(fleet)
    start_ms = fleet.now_ms
    sent = feed(fleet, *recorded)
    passed_s = (fleet.now_ms - start_ms) / 1000
    assert {out.to for out in sent} == {MEMBER}, "the answer goes to who once asked, never to who replays"
    bound = ANSWER_BYTES_PER_MEMBER_BURST + ANSWER_BYTES_PER_MEMBER_PER_SECOND * passed_s
    assert len(sent) > 20
    assert sum(len(out.payload) for out in sent) <= bound * 1.01
    assert feed(fleet, *recorded) == [], "and each once a start of the receiver"
    other = feed(fleet, question(fleet, 1, AskStatus(), sender="dev-2"))
    assert [out.to for out in other] == ["dev-2"], "nobody else's share is touched"


def test_a_replayed_heartbeat_says_nothing_that_was_not_true() -> None:
    """What a correct member had, it has: its old claims are no more than its newest, so nobody asks for nothing."""
    fleet = fleet_without_member()
    height = fleet[VICTIM].running.ledger.height
    recorded = [heartbeat(fleet, n, view=min(n, height)) for n in range(1, 50)]
    restart(fleet)
    feed(fleet, *recorded)
    sent: list[OutFrame] = []
    for _ in range(2 * HEARTBEAT_MS // 100):
        fleet.now_ms += 100
        sent += [out for out in fleet.turn(VICTIM) if out.scope is Scope.TO]
    assert sent == []


def test_an_old_statement_that_somebody_replays_makes_nobody_heard() -> None:
    """Found while this was proved: whoever died long ago looked alive, and a rollout (W6) listens for the living."""
    fleet = Fleet()
    fleet.settle()
    fleet.note("dev-1", b"something")
    fleet.advance(1_000)
    recorded = [
        FrameIn(MEMBER, out.scope, encode_frame((item,)))
        for id, out in fleet.published
        if id == MEMBER and out.scope is Scope.ALL
        for item in decode_frame(out.payload)
        if isinstance(item, SignedStatement)
    ]
    assert len(recorded) >= 2, "N, F and an attestation"
    fleet.crash(MEMBER)
    fleet.now_ms += 60_000
    feed(fleet, *recorded, *recorded)
    assert MEMBER not in alive(fleet)
    feed(fleet, heartbeat(fleet, 1_000))
    assert MEMBER in alive(fleet)


def alive(fleet: Fleet) -> tuple[str, ...]:
    """Return whom the victim calls alive."""
    (out,) = feed(fleet, question(fleet, fleet.now_ms, AskStatus(), sender="ops"))
    (item,) = decode_frame(out.payload)
    assert isinstance(item, Envelope)
    content = decode_answer(item.body).content
    assert isinstance(content, AnswerStatus)
    return content.peers


def test_kinds_close_each_other_only_far_behind() -> None:
    """A question that a heartbeat overtook on its way is answered."""
    windows = ReplayWindows()
    windows.use("a", int(Kind.HEARTBEAT), 2, 2_000)
    assert windows.is_fresh("a", int(Kind.REQUEST), 2, 2_000 - SPREAD + 1)
    assert not windows.is_fresh("a", int(Kind.REQUEST), 2, 2_000 - SPREAD)
    assert not windows.is_fresh("a", int(Kind.REQUEST), 1, 5_000)
    assert windows.is_fresh("a", int(Kind.REQUEST), 3, 1)
    assert windows.is_fresh("b", int(Kind.REQUEST), 1, 1)
