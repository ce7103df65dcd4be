"""PROTOCOL R3, one test a sentence: when a proposal is notarized, when it waits, when it is refused for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarm.primitives.limits import BLOCK_BYTES_MAX
from swarm.wire.messages import AskBlock, AskCertificates, AskSubmissions, Block, SubmissionItem
from tests.support.stage import GENESIS, T_VOTE_MS, K, Made, N, Stage


def notarized(stage: Stage, view: int, parent: Made = GENESIS) -> Made:
    """Let the device see a block of `view` with its VC."""
    made = stage.make(view, parent, (stage.submission(f"block {view}"),))
    stage.give(made)
    stage.notarize(made)
    return made


def test_r3_the_first_valid_proposal_of_the_leader_is_notarized() -> None:
    stage = Stage()
    first, second = (stage.make(1, GENESIS, (stage.submission(),)) for _ in range(2))
    stage.give(first)
    stage.give(second)
    assert stage.signed(N) == [first.hash]


def test_r3_only_when_the_view_is_cur() -> None:
    stage = Stage()
    made = stage.make(2)
    stage.give(made)
    assert stage.signed(N) == []
    stage.hear(stage.certificate(K, 1))
    assert stage.signed(N) == [made.hash]


def test_r3_not_in_a_view_that_is_cleared() -> None:
    stage = Stage()
    stage.work()
    stage.skip_to(2)
    stage.give(stage.make(1))
    assert stage.signed(N) == []


def test_r3_not_after_t_vote() -> None:
    """The same turn that brings the proposal is the first after T_vote: K, not N."""
    stage = Stage()
    stage.work()
    stage.now_ms = T_VOTE_MS
    stage.hear(stage.proposal(stage.make(1)))
    assert (stage.signed_views(N), stage.signed_views(K)) == ([], [1])


def test_r3_not_after_the_own_k() -> None:
    stage = Stage()
    stage.work()
    stage.pass_ms(T_VOTE_MS)
    assert stage.signed_views(K) == [1]
    stage.give(stage.make(1))
    assert stage.signed(N) == []


def test_r3_not_after_the_own_k_of_an_earlier_life() -> None:
    stage = Stage()
    stage.work()
    stage.pass_ms(T_VOTE_MS)
    stage.restart()
    stage.give(stage.make(1))
    assert stage.signed(N) == []


def test_r3_one_n_a_view_also_after_a_restart() -> None:
    stage = Stage()
    stage.give(stage.make(1))
    stage.restart()
    stage.give(stage.make(1, GENESIS, (stage.submission(),)))
    assert stage.signed_views(N) == [1]


def test_r3_the_vc_of_the_parent_must_be_held() -> None:
    stage = Stage()
    parent = stage.make(1)
    stage.give(parent)
    stage.hear(stage.certificate(K, 1))
    child = stage.make(2, parent)
    stage.give(child)
    assert stage.signed_views(N) == [1]
    stage.notarize(parent)
    assert stage.signed_views(N) == [1, 2]


def test_r3_an_fc_counts_as_the_vc_of_the_parent() -> None:
    stage = Stage()
    parent = stage.commit(1)
    child = stage.make(2, parent)
    stage.give(child)
    assert stage.signed(N)[-1] == child.hash


@pytest.mark.parametrize("bare", [1, 2, 3, 4])
def test_r3_sc_for_every_skipped_view(bare: int) -> None:
    """View 5 jumps over 1 to 4; one of them is cleared by a VC only. Lemma 6 hangs on this demand."""
    stage = Stage()
    for view in range(1, 5):
        stage.hear(stage.vote(K, view, 1), sender=1)  # the leader of view 5 is present
        if view == bare:
            notarized(stage, view)
        else:
            stage.hear(stage.certificate(K, view))
    assert stage.state.cur == 5
    jump = stage.make(5, GENESIS, (stage.submission("jump"),))
    stage.give(jump)
    assert jump.hash not in stage.signed(N)
    stage.hear(stage.certificate(K, bare))
    assert stage.signed(N)[-1] == jump.hash


def test_r3_its_submissions_must_be_in_hand() -> None:
    stage = Stage()
    submission = stage.submission()
    made = stage.make(1, GENESIS, (submission,))
    stage.hear(stage.proposal(made))
    assert stage.signed(N) == []
    stage.hear(SubmissionItem(raw=submission.raw))
    assert stage.signed(N) == [made.hash]


def test_r3_submissions_of_every_unfinalized_ancestor_must_be_in_hand() -> None:
    stage = Stage()
    submission = stage.submission()
    grandparent = stage.make(1, GENESIS, (submission,))
    stage.hear(stage.proposal(grandparent))
    stage.notarize(grandparent)
    parent = notarized(stage, 2, grandparent)
    child = stage.make(3, parent, (stage.submission(),))
    stage.give(child)
    assert stage.signed(N) == []
    stage.hear(SubmissionItem(raw=submission.raw))
    assert stage.signed(N) == [child.hash]


def test_r3_headers_of_every_unfinalized_ancestor_must_be_in_hand() -> None:
    stage = Stage()
    parent = stage.make(1, GENESIS, (stage.submission(),))
    stage.notarize(parent)
    child = stage.make(2, parent, (stage.submission(),))
    stage.give(child)
    assert stage.signed(N) == []
    stage.hear(parent.block)
    assert stage.signed(N) == [child.hash]


@pytest.mark.parametrize("what", ["skip", "parent", "body"])
def test_r3_what_is_missing_is_pending_and_asked_for_again(what: str) -> None:
    stage = Stage()
    ask: type[AskSubmissions | AskBlock | AskCertificates]
    if what == "skip":
        notarized(stage, 1)
        stage.give(stage.make(2))
        ask = AskCertificates
    elif what == "parent":
        parent = stage.make(1)
        stage.hear(stage.certificate(K, 1))
        stage.give(stage.make(2, parent))
        ask = AskBlock
    else:
        stage.hear(stage.proposal(stage.make(1, GENESIS, (stage.submission(),))))
        ask = AskSubmissions
    stage.pass_ms(T_VOTE_MS - 1)
    asked = [left for left in stage.take_left() if isinstance(left.payload, ask)]
    assert asked
    assert asked[0].to == f"dev-{stage.state.leader(stage.state.cur)}", "who proposed it has it"
    assert stage.signed(K) == [], "what is missing is no reason to skip before T_vote"
    again = [f for f in stage.state.fetches.values() if f.attempt == 1 and f.due_ms > stage.now_ms]
    assert again, "asked again when it is due; after the own K only a certificate is a reason (ADR 0013)"


def too_large(stage: Stage) -> Made:
    count = BLOCK_BYTES_MAX // 60_000 + 1
    return stage.make(1, GENESIS, tuple(stage.submission("x" * 15_000) for _ in range(count * 4)))


INVALID: dict[str, Callable[[Stage], Made]] = {
    "height": lambda s: s.make(1, height=2),
    "parent view not below": lambda s: s.make(1, parent_view=1),
    "another parent at the finalized view": lambda s: s.make(1, Made(s.make(0).header, ())),
    "submission twice": lambda s: s.make(1, GENESIS, (s.submission(),) * 2),
    "next epoch without a change": lambda s: s.make(1, next_digest=b"n" * 32),
    "too large": too_large,
}


@pytest.mark.parametrize("fault", sorted(INVALID))
def test_r3_what_can_never_become_valid_is_invalid_and_skipped_at_once(fault: str) -> None:
    stage = Stage()
    stage.work()
    stage.give(INVALID[fault](stage))
    assert (stage.signed_views(N), stage.signed_views(K)) == ([], [1])


def test_r3_a_parent_below_the_finalized_view_is_invalid() -> None:
    stage = Stage()
    stage.commit(1)
    stage.work()
    stage.give(stage.make(2, GENESIS))
    assert (stage.signed_views(N), stage.signed_views(K)) == ([1], [2])


def test_r3_another_block_notarized_in_the_parents_view_makes_it_invalid() -> None:
    stage = Stage()
    notarized(stage, 1)
    other = stage.make(1, GENESIS, (stage.submission("other"),))
    stage.give(stage.make(2, other))
    assert stage.signed_views(K) == [2]


def test_r3_n_is_a_promise_to_serve_the_bytes() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    assert made.hash in stage.device.disk.blocks, "stored in the turn of N (R10)"
    stage.restart()
    stage.take_left()
    stage.hear(AskBlock(hash=made.hash), sender=2)
    assert [left.payload for left in stage.take_left() if isinstance(left.payload, Block)] == [made.block]


def test_r3_n_stores_the_bytes_of_unfinalized_ancestors_too() -> None:
    stage = Stage()
    parent = stage.make(1, GENESIS, (stage.submission(),))
    stage.hear(stage.certificate(K, 1))
    stage.hear(parent.block)
    stage.notarize(parent)
    stage.hear(parent.block)
    child = stage.make(2, parent, (stage.submission(),))
    stage.give(child)
    assert {parent.hash, child.hash} <= set(stage.device.disk.blocks)


def test_r3_an_observer_signs_nothing() -> None:
    stage = Stage(me=4)
    made = stage.commit(1)
    stage.work()
    stage.pass_ms(10_000)
    assert stage.device.disk.statements == []
    assert stage.log_ids() == list(made.header.submissions)
