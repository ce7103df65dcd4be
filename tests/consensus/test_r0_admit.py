"""PROTOCOL R0, one test a sentence: what is stored, what is only answered, what is dropped."""

from __future__ import annotations

import itertools

from swarm.consensus.inputs import Tick
from swarm.primitives.limits import ATTEST_SLOTS, VIEW_WINDOW
from swarm.wire.messages import SubmissionItem
from swarm.wire.statements import Certificate, attest_digest
from tests.support.fake_signatures import make_statement
from tests.support.mini_device import Beat
from tests.support.stage import DELTA_MS, GENESIS, A, F, K, N, P, Stage

FAR = 2**40


def own_digest(stage: Stage) -> bytes:
    result = stage.device.disk.results[-1]
    return attest_digest(result.log_size, result.log_root, result.state_root)


def answers(stage: Stage) -> list[tuple[str | None, int, int]]:
    """Return (to, kind, view) of every certificate that left since the last call, to one member."""
    return [
        (left.to, left.payload.kind, left.payload.number)
        for left in stage.take_left()
        if isinstance(left.payload, Certificate) and left.to is not None
    ]


def test_r0_unknown_sender_and_other_epoch_are_dropped() -> None:
    stage = Stage()
    assert stage.device.up.why_drop_statement(N, 0, 1, 9, b"x" * 32) == "unknown-sender"
    assert stage.device.up.why_drop_statement(N, 1, 1, 1, b"x" * 32) == "wrong-epoch"
    assert stage.device.up.why_drop_statement(N, 0, 1, 1, b"x" * 32) is None


def test_r0_one_slot_per_view_kind_and_sender() -> None:
    stage = Stage()
    first, second = stage.make(1), stage.make(1, submissions=(stage.submission(),))
    for made in (first, second, first):
        stage.hear_votes(N, 1, [2], made.hash)
    assert [s.digest for s in stage.state.views[1].notarizes.values()] == [first.hash]


def test_r0_nothing_is_stored_above_the_window() -> None:
    stage = Stage()
    for view in range(1, 100):
        stage.now_ms += DELTA_MS
        stage.hear_votes(K, view, [2])
    assert max(stage.state.views) == 1 + VIEW_WINDOW
    assert len(stage.state.views) <= 1 + VIEW_WINDOW


def test_r0_nothing_is_allocated_by_an_attackers_number() -> None:
    stage = Stage()
    stage.hear(stage.vote(N, FAR, 2, b"x" * 32), sender=2)
    for height in range(FAR, FAR + 20):
        stage.hear(stage.vote(A, height, 2, b"x" * 32), sender=2)
    assert max(stage.state.views, default=0) <= 1
    assert len(stage.state.attests[2]) == ATTEST_SLOTS


def test_r0_attestations_keep_the_newest_four_of_a_sender() -> None:
    stage = Stage()
    for height in (3, 9, 5, 7, 1, 8):
        stage.hear(stage.vote(A, height, 2, b"x" * 32), sender=2)
    assert sorted(stage.state.attests[2]) == [5, 7, 8, 9]


def test_r0_above_the_window_one_per_sender_and_delta_is_verified() -> None:
    stage = Stage()

    def why(voter: int) -> str | None:
        stage.inputs(Tick())
        return stage.device.up.why_drop_statement(N, 0, 50, voter, b"x" * 32)

    stage.device.up.spend_check(50, 2)
    stage.hear(stage.vote(N, 50, 2, b"x" * 32), sender=2)
    assert (why(2), why(3)) == ("above-window", None)
    stage.pass_ms(DELTA_MS)
    assert why(2) is None


WAIT_MS = 4 * DELTA_MS // 8
"""Longest pause before an answer: n eighths of Δ."""


def test_r0_a_finalized_view_is_answered_with_the_fc() -> None:
    stage = Stage()
    made = stage.commit(1)
    stage.pass_ms(DELTA_MS)
    stage.take_left()
    stage.hear(stage.vote(N, 1, 2, made.hash), sender=2)
    stage.pass_ms(WAIT_MS)
    assert answers(stage) == [("dev-2", F, 1)]


def test_r0_a_cleared_view_is_answered_with_the_clearing_certificate() -> None:
    stage = Stage()
    stage.skip_to(2)
    stage.pass_ms(DELTA_MS)
    stage.take_left()
    stage.hear(stage.vote(N, 1, 3, b"x" * 32), sender=3)
    stage.pass_ms(WAIT_MS)
    assert answers(stage) == [("dev-3", K, 1)]


def test_r0_answers_are_limited_with_doubling_intervals_that_start_anew_with_a_finalization() -> None:
    stage = Stage()
    made = stage.commit(1)

    def answered(duration_ms: int) -> list[int]:
        times = []
        for _ in range(duration_ms // 10):
            stage.pass_ms(10)
            if answers(stage):
                times.append(stage.now_ms)
            stage.hear(stage.vote(N, 1, 2, made.hash), sender=2)
        return times

    times = answered(2_000)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) >= 4
    for doublings, gap in enumerate(gaps):
        assert 0 <= gap - (DELTA_MS << doublings) <= WAIT_MS + 20
    stage.commit(2, made)
    assert answered(2 * DELTA_MS + WAIT_MS), "a new finalization starts the interval anew"


def test_r0_no_answer_to_who_shows_that_it_has_what_is_final() -> None:
    """By an A of what is applied here, also below the checkpoint, or by its heartbeat."""
    for shows in ("attest", "attest below the checkpoint", "heartbeat"):
        stage = Stage()
        made = stage.commit(1)
        digest = own_digest(stage)
        if shows == "attest below the checkpoint":
            stage.hear(stage.vote(A, 1, 3, digest), sender=3)
            assert stage.state.checkpoint_height == 1
        stage.pass_ms(DELTA_MS)
        stage.take_left()
        stage.hear(stage.vote(F, 1, 2, made.hash), sender=2)
        if shows == "heartbeat":
            stage.hear(Beat(1, 1, None), sender=2)
        else:
            stage.hear(stage.vote(A, 1, 2, digest), sender=2)
        stage.pass_ms(1_000)
        assert answers(stage) == [], shows


def test_r0_no_answer_to_who_has_moved_on() -> None:
    stage = Stage()
    stage.skip_to(3)
    stage.pass_ms(DELTA_MS)
    stage.take_left()
    stage.hear(stage.vote(K, 1, 2), stage.vote(K, 3, 2), sender=2)
    stage.pass_ms(1_000)
    assert answers(stage) == []


def test_r0_an_old_word_does_not_spare_the_answer() -> None:
    """The device that missed the last FC repeats its K above and its F: it is answered, round after round."""
    stage = Stage()
    made = stage.commit(1)
    stage.pass_ms(DELTA_MS)
    answered = 0
    for _ in range(3):
        stage.take_left()
        stage.hear(stage.vote(K, 2, 2), stage.vote(F, 1, 2, made.hash), sender=2)
        stage.pass_ms(1_000)
        answered += bool(answers(stage))
    assert answered == 3


def test_r0_a_heartbeat_of_less_does_not_spare_the_answer() -> None:
    stage = Stage()
    made = stage.commit(2, stage.commit(1))
    stage.pass_ms(DELTA_MS)
    stage.take_left()
    stage.hear(stage.vote(F, 2, 2, made.hash), sender=2)
    stage.hear(Beat(1, 1, None), stage.vote(A, 1, 2, b"x" * 32), sender=2)
    stage.pass_ms(WAIT_MS)
    assert answers(stage) == [("dev-2", F, 2)]


def test_r0_a_vote_that_would_change_nothing_is_not_checked() -> None:
    """The last F of every commit comes after the FC: no evidence, no news of its voter, and no answer yet."""
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.hear_votes(N, 1, [1, 2, 3], made.hash)
    stage.hear_votes(F, 1, [1, 2], made.hash)
    assert stage.state.final_view == 1

    def why(voter: int) -> str | None:
        return stage.device.up.why_drop_statement(F, 0, 1, voter, made.hash)

    assert why(3) == "late"
    stage.state.heard[3] = 0
    assert why(3) is None, "the first word of a voter is news"
    stage.state.heard[3] = 1
    stage.pass_ms(DELTA_MS)
    stage.inputs(Tick())
    assert why(3) is None, "now it is answered"
    stage.hear(stage.vote(F, 1, 3, made.hash), sender=3)
    stage.pass_ms(WAIT_MS)
    assert why(3) == "late", "it was answered a moment ago"


def test_r0_one_late_vote_is_not_answered_by_everybody() -> None:
    """n devices that answer each of up to n late votes would be n squared messages a commit."""
    n = 40
    answered = 0
    for me in range(1, n):
        stage = Stage(n=n, me=me)
        made = stage.make(1, GENESIS, (stage.submission(),))
        stage.give(made)
        stage.finalize(made)
        stage.pass_ms(DELTA_MS)
        stage.take_left()
        stage.hear(stage.vote(F, 1, 0, made.hash), sender=0)
        # An eighth of Δ for the first answer, and two thirds of Δ until its effect is heard.
        stage.pass_ms(DELTA_MS)
        answered += bool(answers(stage))
    assert 1 <= answered <= n // 3


def test_r0_certificates_are_accepted_at_any_view() -> None:
    stage = Stage()
    stage.hear(stage.certificate(F, 1_000, b"x" * 32))
    assert stage.state.cur == 1_001
    stage.hear(stage.certificate(K, 1_500))
    stage.skip_to(1_500)
    assert stage.state.cur == 1_501


def test_r0_certificates_inside_a_dropped_proposal_are_accepted() -> None:
    stage = Stage()
    skips = tuple(stage.certificate(K, view) for view in range(1, 30))
    stage.give(stage.make(30), skips=skips)
    assert stage.state.cur == 30
    late = Stage()
    made = late.make(1)
    late.skip_to(3)
    late.hear(late.proposal(made, skips=(late.certificate(K, 3),)))
    assert late.state.cur == 4, "the proposal of view 1 is too late, its SC is not"


def test_r0_a_second_proposal_is_evidence() -> None:
    stage = Stage()
    first, second = stage.make(1), stage.make(1, submissions=(stage.submission(),))
    stage.give(first)
    stage.give(second)
    pairs = [{a.digest, b.digest} for a, b in stage.device.evidence]
    assert pairs == [{first.hash, second.hash}]


def test_r0_a_second_proposal_is_used_only_if_its_hash_is_certified() -> None:
    stage = Stage()
    first, second = stage.make(1), stage.make(1, submissions=(stage.submission(),))
    stage.give(first)
    stage.give(second)
    assert second.hash not in stage.state.headers
    certified = Stage()
    certified.give(first)
    certified.notarize(second)
    certified.give(second)
    assert certified.signed(F) == [second.hash]


def test_r0_a_bad_signature_changes_nothing() -> None:
    stage = Stage()
    stage.hear(make_statement(N, 1, b"x" * 32, 2, "dev-3"), sender=3)
    forged = Certificate(
        kind=int(K), epoch=0, number=1, digest=bytes(32), signatures=tuple((v, bytes(64)) for v in (1, 2, 3))
    )
    stage.hear(forged)
    assert (stage.state.cur, stage.state.views.get(1)) == (1, None)
    assert stage.device.dropped == {"bad-signature": 2}


def test_r0_only_the_leader_of_a_view_may_propose_in_it() -> None:
    stage = Stage()
    made = stage.make(1)
    header = made.header.__class__(
        **{name: getattr(made.header, name) for name in made.header.__struct_fields__ if name != "proposer"},
        proposer=2,
    )
    impostor = made.__class__(header, ())
    stage.hear(stage.proposal(impostor), sender=2)
    assert stage.signed(N) == []


def test_r0_a_pending_submission_is_kept_once() -> None:
    stage = Stage()
    submission = stage.work()
    stage.hear(SubmissionItem(raw=submission.raw))
    assert list(stage.state.pool.pending) == [submission.id]
    assert not stage.device.up.wants_submission(submission.id)


def test_r0_evidence_pairs_are_those_of_the_table() -> None:
    stage = Stage()
    one, two = stage.make(1), stage.make(1, submissions=(stage.submission(),))
    for kind, digest in ((N, one.hash), (F, two.hash), (K, bytes(32))):
        stage.hear(stage.vote(kind, 1, 2, digest), sender=2)
    stage.hear(stage.vote(N, 1, 3, one.hash), stage.vote(K, 1, 3), sender=3)
    convicted = [(a.voter, {a.kind, b.kind}) for a, b in stage.device.evidence]
    assert convicted == [(2, {int(F), int(K)})], "N(a) with F(b), and N with K, convict nobody"
    assert GENESIS.view == 0
    assert P != N
