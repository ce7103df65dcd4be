"""What an audit with greedy members and full queues found in a device, each as it was demonstrated."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.apps.decisions.commands import cast_command, deadline_command, open_command
from swarm.apps.router import Router
from swarm.crypto.digest import sha256
from swarm.crypto.signing import sign, verify
from swarm.device import events
from swarm.device.device import Device, DeviceConfig
from swarm.device.guard import Guard
from swarm.device.turn import BallotReady, DeviceEvent, FrameIn, OutFrame, Submit, Turn
from swarm.primitives.errors import InvariantError
from swarm.primitives.limits import (
    ANSWER_BYTES_PER_MEMBER_BURST,
    ANSWER_BYTES_PER_MEMBER_PER_SECOND,
    CLIENT_WAITERS_MAX,
    CLIENT_WAITERS_PER_MEMBER_MAX,
    COMMAND_BYTES_MAX,
    COMMANDS_WAITING_MAX,
    OUTSTANDING_MAX,
    QUERIES_PER_TURN_MAX,
    QUESTIONS_PER_MEMBER_MAX,
)
from swarm.storage.sqlite import SqliteStore, create_store
from swarm.storage.store import Batch
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import (
    AnswerBusy,
    AnswerStatus,
    AnswerSuperseded,
    Ask,
    AskAwait,
    AskBlocks,
    AskEntries,
    AskStatus,
    Command,
    Envelope,
    Request,
    SubmissionItem,
    decode_answer,
    decode_frame,
    decode_submission,
    encode_frame,
)
from swarm.wire.statements import Kind, envelope_bytes
from tests.support.fleet import Fleet
from tests.support.swarms import keypair, make_genesis

MEMBER = "dev-3"
CLIENT = "ops"
OPEN_SLOT = b"d" * 32


class Asker:
    """Signs questions to dev-0 in the name of any member, each with a counter of its own."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._n = 0

    def frame(self, sender: str, *asks: Ask) -> FrameIn:
        return FrameIn(sender, Scope.TO, encode_frame(tuple(self._request(sender, ask) for ask in asks)))

    def _request(self, sender: str, ask: Ask) -> Envelope:
        self._n += 1
        body = encode(Request(boot=1, n=self._n, to="dev-0", ask=ask))
        signature = sign(keypair(sender), envelope_bytes(self._fleet.genesis.id, Kind.REQUEST, body))
        return Envelope(kind=int(Kind.REQUEST), sender=sender, body=body, signature=signature)

    def turn(self, *frames: FrameIn) -> tuple[OutFrame, ...]:
        self._fleet.put("dev-0", *frames)
        return self._fleet.turn("dev-0")


def bytes_to(frames: tuple[OutFrame, ...], to: str) -> int:
    return sum(len(frame.payload) for frame in frames if frame.to == to)


def contents_to(frames: tuple[OutFrame, ...], to: str) -> list[object]:
    """Return the contents of all answers to a light client, in order."""
    items = [item for frame in frames if frame.to == to for item in decode_frame(frame.payload)]
    return [decode_answer(item.body).content for item in items if isinstance(item, Envelope)]


def with_long_log() -> Fleet:
    """Some twenty blocks of 120 KiB, all members alike."""
    fleet = Fleet()
    fleet.settle()
    for number in range(20):
        fleet.put("dev-0", *[Submit("notes", bytes([number, part]) * 7_500, 0) for part in range(8)])
        fleet.advance(600, step_ms=20)
    fleet.advance(3_000, step_ms=20)
    assert fleet.heights()["dev-0"] >= 16
    return fleet


# ------------------------------------------------------------------------------ answers cost bytes (R8)


@pytest.mark.parametrize("what", ["blocks", "entries"])
def test_small_questions_are_not_answered_with_any_number_of_megabytes(what: str) -> None:
    """At one instant a member gets its share of the burst and no more, whatever and in how many turns it asks."""
    fleet = with_long_log()
    asker = Asker(fleet)
    height = fleet.heights()["dev-0"]
    total = 0
    for turn in range(8):
        asks: list[Ask] = (
            [AskBlocks(height=1 + number % height) for number in range(turn, turn + 16)]
            if what == "blocks"
            else [AskEntries(position=number, count=1024) for number in range(turn, turn + 16)]
        )
        total += bytes_to(asker.turn(asker.frame(MEMBER, *asks)), MEMBER)
    assert ANSWER_BYTES_PER_MEMBER_BURST // 2 < total <= ANSWER_BYTES_PER_MEMBER_BURST + 4096
    dropped = fleet["dev-0"].running.dropped
    assert dropped["answer-over-budget"] > 10
    assert "question-over-share" not in dropped


def test_a_flooding_member_starves_no_light_client_and_is_heard_again_later() -> None:
    """The budget of one is not that of the others, and it fills with time."""
    fleet = with_long_log()
    asker = Asker(fleet)
    flood: list[Ask] = [AskEntries(position=number, count=1024) for number in range(16)]
    for _ in range(4):
        asker.turn(asker.frame(MEMBER, *flood))
    last = asker.turn(asker.frame(MEMBER, *flood), asker.frame(CLIENT, AskStatus()))
    assert bytes_to(last, MEMBER) < 256 * 1024
    assert [type(content) for content in contents_to(last, CLIENT)] == [AnswerStatus]
    fleet.now_ms += 1_000
    again = bytes_to(asker.turn(asker.frame(MEMBER, *flood)), MEMBER)
    assert ANSWER_BYTES_PER_MEMBER_PER_SECOND // 2 < again <= ANSWER_BYTES_PER_MEMBER_PER_SECOND + 256 * 1024


def test_a_waiting_client_over_its_budget_goes_on_waiting() -> None:
    """What was asked and may be answered a moment later is not forgotten: the client would wait for nothing."""
    fleet = with_long_log()
    asker = Asker(fleet)
    own = fleet["dev-0"].running
    sequence = own.ledger.sequences.high("dev-0")[1] + 1
    asker.turn(asker.frame(CLIENT, AskAwait(key=bytes(32), origin="dev-0", sequence=sequence, expiry=0)))
    for _ in range(4):
        flood: list[Ask] = [AskEntries(position=number, count=1024) for number in range(16)]
        asker.turn(asker.frame(CLIENT, *flood))
    # The leaf of 60 KB comes while the client's bytes are spent, and a further block when they are there again.
    fleet.put("dev-0", *[Submit("notes", bytes(15_000), 0) for _ in range(4)])
    asked = len(fleet.published)
    before = own.dropped["answer-over-budget"]
    fleet.settle()
    assert own.ledger.sequences.high("dev-0")[1] == sequence
    assert own.dropped["answer-over-budget"] > before
    fleet.advance(1_000)
    fleet.note("dev-1")
    fleet.advance(1_000)
    answers = tuple(out for sender, out in fleet.published[asked:] if sender == "dev-0")
    assert [type(content) for content in contents_to(answers, CLIENT)] == [AnswerSuperseded]


# ------------------------------------------------------------------------------ questions and waiting places


def test_a_member_has_a_share_of_the_questions_of_a_turn() -> None:
    """64 questions of one member leave room for the client behind it, and what is left out is counted."""
    fleet = Fleet()
    fleet.settle()
    asker = Asker(fleet)
    frames = asker.turn(asker.frame(MEMBER, *[AskStatus()] * 64), asker.frame(CLIENT, AskStatus()))
    assert len(contents_to(frames, MEMBER)) == QUESTIONS_PER_MEMBER_MAX
    assert len(contents_to(frames, CLIENT)) == 1
    assert fleet["dev-0"].running.dropped["question-over-share"] == 64 - QUESTIONS_PER_MEMBER_MAX


def test_questions_for_blocks_have_the_same_share() -> None:
    """A question that the store has to answer counts like a light client's."""
    fleet = Fleet()
    fleet.settle()
    asker = Asker(fleet)
    asker.turn(asker.frame(MEMBER, *[AskBlocks(height=1 + number) for number in range(64)]))
    assert fleet["dev-0"].running.dropped["question-over-share"] == 64 - QUESTIONS_PER_MEMBER_MAX


def test_many_flooding_members_leave_a_question_to_each() -> None:
    """The questions of a turn go round by member, so whoever comes last is heard as the first is."""
    fleet = Fleet(genesis=make_genesis(4, observers=8))
    fleet.settle()
    asker = Asker(fleet)
    floods = [asker.frame(f"obs-{index}", *[AskStatus()] * QUESTIONS_PER_MEMBER_MAX) for index in range(8)]
    frames = asker.turn(*floods, asker.frame(CLIENT, AskStatus()))
    answered = [len(contents_to(frames, f"obs-{index}")) for index in range(8)]
    assert len(contents_to(frames, CLIENT)) == 1
    assert sum(answered) + 1 == QUERIES_PER_TURN_MAX
    assert max(answered) - min(answered) <= 1
    left_out = 8 * QUESTIONS_PER_MEMBER_MAX + 1 - QUERIES_PER_TURN_MAX
    assert fleet["dev-0"].running.dropped["question-over-share"] == left_out


def test_one_member_does_not_take_all_waiting_places() -> None:
    """Beyond its places it hears `busy` once per question, and another client still waits for its leaf."""
    fleet = Fleet()
    fleet.settle()
    asker = Asker(fleet)
    heard: list[object] = []
    for turn in range(CLIENT_WAITERS_MAX // 16):
        asks: list[Ask] = [
            AskAwait(key=sha256(b"%d" % (16 * turn + number)), origin=MEMBER, sequence=0, expiry=0)
            for number in range(16)
        ]
        heard.extend(contents_to(asker.turn(asker.frame(MEMBER, *asks)), MEMBER))
    assert heard == [AnswerBusy()] * (CLIENT_WAITERS_MAX - CLIENT_WAITERS_PER_MEMBER_MAX)
    mine = AskAwait(key=sha256(b"mine"), origin=CLIENT, sequence=0, expiry=0)
    assert contents_to(asker.turn(asker.frame(CLIENT, mine)), CLIENT) == []


# ------------------------------------------------------------------------------ commands that nobody could read


def refusals(turn: Turn) -> list[DeviceEvent]:
    return [event for event in turn.events if event.kind == events.REFUSED]


@pytest.mark.parametrize(
    ("app", "body"),
    [("notes", bytes(COMMAND_BYTES_MAX + 1)), ("Notes!", b"x"), ("", b"x"), ("n" * 33, b"x"), ("no\n", b"x")],
)
def test_a_command_that_no_peer_could_read_is_refused_and_the_store_opens_again(
    app: str, body: bytes, tmp_path: Path
) -> None:
    """It was signed and stored, dropped by all peers, and the next start failed on it."""
    genesis = make_genesis(4)
    key = keypair("dev-0")
    path = tmp_path / "dev-0.sqlite"
    create_store(path, genesis.id, "dev-0", key.public)

    def start() -> tuple[SqliteStore, Device]:
        store = SqliteStore(path, swarm_id=genesis.id, device="dev-0", key_public=key.public)
        config = DeviceConfig(genesis=genesis, me="dev-0", keypair=key)
        return store, Device(config, store, Router(genesis.apps), verify, 1_000)

    store, device = start()
    turn = device.turn([Submit(app, body, 7), Submit("notes", bytes(COMMAND_BYTES_MAX), 8)], 1_000)
    assert [dict(event.data)["tag"] for event in refusals(turn)] == [7]
    assert all(dict(event.data)["reason"] for event in refusals(turn))
    assert [dict(e.data)["tags"] for e in turn.events if e.kind == events.SUBMITTED] == [(8,)]
    store.close()
    store, device = start()
    assert device.outstanding == 1
    store.close()


@pytest.mark.parametrize(
    "command", [Command("notes", bytes(COMMAND_BYTES_MAX + 1)), Command("Notes", b"x")], ids=["large", "name"]
)
def test_the_guard_signs_no_submission_that_does_not_decode(command: Command) -> None:
    """Whatever asks for it, such a signature never exists: the number is not spent and nothing is queued."""
    guard = Guard(swarm_id=bytes(32), keypair=keypair("dev-0"), voter=0)
    batch = Batch()
    with pytest.raises(InvariantError, match="guard"):
        guard.sign_submission("dev-0", [command], batch)
    assert batch.is_empty()
    assert guard.sequence == 0


# ------------------------------------------------------------------------------ own ballots and deadlines


def with_full_queue() -> Fleet:
    """dev-0 without a quorum: as many submissions outstanding as may be, and as many commands waiting."""
    fleet = Fleet()
    fleet.settle()
    for id in ("dev-1", "dev-2", "dev-3"):
        fleet.crash(id)
    own = fleet["dev-0"].running
    while own.outstanding < OUTSTANDING_MAX:
        fleet.note("dev-0", b"x", 0)
        fleet.turn("dev-0")
    fleet.put("dev-0", *[Submit("notes", b"z", 0)] * COMMANDS_WAITING_MAX)
    fleet.turn("dev-0")
    assert fleet["dev-0"].happened(events.BUSY) == []
    fleet.note("dev-0", b"one too many", 99)
    fleet.turn("dev-0")
    assert [data["tag"] for data in fleet["dev-0"].happened(events.BUSY)] == [99]
    return fleet


def first_signed_when_room(fleet: Fleet) -> list[Command]:
    """Bring the swarm back and return the commands of the first submission that dev-0 signs then."""
    before = len(fleet.published)
    for id in ("dev-1", "dev-2", "dev-3"):
        fleet.start(id)
    sequence = OUTSTANDING_MAX + 1
    for _ in range(600):
        fleet.advance(20, step_ms=20)
        for sender, out in fleet.published[before:]:
            for item in decode_frame(out.payload) if sender == "dev-0" else ():
                if isinstance(item, SubmissionItem):
                    body = decode_submission(item.raw).body
                    if (body.origin, body.sequence) == ("dev-0", sequence):
                        return list(body.commands)
        before = len(fleet.published)
    raise AssertionError("dev-0 signs nothing more")


def test_a_ballot_that_meets_a_full_queue_is_kept_and_goes_first() -> None:
    """Nobody asks for it again, so it has room of its own; and a full queue must not make it late."""
    fleet = with_full_queue()
    fleet.put("dev-0", BallotReady(OPEN_SLOT, 5))
    fleet.turn("dev-0")
    assert first_signed_when_room(fleet)[0] == Command("decisions", cast_command(OPEN_SLOT, 5))


def test_a_deadline_that_meets_a_full_queue_is_kept_and_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """`deadline passed` is said once per start, so it must not get lost on the way."""
    fleet = with_full_queue()
    deadlines = fleet["dev-0"].running._deadlines
    due = [OPEN_SLOT]
    monkeypatch.setattr(deadlines, "take_due", lambda _now_ms: [due.pop()] if due else [])
    fleet.put("dev-0")
    fleet.turn("dev-0")
    monkeypatch.undo()
    assert first_signed_when_room(fleet)[0] == Command("decisions", deadline_command(OPEN_SLOT))


@pytest.mark.parametrize(
    ("deadline_ms", "wakes"), [(60_000, True), (1_000, False)], ids=["ballots", "deadlines"]
)
def test_what_found_no_room_at_all_is_asked_for_again(
    deadline_ms: int, wakes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused ballot is asked for with the next block, a refused deadline is due again a second later."""
    fleet = Fleet()
    for member in fleet.members.values():
        member.ballot = 5
    monkeypatch.setattr("swarm.device.own.PROTOCOL_COMMANDS_WAITING_MAX", 0)
    opening = open_command(subject="temperature", rule="median", scale=2, deadline_ms=deadline_ms)
    fleet.put("dev-1", Submit("decisions", opening, 1))
    fleet.advance(2_500, step_ms=20)
    assert all(member.happened(events.OPENED) for member in fleet.members.values())
    assert not any(member.happened(events.CLOSED) for member in fleet.members.values())
    monkeypatch.undo()
    if wakes:
        fleet.note("dev-2")
    fleet.advance(2_500, step_ms=20)
    assert all(len(member.happened(events.CLOSED)) == 1 for member in fleet.members.values())
