"""A light client against real devices in virtual time: what it proves, when it gives up on a member, and what it keeps."""

from __future__ import annotations

import pytest

from swarm.agent.client.flights import CENSUS_MS, RESEND_MS
from swarm.agent.client.results import (
    DecidedOutcome,
    DecisionRejectedError,
    ExpiredError,
    ProvedEntry,
    Receipt,
    SubmissionRejectedError,
    SupersededError,
    SwarmStatus,
    VerifiedEntries,
)
from swarm.agent.client.turn import (
    Forget,
    WantDecision,
    WantEntries,
    WantOutcome,
    WantProof,
    WantStatus,
    WantSubmit,
)
from swarm.apps.decisions.commands import open_command
from swarm.apps.decisions.rules import DecisionView, Outcome
from swarm.apps.verify import Entry, verify_proof
from swarm.primitives.errors import StoreError
from swarm.primitives.limits import CLIENT_EXPIRY_HEIGHTS, SEQUENCE_WINDOW
from swarm.storage.memory import PowerCut
from swarm.transport.topics import Scope
from swarm.wire.messages import (
    AskWindow,
    Command,
    Submission,
    SubmissionItem,
    decode_frame,
    decode_submission,
)
from tests.support.light_swarm import LightSwarm
from tests.support.swarms import make_genesis


def note(swarm: LightSwarm, text: bytes = b"hello") -> WantSubmit:
    return WantSubmit(swarm.ticket(), Command(app="notes", body=text))


def temperature(rule: str = "median", **more: object) -> bytes:
    return open_command(subject="temperature", rule=rule, scale=2, deadline_ms=5_000, **more)  # type: ignore[arg-type]


def thermometer(device: str, _view: DecisionView) -> int:
    return 2_100 + int(device[-1])


def sent(swarm: LightSwarm) -> list[Submission]:
    """Return every submission the client published, repetitions included."""
    return [
        decode_submission(item.raw)
        for payload in swarm.published
        for item in decode_frame(payload)
        if isinstance(item, SubmissionItem)
    ]


# ------------------------------------------------------------------------------ submissions


def test_a_note_becomes_a_receipt_whose_proof_convinces_offline() -> None:
    swarm = LightSwarm()
    receipt = swarm.until(note(swarm))

    assert isinstance(receipt, Receipt)
    assert receipt.entry.origin == "ops"
    assert receipt.entry.commands == (("notes", b"hello"),)
    assert verify_proof(receipt.proof, swarm.genesis) == receipt.entry
    assert swarm.stores["dev-0"].find(receipt.entry.submission) == receipt.position
    assert swarm.client.outstanding == 0
    assert swarm.client.dropped == {}


@pytest.mark.parametrize(
    ("voters", "budget"), [(1, "balanced"), (3, "balanced"), (4, "crash"), (7, "balanced")]
)
def test_any_size_and_budget(voters: int, budget: str) -> None:
    swarm = LightSwarm(make_genesis(voters, budget=budget))
    assert isinstance(swarm.until(note(swarm)), Receipt)


def test_many_at_once_all_arrive_in_the_order_of_their_numbers() -> None:
    swarm = LightSwarm()
    wants = [note(swarm, b"%d" % number) for number in range(50)]
    swarm.want(*wants)
    receipts = [swarm.until_finished(want.ticket) for want in wants]

    positions = [receipt.position for receipt in receipts if isinstance(receipt, Receipt)]
    assert len(positions) == 50
    assert positions == sorted(positions)


def test_a_refused_command_is_an_error_with_the_applications_reason() -> None:
    swarm = LightSwarm()
    error = swarm.until(note(swarm, b""))

    assert isinstance(error, SubmissionRejectedError)
    assert error.reason == "a note has at least one byte"
    assert swarm.stores["dev-0"].find(error.submission) is not None, "the submission itself is in the log"


def test_a_submission_carries_an_expiry_above_the_height_heard() -> None:
    swarm = LightSwarm()
    for _ in range(3):
        swarm.until(note(swarm))
    height = swarm.devices["dev-0"].ledger.height
    swarm.until(note(swarm))

    assert CLIENT_EXPIRY_HEIGHTS <= sent(swarm)[-1].body.expiry <= height + CLIENT_EXPIRY_HEIGHTS


def test_a_submission_is_published_again_until_it_is_proved() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.down |= {"dev-0", "dev-1"}
    want = note(swarm, b"patience")
    swarm.want(want)
    swarm.run(RESEND_MS * 8)
    before = len({submission.id for submission in sent(swarm)})
    repeated = len(sent(swarm))
    assert before == 2
    assert repeated >= 4
    assert want.ticket not in swarm.finished

    for id in ("dev-0", "dev-1"):
        swarm.start(id)
    assert isinstance(swarm.until_finished(want.ticket), Receipt)
    told = len(sent(swarm))
    swarm.run(120_000)
    assert len(sent(swarm)) == told, "once proved it is never sent again"


def test_nothing_is_signed_before_r_plus_1_voters_told_the_height() -> None:
    swarm = LightSwarm()
    swarm.down |= {"dev-1", "dev-2", "dev-3"}
    swarm.want(note(swarm))
    swarm.run(CENSUS_MS * 3)
    assert sent(swarm) == []

    swarm.start("dev-1")
    swarm.run(CENSUS_MS * 2)
    assert len({submission.id for submission in sent(swarm)}) == 1


def test_what_is_missing_is_said_by_name() -> None:
    swarm = LightSwarm()
    swarm.down |= {"dev-1", "dev-3"}
    swarm.want(note(swarm))
    swarm.run(4_000)
    assert (
        swarm.client.missing(swarm.now_ms)
        == "2 of 4 voters answer, a quorum is 3; no answer from dev-1, dev-3"
    )
    assert not swarm.client.has_quorum(swarm.now_ms)
    swarm.start("dev-1")
    swarm.run(8_000)
    assert swarm.client.has_quorum(swarm.now_ms)


def test_a_forgotten_submission_that_was_not_signed_never_is() -> None:
    swarm = LightSwarm()
    swarm.down |= set(swarm.genesis.voter_ids)
    want = note(swarm)
    swarm.want(want)
    swarm.run(1_000)
    swarm.want(Forget(want.ticket))
    for id in swarm.genesis.voter_ids:
        swarm.start(id)
    swarm.run(20_000)
    assert sent(swarm) == []


# ------------------------------------------------------------------------------ fail-over


@pytest.mark.parametrize("silent", ["dev-0", "dev-1", "dev-2", "dev-3"])
def test_one_member_that_never_hears_the_client_costs_a_moment_only(silent: str) -> None:
    swarm = LightSwarm(deaf_to_client={silent})
    for _ in range(4):
        began = swarm.now_ms
        assert isinstance(swarm.until(note(swarm)), Receipt)
        assert swarm.now_ms - began < 3_000


def test_a_quiet_client_asks_nothing() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    asked = len(swarm.asked)
    swarm.run(120_000)
    assert len(swarm.asked) == asked


def test_questions_about_one_thing_back_off() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.want(WantOutcome(swarm.ticket(), bytes(32)))
    asked = len(swarm.asked)
    swarm.run(60_000)
    awaits = [r for _, r in swarm.asked[asked:] if not isinstance(r.ask, AskWindow)]
    assert 4 <= len(awaits) <= 12


# ------------------------------------------------------------------------------ decisions


def test_a_decision_ends_with_the_outcome_and_its_proof() -> None:
    swarm = LightSwarm(ballot_of=thermometer)
    want = WantDecision(swarm.ticket(), temperature())
    decided = swarm.until(want)

    assert isinstance(decided, DecidedOutcome)
    assert decided.value == 2_101
    assert decided.outcome.margin == 1
    assert decided.outcome.opened_by == "ops"
    assert decided.ballot_counted is None
    assert verify_proof(decided.proof, swarm.genesis) == decided.outcome
    assert [step for ticket, step in swarm.progress if ticket == want.ticket] == ["signed", "logged"]


def test_a_refused_opening_is_an_error_with_the_reason() -> None:
    swarm = LightSwarm()
    error = swarm.until(WantDecision(swarm.ticket(), temperature("guess")))
    assert isinstance(error, DecisionRejectedError)
    assert error.reason == "unknown rule guess"
    assert "decision" in str(error)


def test_an_eligible_operator_casts_its_own_ballot() -> None:
    swarm = LightSwarm(ballot_of=thermometer)
    opening = temperature(eligible=("dev-0", "ops"))
    decided = swarm.until(WantDecision(swarm.ticket(), opening, ballot=1_900))

    assert isinstance(decided, DecidedOutcome)
    assert dict(decided.outcome.ballots) == {"dev-0": 2_100, "ops": 1_900}
    assert decided.ballot_counted is True


def test_a_ballot_that_comes_too_late_is_told() -> None:
    swarm = LightSwarm(ballot_of=thermometer)
    opening = open_command(
        subject="temperature", rule="median", scale=2, deadline_ms=1, eligible=("dev-0", "ops")
    )
    decided = swarm.until(WantDecision(swarm.ticket(), opening, ballot=1_900))
    assert isinstance(decided, DecidedOutcome)
    assert decided.ballot_counted is False
    assert "ops" not in dict(decided.outcome.ballots)


def test_anybody_can_wait_for_a_decision_by_its_id() -> None:
    swarm = LightSwarm(ballot_of=thermometer)
    decided = swarm.until(WantDecision(swarm.ticket(), temperature()))
    assert isinstance(decided, DecidedOutcome)
    again = swarm.until(WantOutcome(swarm.ticket(), decided.outcome.decision))
    assert isinstance(again, DecidedOutcome)
    assert again.outcome == decided.outcome


# ------------------------------------------------------------------------------ reading


def test_the_whole_log_is_read_in_any_slices_and_each_entry_proved() -> None:
    swarm = LightSwarm(ballot_of=thermometer)
    for number in range(5):
        swarm.until(note(swarm, b"%d" % number))
    swarm.until(WantDecision(swarm.ticket(), temperature()))
    whole = swarm.until(WantEntries(swarm.ticket(), 0, 1_000))
    assert isinstance(whole, VerifiedEntries)
    assert whole.end == whole.log_size == swarm.devices["dev-0"].ledger.frontier.size > 12
    assert [type(e) for e in whole.entries].count(Outcome) == 1

    for start in range(whole.log_size + 1):
        for count in (0, 1, 3):
            part = swarm.until(WantEntries(swarm.ticket(), start, count))
            assert isinstance(part, VerifiedEntries)
            assert part.entries == whole.entries[start : start + count]
    for position, entry in enumerate(whole.entries):
        proved = swarm.until(WantProof(swarm.ticket(), position))
        assert isinstance(proved, ProvedEntry)
        assert proved.entry == entry
        assert verify_proof(proved.proof, swarm.genesis) == entry
    assert swarm.client.dropped == {}


def test_a_proof_of_an_entry_that_does_not_exist_yet_waits_for_it() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    want = WantProof(swarm.ticket(), 2)
    swarm.want(want)
    swarm.run(3_000)
    assert want.ticket not in swarm.finished
    swarm.submit_from("dev-2", b"the next")
    proved = swarm.until_finished(want.ticket)
    assert isinstance(proved, ProvedEntry)
    assert isinstance(proved.entry, Entry)
    assert proved.entry.origin == "dev-2"
    assert "not-believed" not in swarm.client.dropped, "nobody is blamed for a log that is short"


def test_status_is_each_voters_own_claim() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.down.add("dev-2")
    began = swarm.now_ms
    status = swarm.until(WantStatus(swarm.ticket(), 2_000))

    assert isinstance(status, SwarmStatus)
    assert swarm.now_ms - began == 2_000
    assert [m.device for m in status.members] == ["dev-0", "dev-1", "dev-2", "dev-3"]
    assert status.voters_up == 3
    assert status.has_quorum
    assert status.members[2].in_words() == "dev-2: no answer"
    assert status.members[0].in_words().startswith("dev-0 claims: view")


# ------------------------------------------------------------------------------ what the operator's file keeps


def test_what_was_signed_and_not_proved_is_sent_again_after_a_restart() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.deaf_to_client |= set(swarm.genesis.voter_ids)
    swarm.want(note(swarm, b"before the crash"))
    swarm.run(500)
    signed = sent(swarm)[-1]
    swarm.restart_client()
    assert swarm.client.outstanding == 1

    swarm.deaf_to_client.clear()
    swarm.run(5_000)
    assert swarm.client.outstanding == 0
    assert swarm.stores["dev-0"].find(signed.id) is not None
    swarm.restart_client()
    assert swarm.client.outstanding == 0, "its proof is remembered"
    receipt = swarm.until(note(swarm, b"after"))
    assert isinstance(receipt, Receipt)
    assert sent(swarm)[-1].body.sequence == signed.body.sequence + 1


@pytest.mark.parametrize("after", ["nothing", "transaction", "all"])
def test_a_power_cut_in_the_commit_never_lets_two_contents_have_one_number(after: str) -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.store.power_cut(after=after)  # type: ignore[arg-type]
    with pytest.raises(PowerCut):
        swarm.until(note(swarm, b"cut"))
    assert all(b"cut" not in s.raw for s in sent(swarm)), "nothing left before it was durable"
    swarm.restart_client()
    assert isinstance(swarm.until(note(swarm, b"next")), Receipt)
    swarm.run(10_000)
    numbers = {submission.id: submission.body.sequence for submission in sent(swarm)}
    assert len(set(numbers.values())) == len(numbers)


def test_a_full_disk_stops_the_client_before_anything_leaves() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.store.fail_next("no space left")
    before = len(sent(swarm))
    with pytest.raises(StoreError):
        swarm.until(note(swarm, b"never"))
    assert len(sent(swarm)) == before


def test_a_lost_file_goes_on_with_a_number_that_was_surely_never_used() -> None:
    swarm = LightSwarm()
    for _ in range(3):
        swarm.until(note(swarm))
    used = max(submission.body.sequence for submission in sent(swarm))
    swarm.lose_operator_file()
    assert isinstance(swarm.until(note(swarm, b"again")), Receipt)
    assert sent(swarm)[-1].body.sequence == used + SEQUENCE_WINDOW
    assert isinstance(swarm.until(note(swarm, b"and again")), Receipt)


def test_after_a_lost_file_many_at_once_wait_for_the_window() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.lose_operator_file()
    wants = [note(swarm, b"%d" % number) for number in range(20)]
    swarm.want(*wants)
    assert all(isinstance(swarm.until_finished(want.ticket), Receipt) for want in wants)


def test_an_old_copy_of_the_file_is_noticed_before_anything_is_signed() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    old = swarm.store.medium.copied()
    for _ in range(2):
        swarm.until(note(swarm))
    used = max(submission.body.sequence for submission in sent(swarm))
    swarm.store.medium = old
    swarm.restart_client()
    assert isinstance(swarm.until(note(swarm, b"again")), Receipt)
    assert sent(swarm)[-1].body.sequence == used + SEQUENCE_WINDOW


def test_a_second_user_of_the_key_is_named_and_the_next_submission_counts() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    twin = LightSwarm(swarm.genesis)
    twin.until(note(twin))
    # The twin's next submission, signed with the same number as ours will be, reaches the swarm first.
    twin.deaf_to_client |= set(twin.genesis.voter_ids)
    twin.want(note(twin, b"from elsewhere"))
    foreign = sent(twin)[-1]
    swarm.deaf_to_client |= set(swarm.genesis.voter_ids)
    want = note(swarm, b"mine")
    swarm.want(want)
    assert sent(swarm)[-1].body.sequence == foreign.body.sequence
    swarm.publish_as_client(foreign)
    swarm.run(1_000)
    swarm.deaf_to_client.clear()

    error = swarm.until_finished(want.ticket)
    assert isinstance(error, SupersededError)
    assert error.other == foreign.id
    assert swarm.stores["dev-0"].find(foreign.id) == error.position
    assert isinstance(swarm.until(note(swarm, b"once more")), Receipt)


def test_a_submission_that_nobody_heard_in_time_is_proved_to_have_expired() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.drop_submissions = True
    want = note(swarm, b"lost")
    swarm.want(want)
    swarm.run(100)
    expiry = sent(swarm)[-1].body.expiry
    assert want.ticket not in swarm.finished
    swarm.pretend_height(expiry + 1)
    error = swarm.until_finished(want.ticket)

    assert isinstance(error, ExpiredError)
    assert error.expiry == expiry
    assert swarm.client.outstanding == 0


def test_frames_of_other_scopes_and_of_strangers_are_not_even_decoded() -> None:
    swarm = LightSwarm()
    swarm.until(note(swarm))
    swarm.hear("dev-0", Scope.ALL, b"garbage")
    assert swarm.client.dropped == {}
    swarm.hear("dev-0", Scope.TO, b"garbage")
    assert sum(swarm.client.dropped.values()) == 1
