"""What an audit found at the device's own edges: amplified answers, commands nobody can read, ballots lost to a full queue."""

from __future__ import annotations

from swarm.apps.decisions.commands import open_command
from swarm.crypto.signing import sign
from swarm.device import events
from swarm.device.meter import AnswerMeter
from swarm.device.turn import FrameIn, Submit
from swarm.primitives.limits import (
    ANSWER_BYTES_PER_MEMBER_BURST,
    COMMAND_BYTES_MAX,
    COMMANDS_WAITING_MAX,
    QUESTIONS_PER_MEMBER_MAX,
)
from swarm.transport.topics import Scope
from swarm.wire.codec import encode
from swarm.wire.messages import AskBlocks, AskEntries, Envelope, Item, Request, encode_frame
from swarm.wire.statements import Kind, envelope_bytes
from tests.support.fleet import Fleet
from tests.support.swarms import keypair


def ask(fleet: Fleet, n: int, what: AskBlocks | AskEntries, sender: str = "dev-1") -> Item:
    body = encode(Request(5, n, "dev-0", what))
    signature = sign(keypair(sender), envelope_bytes(fleet.genesis.id, Kind.REQUEST, body))
    return Envelope(Kind.REQUEST, sender, body, signature)


def test_one_frame_of_questions_is_not_amplified_without_bound() -> None:
    """R8: answers from the store pass a budget of bytes and a share of questions, and what is over it is counted."""
    fleet = Fleet()
    for index in range(12):
        fleet.put("dev-2", *(Submit("notes", bytes(12_000), 0) for _ in range(4)))
        fleet.advance(200)
        assert fleet.heights()["dev-0"] >= index + 1
    sent = 0
    for number in range(20):
        asked = [ask(fleet, number * 40 + i + 1, AskBlocks(1 + i % 12)) for i in range(40)]
        fleet.put("dev-0", FrameIn("dev-1", Scope.TO, encode_frame(tuple(asked))))
        sent += sum(len(f.payload) for f in fleet.turn("dev-0") if f.to == "dev-1")
    assert sent <= ANSWER_BYTES_PER_MEMBER_BURST + 300_000
    dropped = fleet["dev-0"].running.dropped
    assert dropped["question-over-share"] == 20 * (40 - QUESTIONS_PER_MEMBER_MAX)
    assert dropped["answer-over-budget"] > 0


def test_one_member_s_questions_leave_room_for_another_s() -> None:
    fleet = Fleet()
    fleet.note("dev-0")
    fleet.advance(300)
    flood = [ask(fleet, i + 1, AskEntries(0, 1)) for i in range(100)]
    fleet.put("dev-0", FrameIn("dev-1", Scope.TO, encode_frame(tuple(flood))))
    fleet.put("dev-0", FrameIn("ops", Scope.TO, encode_frame((ask(fleet, 1, AskEntries(0, 1), "ops"),))))
    answered = [f.to for f in fleet.turn("dev-0") if f.scope is Scope.TO]
    assert "ops" in answered


def test_the_meter_refills_with_time_and_keeps_members_apart() -> None:
    meter = AnswerMeter()
    assert meter.spend("a", ANSWER_BYTES_PER_MEMBER_BURST, 0)
    assert not meter.spend("a", 1000, 0)
    assert meter.spend("b", 1000, 0)
    assert meter.spend("a", 1000, 10)


def test_a_command_that_no_peer_could_read_is_refused_and_the_device_lives() -> None:
    fleet = Fleet()
    fleet.put("dev-0", Submit("notes", bytes(COMMAND_BYTES_MAX + 1), 1), Submit("Not A Name", b"x", 2))
    fleet.note("dev-0", b"good", tag=3)
    fleet.advance(300)
    assert [event["tag"] for event in fleet["dev-0"].happened(events.REFUSED)] == [1, 2]
    assert [event["tags"] for event in fleet["dev-0"].happened(events.COMMITTED)] == [(3,)]
    fleet.crash("dev-0")
    fleet.start("dev-0")


def test_a_ballot_always_has_room() -> None:
    """A full queue of commands must not swallow the ballot that a decision waits for."""
    fleet = Fleet()
    for member in fleet.members.values():
        member.ballot = 7
    fleet.put("dev-1", Submit("decisions", open_command(subject="a", rule="median", deadline_ms=60_000), 1))
    fleet.settle()
    fleet.put("dev-0", *(Submit("notes", b"x", 0) for _ in range(COMMANDS_WAITING_MAX + 10)))
    fleet.advance(2000)
    assert fleet["dev-2"].happened(events.CLOSED)


def test_what_was_refused_is_told_at_the_heartbeat() -> None:
    fleet = Fleet()
    fleet.settle()
    fleet["dev-0"].running.turn([FrameIn("dev-1", Scope.ALL, b"garbage")], fleet.now_ms)
    fleet.advance(11_000, step_ms=100)
    told = fleet["dev-0"].happened(events.DROPPED)
    assert any(("malformed", 1) in event["counts"] for event in told)  # type: ignore[operator]
