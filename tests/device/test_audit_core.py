"""What an audit with lying voters found in the core, each as it was demonstrated, with real devices and signatures."""

from __future__ import annotations

import pytest

from swarm.crypto.digest import sha256
from swarm.crypto.signing import sign
from swarm.device.turn import FrameIn
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.limits import BLOCK_BYTES_MAX, CLAIM_QUESTIONS_MAX
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import Block, Envelope, Heartbeat, Item, Proposal, SubmissionItem, encode_frame
from swarm.wire.statements import Certificate, Header, Kind, SignedStatement, envelope_bytes, header_hash
from tests.support.fleet import Fleet
from tests.support.swarms import keypair, make_submission, sign_statement

LIAR = "dev-3"


def frame(*items: Item, scope: Scope = Scope.ALL, sender: str = LIAR) -> FrameIn:
    return FrameIn(sender, scope, encode_frame(items))


def vote(fleet: Fleet, kind: Kind, view: int, digest: bytes) -> SignedStatement:
    signature = sign_statement(fleet.genesis, LIAR, kind, view, digest)
    return SignedStatement(kind, 0, view, digest, 3, signature)


def header(view: int, height: int, parent: bytes, *ids: bytes, parent_view: int | None = None) -> Header:
    above = view - 1 if parent_view is None else parent_view
    return Header(0, view, height, above, parent, ids, ZERO_DIGEST, 3)


def without_liar() -> Fleet:
    fleet = Fleet()
    fleet.crash(LIAR)
    fleet.settle()
    return fleet


def test_a_chain_of_junk_blocks_is_not_kept_and_closes_no_pool() -> None:
    """One N for an unknown hash must not make a liar's parents wanted, in views that are never forgotten."""
    fleet = without_liar()
    view = fleet["dev-0"].running.replica.state.cur
    blocks: list[Block] = []
    parent = sha256(b"nothing")
    for index in range(30):
        junk = make_submission(fleet.genesis, LIAR, 10_000_000 + index, ("notes", bytes(16_000)))
        blocks.append(Block(header(2**62 + index, 5, parent, junk.id), (junk.raw,)))
        parent = header_hash(blocks[-1].header)
    for id in ("dev-0", "dev-1", "dev-2"):
        fleet.put(id, frame(vote(fleet, Kind.NOTARIZE, view, parent)))
    fleet.advance(200)
    for block in reversed(blocks):
        for id in ("dev-0", "dev-1", "dev-2"):
            fleet.put(id, frame(block, scope=Scope.TO))
        fleet.settle()
    state = fleet["dev-0"].running.replica.state
    assert len(state.headers) <= 2
    assert len(state.pool.entries) == 0
    fleet.note("dev-1")
    fleet.advance(3000)
    assert set(fleet.heights().values()) == {1}


def test_a_bare_p_does_not_shut_out_the_proposal() -> None:
    """Anybody may relay the leader's P signature first; the proposal itself must still be taken."""
    fleet = Fleet()
    deliver = fleet.deliver

    def relay_first(sender: str, frames: object) -> None:
        sent = list(frames)  # type: ignore[call-overload]
        from swarm.wire.messages import decode_frame

        for out in sent:
            for item in decode_frame(out.payload):
                if isinstance(item, Proposal):
                    h = item.header
                    bare = SignedStatement(
                        Kind.PROPOSE, 0, h.view, header_hash(h), h.proposer, item.signature
                    )
                    for id in fleet.members:
                        if id != sender:
                            fleet.put(id, frame(bare, sender="ops"))
        deliver(sender, sent)

    fleet.deliver = relay_first  # type: ignore[method-assign]
    fleet.note("dev-0")
    fleet.advance(300)
    assert set(fleet.heights().values()) == {1}


def test_a_forged_certificate_silences_nobody() -> None:
    """Only a verified copy spares a device the repetition of a certificate that it alone may hold (R8)."""
    fleet = without_liar()
    fleet.passes = lambda sender, receiver, item: (
        not (isinstance(item, SignedStatement) and item.kind == Kind.NOTARIZE)
        or (receiver == "dev-1" and sender != "dev-2")
    )
    fleet.note("dev-0")
    for _ in range(6):
        fleet.round()
    state = fleet["dev-1"].running.replica.state
    slots = next(s for s in state.views.values() if s.proposal is not None)
    fleet.put("dev-1", frame(vote(fleet, Kind.NOTARIZE, slots.view, slots.proposal_hash), scope=Scope.TO))
    fleet.turn("dev-1")
    key = (int(Kind.NOTARIZE), slots.view)
    assert key in state.republish
    for digest in (b"\7" * 32, slots.proposal_hash):
        forged = Certificate(Kind.NOTARIZE, 0, slots.view, digest, tuple((i, bytes(64)) for i in range(3)))
        fleet.put("dev-1", frame(forged))
        fleet.turn("dev-1")
        assert key in state.republish


@pytest.mark.parametrize("ids", [(), (sha256(b"no such body"),)], ids=["empty", "withheld"])
def test_a_private_proposal_of_an_idle_view_keeps_nobody_awake(ids: tuple[bytes, ...]) -> None:
    """ADR 0013: after the own K the proposal is no work, so the swarm is silent again."""
    fleet = Fleet()
    fleet.settle()
    while fleet["dev-0"].running.replica.state.cur % 4 != 3:
        fleet.note("dev-0")
        fleet.advance(400)
    fleet.crash(LIAR)
    fleet.advance(1000)
    state = fleet["dev-1"].running.replica.state
    head = header(state.cur, state.delivered_height + 1, state.final_hash, *ids, parent_view=state.final_view)
    signature = sign_statement(fleet.genesis, LIAR, Kind.PROPOSE, state.cur, header_hash(head))
    fleet.put("dev-1", frame(Proposal(head, state.final_fc, (), signature), scope=Scope.TO))
    fleet.advance(15_000, step_ms=50)
    assert not state.work
    before = len(fleet.published)
    fleet.advance(30_000, step_ms=50)
    assert {out.scope for _, out in fleet.published[before:]} == {Scope.BEAT}


def test_a_header_pins_no_more_than_a_block_may_hold() -> None:
    fleet = Fleet()
    fleet.settle()
    while fleet["dev-0"].running.replica.state.cur % 4 != 3:
        fleet.note("dev-0")
        fleet.advance(400)
    state = fleet["dev-1"].running.replica.state
    many = [
        make_submission(fleet.genesis, LIAR, 5_000_000 + index, ("notes", bytes(16_000)))
        for index in range(40)
    ]
    head = header(
        state.cur,
        state.delivered_height + 1,
        state.final_hash,
        *(s.id for s in many),
        parent_view=state.final_view,
    )
    signature = sign_statement(fleet.genesis, LIAR, Kind.PROPOSE, state.cur, header_hash(head))
    fleet.put("dev-1", frame(Proposal(head, state.final_fc, (), signature)))
    fleet.turn("dev-1")
    for submission in many:
        fleet.put("dev-1", frame(SubmissionItem(submission.raw)))
        fleet.turn("dev-1")
    assert sum(len(s.raw) for s in state.pool.entries.values()) <= BLOCK_BYTES_MAX


def test_everybody_is_asked_before_anybody_is_asked_again() -> None:
    """R9: whoever has it is found, however many others claim and do not deliver."""
    fleet = Fleet(7)
    fleet.settle()
    state = fleet["dev-0"].running.replica.state
    for id in [f"dev-{index}" for index in range(1, 7)]:
        fleet.crash(id)
    state.claims["dev-3"] = (50, 50)
    asked: list[str] = []
    for _ in range(4000):
        fleet.now_ms += 10
        asked += [str(out.to) for out in fleet.turn("dev-0") if out.scope is Scope.TO]
    assert set(asked[:14]) == {f"dev-{index}" for index in range(1, 7)}


def test_above_the_window_one_check_per_voter_and_delta_even_within_one_frame() -> None:
    fleet = Fleet()
    fleet.settle()
    device = fleet["dev-0"].running
    votes = [vote(fleet, Kind.NOTARIZE, 1000 + index, b"x" * 32) for index in range(50)]
    device.turn([frame(*votes)], fleet.now_ms)
    assert device.dropped["above-window"] == 49


@pytest.mark.parametrize("what", ["statement", "heartbeat"])
def test_a_far_claim_costs_an_idle_swarm_a_few_questions_and_no_more(what: str) -> None:
    """R9: it was one every few seconds from every device, for ever."""
    fleet = without_liar()
    fleet.note("dev-0", b"something")
    fleet.advance(2_000)
    far = 2**62
    if what == "statement":
        claim = frame(vote(fleet, Kind.SKIP, far, ZERO_DIGEST))
    else:
        body = encode(
            Heartbeat(
                boot=1,
                n=1,
                epoch=0,
                finalized_view=far,
                height=far,
                incarnation=0,
                attest=None,
                pending=0,
                oldest=None,
            )
        )
        signature = sign(keypair(LIAR), envelope_bytes(fleet.genesis.id, Kind.HEARTBEAT, body))
        claim = frame(Envelope(Kind.HEARTBEAT, LIAR, body, signature), scope=Scope.BEAT)
    del fleet.published[:]
    for id in ("dev-0", "dev-1", "dev-2"):
        fleet.put(id, claim)
    fleet.advance(120_000, step_ms=50)
    asked = sum(out.scope is Scope.TO for _, out in fleet.published)
    assert 3 <= asked <= 3 * 2 * (2 * CLAIM_QUESTIONS_MAX)
    del fleet.published[:]
    fleet.advance(300_000, step_ms=100)
    assert {out.scope for _, out in fleet.published} == {Scope.BEAT}
