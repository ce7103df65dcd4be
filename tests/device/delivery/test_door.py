"""Questions and answers of delivery at the door and on their way out: signed, addressed, asked for, one chunk a frame."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarm.crypto.keys import KeyPair
from swarm.crypto.merkle import leaf_hash
from swarm.crypto.signing import sign
from swarm.device.admission import Admission, DeliveryAnswer, DeliveryAsk, Expected
from swarm.device.counters import Counter
from swarm.device.outbox import Outbox
from swarm.device.turn import FrameIn
from swarm.device.verifier import Verifier
from swarm.device.work import Work
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import ANSWER_LEAVES_MAX, CHUNK_BYTES_MAX, FRAME_BYTES_MAX
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import (
    Answer,
    AnswerBusy,
    AnswerChunk,
    Answered,
    AnswerLeaves,
    AnswerNoRelease,
    AnswerWindow,
    Ask,
    AskLeaves,
    ChunkItem,
    Envelope,
    Request,
    ask_chunks,
    decode_answer,
    decode_frame,
    encode_frame,
    with_data,
    without_data,
)
from swarm.wire.statements import Kind, envelope_bytes
from tests.support.delivery import chunk as make_chunk
from tests.support.fleet import Fleet
from tests.support.swarms import keypair

RELEASE = b"R" * 32
CHUNK = make_chunk(RELEASE, 7, b"data", ())
CONTENTS = [CHUNK, AnswerLeaves(RELEASE, 0, (bytes(32),)), AnswerNoRelease(RELEASE), AnswerBusy()]


class Door:
    """The door of dev-0 with a device that waits for (boot 3, n 5) of dev-1, and what it was asked about."""

    def __init__(self, *, waits: bool = True) -> None:
        self.fleet = Fleet()
        self.checked = 0
        self.is_proved = False
        self.consulted: list[tuple[DeviceId, Answer]] = []
        self.admission = Admission(
            self.fleet.genesis,
            "dev-0",
            self.fleet["dev-0"].running.replica,
            Verifier(self.fleet.genesis, self._verify),
            self._expects if waits else None,
        )

    def _verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        self.checked += 1
        signers = {keypair(id).public: keypair(id) for id in ("dev-1", "dev-2")}
        return key in signers and sign(signers[key], message) == signature

    def _expects(self, sender: DeviceId, answer: Answer) -> Expected:
        self.consulted.append((sender, answer))
        if (sender, answer.re_boot, answer.re_n) != ("dev-1", 3, 5):
            return Expected.NO
        return Expected.PROVED if self.is_proved else Expected.SIGNED

    def answer(
        self,
        content: Answered = CHUNK,
        *,
        sender: DeviceId = "dev-1",
        topic: DeviceId = "",
        to: DeviceId = "dev-0",
        re: tuple[int, int] = (3, 5),
        n: int = 1,
        scope: Scope = Scope.TO,
        key: KeyPair | None = None,
        spoil: Callable[[bytes], bytes] = bytes,
    ) -> list[object]:
        answer, data = Answer(9, n, to, *re, content), b""
        if isinstance(content, AnswerChunk):
            answer, data = without_data(answer)
        return self._give(Kind.ANSWER, sender, topic or sender, encode(answer), scope, key, spoil(data))

    def ask(
        self, question: Ask, *, n: int = 1, to: DeviceId = "dev-0", key: KeyPair | None = None
    ) -> list[object]:
        body = encode(Request(9, n, to, question))
        return self._give(Kind.REQUEST, "dev-1", "dev-1", body, Scope.TO, key)

    def _give(
        self,
        kind: Kind,
        sender: DeviceId,
        topic: DeviceId,
        body: bytes,
        scope: Scope,
        key: KeyPair | None,
        data: bytes = b"",
    ) -> list[object]:
        signature = sign(key or keypair(sender), envelope_bytes(self.fleet.genesis.id, kind, body))
        envelope = Envelope(kind, sender, body, signature)
        payload = encode_frame((ChunkItem(envelope, data) if data else envelope,))
        return list(self.admission.admit(FrameIn(topic, scope, payload)))


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: type(content).__name__)
def test_an_answer_that_is_waited_for_passes_with_its_signer(content: Answered) -> None:
    door = Door()
    assert door.answer(content) == [DeliveryAnswer("dev-1", Answer(9, 1, "dev-0", 3, 5, content))]
    assert door.admission.dropped == {}


def test_an_answer_never_asked_for_costs_no_signature() -> None:
    door = Door()
    assert door.answer(re=(3, 6)) == door.answer(re=(2, 5)) == door.answer(sender="dev-2") == []
    assert door.admission.dropped == {"unasked": 3}
    assert door.checked == 0


def test_a_forged_answer_is_dropped_and_the_true_one_still_passes() -> None:
    door = Door()
    assert door.answer(key=keypair("dev-2")) == []
    assert door.admission.dropped == {"bad-signature": 1}
    assert len(door.answer()) == 1


def test_the_bytes_beside_the_signature_come_in_with_the_leaf_hash_that_was_signed() -> None:
    """Whoever hashes them, the fetcher, finds out what they are: they are hashed once."""
    door = Door()
    (admitted,) = door.answer(spoil=lambda data: data + b"x")
    assert isinstance(admitted, DeliveryAnswer)
    chunk = admitted.answer.content
    assert isinstance(chunk, AnswerChunk)
    assert (chunk.data, chunk.leaf) == (b"datax", leaf_hash(b"data"))


def test_a_chunk_that_proves_itself_costs_no_signature_and_is_nobodys_word() -> None:
    """It is right whoever sent it; that its sender is alive it does not prove (FIRMWARE W6)."""
    door = Door()
    door.is_proved = True
    (admitted,) = door.answer(key=keypair("dev-2"))
    assert isinstance(admitted, DeliveryAnswer)
    assert not admitted.is_signed
    assert door.checked == 0


def test_only_a_signed_answer_makes_its_sender_heard() -> None:
    fleet = Fleet()
    device = fleet["dev-0"].running
    for is_signed in (False, True):
        work = Work(fleet.now_ms)
        device._hear(DeliveryAnswer("dev-1", Answer(9, 1, "dev-0", 3, 5, CHUNK), is_signed), work)
        assert bool(work.events) is is_signed


def test_bytes_beside_an_answer_that_has_none_are_refused() -> None:
    door = Door()
    assert door.answer(AnswerNoRelease(RELEASE), spoil=lambda _data: b"x") == []
    assert door.admission.dropped == {"chunk-mismatch": 1}


def test_a_chunk_has_one_way_to_travel() -> None:
    """Signed as a whole it would be a second encoding of the same answer, and a dear one."""
    door = Door()
    body = encode(Answer(9, 1, "dev-0", 3, 5, CHUNK))
    assert door._give(Kind.ANSWER, "dev-1", "dev-1", body, Scope.TO, None) == []
    assert door._give(Kind.ANSWER, "dev-1", "dev-1", body, Scope.TO, None, b"data") == []
    assert door.admission.dropped == {"chunk-mismatch": 2}


def test_bytes_beside_anything_but_an_answer_are_refused() -> None:
    door = Door()
    body = encode(Request(9, 1, "dev-0", AskLeaves(RELEASE, 0, 4)))
    assert door._give(Kind.REQUEST, "dev-1", "dev-1", body, Scope.TO, None, b"x") == []
    assert door._give(Kind.ANSWER, "dev-1", "dev-2", body, Scope.TO, None, b"x") == []
    assert door.admission.dropped == {"unwanted-envelope": 1, "topic-sender-mismatch": 1}


def test_an_answer_of_another_kind_is_not_even_asked_about() -> None:
    door = Door()
    assert door.answer(AnswerWindow("dev-1", 0, 1, 1)) == []
    assert door.admission.dropped == {"unasked": 1}
    assert door.consulted == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"to": "dev-2"}, "not-for-me"),
        ({"topic": "dev-2"}, "topic-sender-mismatch"),
        ({"scope": Scope.ALL}, "unwanted-envelope"),
    ],
)
def test_an_answer_on_a_wrong_way_is_dropped(change: dict[str, object], reason: str) -> None:
    door = Door()
    assert door.answer(**change) == []  # type: ignore[arg-type]
    assert door.admission.dropped == {reason: 1}
    assert door.checked == 0


def test_a_device_that_fetches_nothing_lets_no_answer_in() -> None:
    door = Door(waits=False)
    assert door.answer() == []
    assert door.admission.dropped == {"unwanted-envelope": 1}


def test_chunks_that_fell_far_behind_their_counters_still_pass() -> None:
    """They leave after everything else, so no window may close behind them."""
    door = Door()
    assert len(door.answer(n=10_000)) == 1
    assert len(door.answer(n=1)) == 1


@pytest.mark.parametrize("question", [AskLeaves(RELEASE, 0, 4), ask_chunks(RELEASE, (1, 3), paths=True)])
def test_a_question_for_chunks_passes_once(question: Ask) -> None:
    door = Door()
    assert door.ask(question) == [DeliveryAsk("dev-1", Request(9, 1, "dev-0", question))]
    assert door.ask(question) == []
    assert door.ask(question, n=2, to="dev-2") == []
    assert door.ask(question, n=3, key=keypair("dev-2")) == []
    assert door.admission.dropped == {"replayed": 1, "not-for-me": 1, "bad-signature": 1}


def test_a_device_without_firmware_counts_both_and_answers_neither() -> None:
    fleet = Fleet()
    fleet.settle()
    body = encode(Request(9, 1, "dev-0", AskLeaves(RELEASE, 0, 4)))
    signature = sign(keypair("dev-1"), envelope_bytes(fleet.genesis.id, Kind.REQUEST, body))
    frame = FrameIn("dev-1", Scope.TO, encode_frame((Envelope(Kind.REQUEST, "dev-1", body, signature),)))
    turn = fleet["dev-0"].running.turn([frame], fleet.now_ms)
    assert fleet["dev-0"].running.dropped["unwanted-delivery"] == 1
    assert not [one for one in turn.frames if one.to == "dev-1"]


# ------------------------------------------------------------------------------------------ on the way out


def outbox() -> Outbox:
    return Outbox(Fleet().genesis.id, "dev-0", keypair("dev-0"), Counter(1))


def asked(n: int) -> Request:
    return Request(3, n, "dev-0", ask_chunks(RELEASE, (n,), paths=False))


def test_a_question_for_chunks_has_a_frame_of_its_own_that_nobody_acknowledges() -> None:
    box = outbox()
    box.ask("dev-1", ask_chunks(RELEASE, (1, 2), paths=False))
    box.ask("dev-1", AskLeaves(RELEASE, 0, 1))
    box.answer("dev-1", asked(9), AnswerNoRelease(RELEASE))
    frames = box.take()
    assert [(frame.repeated, len(decode_frame(frame.payload))) for frame in frames] == [(False, 2), (True, 1)]
    box.ask("dev-1", ask_chunks(RELEASE, (1, 2), paths=False))
    box.discard()
    assert box.take() == ()


def test_one_chunk_per_frame_with_its_index_and_as_bulk_after_everything_else() -> None:
    box = outbox()
    for index in range(3):
        box.answer("dev-1", asked(index), make_chunk(RELEASE, index, b"x" * 4096, ()))
    box.answer("dev-2", asked(9), AnswerNoRelease(RELEASE))
    box.answer("dev-1", asked(3), AnswerLeaves(RELEASE, 0, (bytes(32),)))
    frames = box.take()
    assert [frame.bulk for frame in frames] == [False, True, True, True, True]
    assert [(frame.scope, frame.to) for frame in frames[1:]] == [(Scope.TO, "dev-1")] * 4
    for n, frame in enumerate(frames[1:4]):
        (item,) = decode_frame(frame.payload)
        assert isinstance(item, ChunkItem)
        answer = with_data(decode_answer(item.envelope.body), item.data)
        assert (answer.re_boot, answer.re_n) == (3, n)
        assert isinstance(answer.content, AnswerChunk)
        assert (answer.content.index, answer.content.data) == (n, b"x" * 4096)
    assert box.take() == ()


def test_two_equal_chunks_are_two_frames() -> None:
    """Each has its own counter, so nothing is merged that two askers wait for."""
    box = outbox()
    box.answer("dev-1", asked(0), CHUNK)
    box.answer("dev-1", asked(0), CHUNK)
    assert len({frame.payload for frame in box.take()}) == 2


def test_a_turn_that_failed_lets_no_chunk_out() -> None:
    box = outbox()
    box.answer("dev-1", asked(0), CHUNK)
    box.discard()
    assert box.take() == ()


def test_the_largest_answers_fit_a_frame_with_room() -> None:
    box = outbox()
    box.answer("dev-1", asked(0), make_chunk(RELEASE, 2**32 - 1, bytes(CHUNK_BYTES_MAX), (bytes(32),) * 32))
    box.answer("dev-1", asked(0), AnswerLeaves(RELEASE, 0, (bytes(32),) * ANSWER_LEAVES_MAX))
    for frame in box.take():
        assert len(frame.payload) < FRAME_BYTES_MAX // 4
        assert decode_frame(frame.payload)
