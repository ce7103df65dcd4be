"""PROTOCOL R5, one test a sentence: F needs the VC, the bytes, and neither K nor F before."""

from __future__ import annotations

from swarm.wire.messages import SubmissionItem
from tests.support.stage import GENESIS, T_VOTE_MS, F, K, N, Stage


def test_r5_f_on_a_notarized_block() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    assert stage.signed(F) == []
    stage.notarize(made)
    assert stage.signed(F) == [made.hash]


def test_r5_the_vc_must_be_held() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.hear_votes(N, 1, [2], made.hash)
    stage.hear_votes(F, 1, [1, 2], made.hash)
    assert stage.signed(F) == [], "two N and two F of others are no VC"


def test_r5_in_any_view_above_the_finalized_one() -> None:
    """Not bound to cur: view 1 was cleared by its SC, then its VC comes."""
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.skip_to(4)
    assert stage.signed(F) == []
    stage.notarize(made)
    assert stage.signed_views(F) == [1]


def test_r5_not_after_the_own_k() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.work()
    stage.pass_ms(T_VOTE_MS)
    assert stage.signed_views(K) == [1]
    stage.give(made)
    stage.notarize(made)
    assert stage.signed(F) == []


def test_r5_not_after_the_own_k_of_an_earlier_life() -> None:
    stage = Stage()
    stage.work()
    stage.pass_ms(T_VOTE_MS)
    stage.restart()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    assert stage.signed(F) == []


def test_r5_once_a_view_also_after_a_restart() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    stage.restart()
    stage.notarize(made)
    stage.pass_ms(10_000)
    assert stage.signed_views(F) == [1]


def test_r5_not_at_or_below_the_finalized_view() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.finalize(made)
    stage.notarize(made)
    assert stage.signed(F) == []


def test_r5_the_body_must_be_in_hand_and_is_asked_again_when_it_arrives() -> None:
    stage = Stage()
    submission = stage.submission()
    made = stage.make(1, GENESIS, (submission,))
    stage.hear(stage.proposal(made))
    stage.notarize(made)
    assert stage.signed(F) == []
    stage.hear(SubmissionItem(raw=submission.raw))
    assert stage.signed(F) == [made.hash]


def test_r5_all_unfinalized_ancestors_must_be_in_hand() -> None:
    stage = Stage()
    submission = stage.submission()
    parent = stage.make(1, GENESIS, (submission,))
    stage.hear(stage.proposal(parent))
    stage.notarize(parent)
    child = stage.make(2, parent, (stage.submission(),))
    stage.give(child)
    stage.notarize(child)
    assert stage.signed(F) == []
    stage.hear(SubmissionItem(raw=submission.raw))
    assert stage.signed_views(F) == [1, 2]


def test_r5_the_vc_is_stored_in_the_turn_of_the_f() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.hear_votes(N, 1, [1, 2], made.hash)
    assert stage.signed_views(F) == [1]
    stored = [(c.kind, c.number, c.digest) for c in stage.device.disk.certificates]
    assert (int(N), 1, made.hash) in stored
    assert made.hash in stage.device.disk.blocks


def test_r5_f_also_without_a_timer_or_own_n() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.skip_to(2)
    stage.notarize(made)
    stage.hear(made.block)
    assert (stage.signed(N), stage.signed(F)) == ([], [made.hash])
