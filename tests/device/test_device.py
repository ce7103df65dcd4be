"""One turn: admit, absorb, sign, apply, one transaction, and only then anything leaves (ARCHITECTURE, PROTOCOL R10)."""

from __future__ import annotations

import pytest

from swarm.apps.decisions.commands import cast_command, open_command
from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import verify_proof
from swarm.device import events
from swarm.device.proofs import proof_of_key
from swarm.device.turn import Submit, TellOutcome
from swarm.primitives.errors import InvariantError, StoreError
from swarm.primitives.limits import COMMANDS_WAITING_MAX, HEARTBEAT_MS, SILENT_BEATS, SUBMISSION_COMMANDS_MAX
from swarm.transport.topics import Scope
from swarm.wire.messages import Envelope, Proposal, SubmissionItem, decode_frame, decode_heartbeat
from swarm.wire.statements import Certificate, Kind, SignedStatement
from tests.support.fleet import Fleet


def opening(**changes: object) -> Submit:
    options: dict[str, object] = {"subject": "temperature", "rule": "median", "scale": 2, "deadline_ms": 1000}
    return Submit("decisions", open_command(**{**options, **changes}), 1)  # type: ignore[arg-type]


def closed(fleet: Fleet, id: str) -> list[Outcome]:
    return [o for e in fleet[id].happened(events.CLOSED) if isinstance(o := e["outcome"], Outcome)]


def test_a_command_becomes_final_on_every_device_with_one_log() -> None:
    fleet = Fleet()
    fleet.note("dev-2", tag=7)
    fleet.advance(200)

    assert set(fleet.heights().values()) == {1}
    assert len(fleet.roots()) == 1
    committed = fleet["dev-2"].happened(events.COMMITTED)
    assert [(e["height"], e["position"], e["tags"]) for e in committed] == [(1, 0, (7,))]


def test_nothing_leaves_when_the_transaction_fails() -> None:
    """A failed commit discards the turn: no frame, no action, and the device is dead."""
    fleet = Fleet()
    fleet.settle()
    fleet["dev-0"].store.fail_next("disk full")
    fleet.note("dev-0")
    before = len(fleet.published)

    with pytest.raises(StoreError, match="disk full"):
        fleet.turn("dev-0")

    assert len(fleet.published) == before
    with pytest.raises(InvariantError, match="failed"):
        fleet["dev-0"].running.turn([], fleet.now_ms)


def test_the_others_go_on_when_one_disk_fails() -> None:
    fleet = Fleet()
    fleet.settle()
    fleet["dev-3"].store.fail_next("disk full")
    fleet.note("dev-0")
    try:
        fleet.advance(400)
    except StoreError:
        fleet.crash("dev-3")
    fleet.advance(400)
    assert {h for id, h in fleet.heights().items() if id != "dev-3"} == {1}


def test_every_vote_that_was_published_is_in_the_store() -> None:
    """Durable before published: whatever stands in a frame, a restart knows it."""
    fleet = Fleet()
    fleet.passes = lambda _s, _r, item: not (isinstance(item, SignedStatement) and item.kind == Kind.FINALIZE)
    fleet.note("dev-0")
    fleet.advance(40)
    for id in fleet.members:
        records = {(r.kind, r.number, r.digest) for r in fleet[id].store.load().records}
        for sender, frame in fleet.published:
            if sender != id:
                continue
            for item in decode_frame(frame.payload):
                if isinstance(item, SignedStatement) and item.kind != Kind.ATTEST:
                    assert (item.kind, item.number, item.digest) in records


def test_an_idle_swarm_says_nothing_but_heartbeats() -> None:
    fleet = Fleet()
    fleet.note("dev-1")
    fleet.advance(500)
    before = len(fleet.published)

    fleet.advance(3 * HEARTBEAT_MS, step_ms=50)

    later = fleet.published[before:]
    assert {frame.scope for _, frame in later} == {Scope.BEAT}
    assert 3 * 4 <= len(later) <= 4 * 4


def test_one_turn_makes_one_frame_per_topic() -> None:
    fleet = Fleet()
    fleet.settle()
    fleet.put("dev-1", Submit("notes", b"a"), Submit("notes", b"b"))
    frames = fleet.turn("dev-1")
    assert [frame.scope for frame in frames] == [Scope.ALL]
    items = decode_frame(frames[0].payload)
    assert any(isinstance(item, SubmissionItem) for item in items), "its own submission"
    assert any(isinstance(item, Proposal) for item in items), "dev-1 leads view 1"
    assert any(isinstance(item, SignedStatement) and item.kind == Kind.NOTARIZE for item in items)


def test_waiting_commands_are_bundled() -> None:
    fleet = Fleet()
    fleet.put("dev-0", *(Submit("notes", b"x", tag) for tag in range(1, SUBMISSION_COMMANDS_MAX + 2)))
    fleet.advance(300)
    submitted = fleet["dev-0"].happened(events.SUBMITTED)
    assert [e["commands"] for e in submitted] == [SUBMISSION_COMMANDS_MAX, 1]
    tags = [t for e in fleet["dev-0"].happened(events.COMMITTED) for t in e["tags"]]  # type: ignore[attr-defined]
    assert tags == list(range(1, SUBMISSION_COMMANDS_MAX + 2))


def test_busy_is_said_beyond_the_queue() -> None:
    fleet = Fleet()
    fleet.settle()
    too_many = COMMANDS_WAITING_MAX + 3
    fleet.put("dev-0", *(Submit("notes", b"x", tag + 1) for tag in range(too_many)))
    fleet.turn("dev-0")
    assert [e["tag"] for e in fleet["dev-0"].happened(events.BUSY)] == [too_many - 2, too_many - 1, too_many]


def test_a_decision_closes_when_everybody_has_balloted() -> None:
    fleet = Fleet()
    for id, ballot in zip(fleet.members, (2100, 2150, 2080, 4000), strict=True):
        fleet[id].ballot = ballot
    fleet.put("dev-0", opening())
    fleet.advance(300)
    outcomes = {id: closed(fleet, id) for id in fleet.members}
    assert {o[0].value for o in outcomes.values()} == {2100}
    assert {o[0].margin for o in outcomes.values()} == {1}
    assert len(fleet.roots()) == 1


def test_a_decision_closes_by_deadline_without_a_clock_in_common() -> None:
    """r+1 voters say "passed" by their own timers; the silent ballots are missing, the outcome is there."""
    fleet = Fleet()
    fleet["dev-0"].ballot = fleet["dev-1"].ballot = 2000
    fleet.crash("dev-2")
    fleet.put("dev-0", opening(eligible=("dev-0", "dev-1", "dev-2"), deadline_ms=700))
    fleet.advance(500)
    assert closed(fleet, "dev-0") == []
    fleet.advance(1500)
    assert [o.value for o in closed(fleet, "dev-0")] == [2000]
    assert [len(o.ballots) for o in closed(fleet, "dev-3")] == [2]


def test_a_behaviour_without_a_word_abstains_at_once() -> None:
    fleet = Fleet()
    fleet["dev-0"].ballot = 5
    fleet.put("dev-0", opening(deadline_ms=60_000))
    fleet.advance(300)
    outcome = closed(fleet, "dev-1")[0]
    assert [ballot for _, ballot in sorted(outcome.ballots)] == [5, None, None, None]
    assert outcome.kind == "undecided"


def test_an_outcome_has_a_proof_that_verifies_with_genesis_alone() -> None:
    fleet = Fleet()
    for id in fleet.members:
        fleet[id].ballot = 1
    fleet.put("dev-0", opening())
    fleet.advance(400)
    outcome = closed(fleet, "dev-3")[0]
    proof = proof_of_key(fleet["dev-3"].store, fleet.genesis, outcome.decision)
    assert proof is not None
    assert verify_proof(proof, fleet.genesis) == outcome


def test_a_rejected_command_is_an_event_with_its_reason() -> None:
    fleet = Fleet()
    fleet.put("dev-0", Submit("decisions", cast_command(b"n" * 32, 1), 1), Submit("nothing", b"", 2))
    fleet.advance(300)
    reasons = fleet["dev-1"].happened(events.REJECTED)
    assert [(e["app"], e["own"]) for e in reasons] == [("decisions", False), ("nothing", False)]
    assert [e["own"] for e in fleet["dev-0"].happened(events.REJECTED)] == [True, True]


def test_outcomes_are_told_again_after_a_crash() -> None:
    """The crash may have come between the transaction and the action, so the action must come again."""
    fleet = Fleet()
    for id in fleet.members:
        fleet[id].ballot = 1
    fleet.put("dev-0", opening())
    fleet.advance(300)
    fleet.crash("dev-0")
    fleet.start("dev-0")
    turn = fleet["dev-0"].running.turn([], fleet.now_ms)
    told = [a.outcome for a in turn.actions if isinstance(a, TellOutcome)]
    assert told == closed(fleet, "dev-1")


def test_heartbeat_carries_the_last_attestation() -> None:
    fleet = Fleet()
    fleet.put("dev-0", opening())
    fleet.advance(300)
    fleet.advance(HEARTBEAT_MS + 500, step_ms=50)
    beats = [f for s, f in fleet.published if s == "dev-0" and f.scope is Scope.BEAT]
    (envelope,) = decode_frame(beats[-1].payload)
    assert isinstance(envelope, Envelope)
    beat = decode_heartbeat(envelope.body)
    assert beat.attest is not None
    assert (beat.attest.kind, beat.attest.number) == (Kind.ATTEST, fleet.heights()["dev-0"])
    assert beat.height == fleet.heights()["dev-0"]


def test_a_silence_is_told_once_and_the_next_word_is_news() -> None:
    fleet = Fleet()
    fleet.advance(2 * HEARTBEAT_MS, step_ms=50)
    fleet.crash("dev-3")
    fleet.crash("dev-2")
    assert [e["device"] for e in fleet["dev-0"].happened(events.HEARD)] == ["dev-1", "dev-2", "dev-3"]
    fleet.advance((SILENT_BEATS - 1) * HEARTBEAT_MS, step_ms=50)
    assert fleet["dev-0"].happened(events.SILENT) == [], "one or two heartbeats are lost easily"
    fleet.advance(3 * HEARTBEAT_MS, step_ms=50)
    silent = [who for e in fleet["dev-0"].happened(events.SILENT) for who in e["devices"]]  # type: ignore[attr-defined]
    assert sorted(silent) == ["dev-2", "dev-3"]
    fleet.start("dev-3")
    fleet.advance(HEARTBEAT_MS, step_ms=50)
    assert [e["device"] for e in fleet["dev-0"].happened(events.HEARD)][3:] == ["dev-3"]


def test_an_observer_follows_and_never_votes() -> None:
    from tests.support.swarms import make_genesis

    fleet = Fleet(genesis=make_genesis(4, observers=1))
    fleet.note("obs-0")
    fleet.advance(300)
    assert set(fleet.heights().values()) == {1}
    votes = [
        item
        for sender, frame in fleet.published
        if sender == "obs-0"
        for item in decode_frame(frame.payload)
        if isinstance(item, SignedStatement | Proposal)
    ]
    assert votes == []


def test_a_private_certificate_is_spread() -> None:
    """R8: a VC or SC that came to this device alone is published for the others (docs/PROTOCOL.md 5.4)."""
    fleet = Fleet()

    def no_skips_for_most(_sender: str, receiver: str, item: object) -> bool:
        # Only dev-1 may learn that view 1 was skipped, and no certificate travels by itself.
        if isinstance(item, SignedStatement) and item.kind == Kind.SKIP:
            return receiver == "dev-1"
        return not isinstance(item, Certificate)

    fleet.passes = no_skips_for_most
    fleet.crash("dev-1")
    fleet.note("dev-0")
    fleet.advance(120)
    skips = [
        item
        for _, frame in fleet.published
        for item in decode_frame(frame.payload)
        if isinstance(item, SignedStatement) and item.kind == Kind.SKIP
    ]
    signers = {s.voter: s for s in skips if s.number == skips[0].number}
    assert len(signers) == 3
    certificate = Certificate(
        Kind.SKIP,
        0,
        skips[0].number,
        skips[0].digest,
        tuple((v, s.signature) for v, s in sorted(signers.items())),
    )
    fleet.start("dev-1")
    fleet.settle()
    before = len(fleet.published)
    from swarm.device.turn import FrameIn
    from swarm.wire.messages import encode_frame

    fleet.passes = lambda _s, _r, item: (
        not isinstance(item, Certificate) and not isinstance(item, SignedStatement)
    )
    fleet.put("dev-1", FrameIn("dev-3", Scope.TO, encode_frame((certificate,))))
    fleet.advance(60)
    spread = [
        item
        for sender, frame in fleet.published[before:]
        if sender == "dev-1" and frame.scope is Scope.ALL
        for item in decode_frame(frame.payload)
        if isinstance(item, Certificate)
    ]
    assert certificate in spread
