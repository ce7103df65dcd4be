"""A light client serves an image to a voter that fetches it: the voter's own fetcher on the other side."""

from __future__ import annotations

import pytest

from swarm.agent.client.shelf import Shelf
from swarm.crypto.signing import verify
from swarm.device.counters import Counter
from swarm.device.delivery.fetcher import Fetcher
from swarm.device.outbox import Outbox
from swarm.device.verifier import Verifier
from swarm.install.port import Bitmap
from swarm.primitives.errors import DecodeError
from swarm.wire.messages import (
    Answer,
    AnswerNoRelease,
    AskChunks,
    AskLeaves,
    AskStatus,
    ChunkItem,
    Envelope,
    Request,
    decode_answer,
    decode_frame,
    decode_request,
    with_data,
)
from tests.support.install import directory_release
from tests.support.swarms import keypair, make_genesis

GENESIS = make_genesis()
RELEASE = directory_release(2, size=50_000)


class Wire:
    """A client that serves, and the voter dev-1 that signs questions."""

    def __init__(self) -> None:
        self.out = Outbox(GENESIS.id, "ops", keypair("ops"), Counter(1))
        self.shelf = Shelf("ops", Verifier(GENESIS, verify), self.out)
        self.voter = Outbox(GENESIS.id, "dev-1", keypair("dev-1"), Counter(1))
        self.asked: dict[tuple[int, int], Request] = {}

    def question(self, ask: AskLeaves | AskChunks | AskStatus, *, to: str = "ops") -> Envelope:
        self.voter.ask(to, ask)
        (frame,) = self.voter.take()
        (envelope,) = decode_frame(frame.payload)
        assert isinstance(envelope, Envelope)
        request = decode_request(envelope.body)
        self.asked[request.boot, request.n] = request
        return envelope

    def answers(self) -> list[Answer]:
        found = []
        for frame in self.out.take():
            assert frame.to == "dev-1"
            for item in decode_frame(frame.payload):
                if isinstance(item, ChunkItem):
                    assert frame.bulk
                    found.append(with_data(decode_answer(item.envelope.body), item.data))
                elif isinstance(item, Envelope):
                    found.append(decode_answer(item.body))
        return found


def test_a_voter_fetches_the_whole_image_from_an_operator() -> None:
    wire = Wire()
    wire.shelf.offer(RELEASE.plan, RELEASE.data, None, 0)
    count = RELEASE.plan.chunk_count
    fetcher = Fetcher(RELEASE.plan, Bitmap.of(count, set()), now_ms=0, seed=b"s", reuse=False)
    fetcher.set_peers(("ops",))
    chunks: dict[int, bytes] = {}
    now_ms = 0
    while len(chunks) < count:
        now_ms += 10
        assert now_ms < 10_000
        step = fetcher.advance(now_ms)
        chunks.update(step.writes)
        if step.writes or step.checkpoint:
            fetcher.on_written(Bitmap.of(count, set(chunks)))
        for peer, ask in step.asks:
            envelope = wire.question(ask)
            request = decode_request(envelope.body)
            fetcher.asked(peer, ask, request.boot, request.n)
            wire.shelf.on_request(envelope, now_ms)
        wire.shelf.advance(now_ms)
        for answer in wire.answers():
            assert fetcher.expects("ops", answer)
            fetcher.on_answer("ops", answer, now_ms)
    assert b"".join(chunks[index] for index in range(count)) == RELEASE.data
    assert wire.shelf.counts.chunks == count
    assert wire.shelf.counts.bytes == len(RELEASE.data)


def test_a_capped_shelf_says_when_to_come_again() -> None:
    wire = Wire()
    wire.shelf.offer(RELEASE.plan, RELEASE.data, 4_096, 0)
    sent = []
    for now_ms in range(0, 5_000, 500):
        for index in range(2):
            ask = AskChunks(RELEASE.plan.release, index, b"\x80", paths=False)
            wire.shelf.on_request(wire.question(ask), now_ms)
        wire.shelf.advance(now_ms)
        sent.append(len(wire.answers()))
    assert wire.shelf.wake_at_ms is not None
    assert 0 < wire.shelf.counts.bytes <= 2 * 4_096 * 5


def test_another_release_is_not_here() -> None:
    wire = Wire()
    wire.shelf.offer(RELEASE.plan, RELEASE.data, None, 0)
    wire.shelf.on_request(wire.question(AskLeaves(bytes(32), 0, 1)), 0)
    wire.shelf.advance(0)
    (answer,) = wire.answers()
    assert answer.content == AnswerNoRelease(bytes(32))


def test_what_is_no_fresh_question_of_a_member_is_refused() -> None:
    wire = Wire()
    ask = AskLeaves(RELEASE.plan.release, 0, 1)
    with pytest.raises(DecodeError, match="unwanted-item"):
        wire.shelf.on_request(wire.question(ask), 0)
    wire.shelf.offer(RELEASE.plan, RELEASE.data, None, 0)
    with pytest.raises(DecodeError, match="not-for-me"):
        wire.shelf.on_request(wire.question(ask, to="dev-2"), 0)
    with pytest.raises(DecodeError, match="unwanted-item"):
        wire.shelf.on_request(wire.question(AskStatus()), 0)
    good = wire.question(ask)
    forged = Envelope(good.kind, "dev-2", good.body, good.signature)
    with pytest.raises(DecodeError, match="bad-signature"):
        wire.shelf.on_request(forged, 0)
    wire.shelf.on_request(good, 0)
    with pytest.raises(DecodeError, match="replayed"):
        wire.shelf.on_request(good, 0)
    wire.shelf.advance(0)
    assert len(wire.answers()) == 1
