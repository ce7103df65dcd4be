"""PROTOCOL R2, one test a sentence. dev-0 of four leads the views 4 and 8."""

from __future__ import annotations

from swarm.consensus.propose import SKIPS_MAX
from swarm.wire.messages import Proposal, SubmissionItem
from tests.support.stage import DELTA_MS, GENESIS, T_VOTE_MS, K, Made, N, P, Stage


def proposals(stage: Stage) -> list[Proposal]:
    return list(stage.device.disk.proposals.values())


def test_r2_only_the_leader_of_cur_proposes() -> None:
    stage = Stage()
    stage.work()
    for view in (2, 3):
        stage.skip_to(view)
    assert stage.signed(P) == []
    stage.skip_to(4)
    assert stage.signed_views(P) == [4]


def test_r2_the_parent_is_the_highest_notarized_block_below_cur() -> None:
    stage = Stage()
    low = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(low)
    stage.notarize(low)
    high = stage.make(2, low, (stage.submission(),))
    stage.give(high)
    stage.notarize(high)
    stage.work("third")
    stage.skip_to(4)
    (proposal,) = proposals(stage)
    header = proposal.header
    assert (header.parent_view, header.parent, header.height) == (2, high.hash, 3)
    assert proposal.parent is not None
    assert (proposal.parent.kind, proposal.parent.digest) == (N, high.hash)
    assert [c.number for c in proposal.skips] == [3]


def test_r2_the_first_parent_is_the_genesis_block_without_a_certificate() -> None:
    stage = Stage()
    work = stage.work()
    stage.skip_to(4)
    (proposal,) = proposals(stage)
    assert (proposal.header.parent, proposal.header.height, proposal.parent) == (GENESIS.hash, 1, None)
    assert proposal.header.submissions == (work.id,)


def test_r2_a_final_parent_is_proposed_on_with_its_fc() -> None:
    """An FC counts as a VC wherever a VC is asked for: the VC is gone, the FC remains."""
    stage = Stage()
    made = stage.commit(1)
    stage.work()
    stage.skip_to(4)
    (proposal,) = proposals(stage)
    assert proposal.parent is not None
    assert (chr(proposal.parent.kind), proposal.parent.digest) == ("F", made.hash)


def test_r2_every_body_down_to_the_finalized_tip_must_be_in_hand() -> None:
    stage = Stage()
    missing = stage.submission("missing")
    made = stage.make(1, GENESIS, (missing,))
    stage.hear(stage.proposal(made))
    stage.notarize(made)
    stage.work()
    stage.skip_to(4)
    assert stage.signed(P) == []
    stage.hear(SubmissionItem(raw=missing.raw))
    assert stage.signed_views(P) == [4]


def test_r2_every_header_down_to_the_finalized_tip_must_be_in_hand() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission("unseen"),))
    stage.notarize(made)
    stage.work()
    stage.skip_to(4)
    assert stage.signed(P) == []
    stage.hear(made.block)
    assert stage.signed_views(P) == [4]


def test_r2_no_proposal_while_what_is_final_is_not_applied() -> None:
    stage = Stage()
    final = stage.make(1, GENESIS, (stage.submission("unseen"),))
    stage.finalize(final)
    stage.work()
    stage.skip_to(4)
    assert stage.signed(P) == []
    stage.hear(final.block)
    assert stage.signed_views(P) == [4]


def test_r2_nothing_is_proposed_after_the_own_k() -> None:
    stage = Stage()
    missing = stage.submission("missing")
    made = stage.make(1, GENESIS, (missing,))
    stage.hear(stage.proposal(made))
    stage.notarize(made)
    stage.skip_to(4)
    stage.pass_ms(2 * T_VOTE_MS)
    assert stage.signed_views(K) == [4]
    stage.hear(SubmissionItem(raw=missing.raw))
    assert stage.signed(P) == []


def test_r2_the_own_n_follows_the_own_p_and_nothing_is_proposed_twice() -> None:
    stage = Stage()
    stage.work()
    stage.skip_to(4)
    assert stage.signed_views(P) == stage.signed_views(N) == [4]
    stage.work("more")
    stage.pass_ms(DELTA_MS)
    stage.restart()
    stage.work("even more")
    assert stage.signed_views(P) == [4]


def test_r2_the_block_is_stored_before_p_leaves() -> None:
    stage = Stage()
    work = stage.work()
    stage.skip_to(4)
    (digest,) = stage.signed(P)
    header, bodies = stage.device.disk.blocks[digest]
    assert (header.view, bodies) == (4, (work,))


def test_r2_the_newest_scs_that_fit_are_attached() -> None:
    stage = Stage()
    stage.work()
    stage.skip_to(40)
    proposal = proposals(stage)[-1]
    assert proposal.header.view == 40
    assert [c.number for c in proposal.skips] == list(range(40 - SKIPS_MAX, 40))


def notarized_parent(stage: Stage) -> Made:
    """Make work that only an empty block can end: a notarized block whose FC does not come."""
    final = stage.commit(2, stage.commit(1))
    made = stage.make(3, final, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    assert (stage.state.cur, stage.state.delta_ms) == (4, DELTA_MS)
    return made


def test_r2_without_a_submission_the_leader_waits_delta_before_an_empty_block() -> None:
    stage = Stage()
    notarized_parent(stage)
    stage.pass_ms(DELTA_MS - 1)
    assert stage.signed(P) == []
    stage.pass_ms(1)
    assert stage.signed_views(P) == [4]
    assert proposals(stage)[0].header.submissions == ()


def test_r2_a_submission_that_is_a_no_op_after_the_parents_chain_does_not_count() -> None:
    """The parent's own submission is pending until final; it must not be proposed once more."""
    stage = Stage()
    made = notarized_parent(stage)
    stage.pass_ms(DELTA_MS)
    assert made.header.submissions[0] in stage.state.pool.pending
    assert proposals(stage)[0].header.submissions == ()


def test_r2_a_submission_ends_the_waiting() -> None:
    stage = Stage()
    notarized_parent(stage)
    work = stage.work()
    assert proposals(stage)[0].header.submissions == (work.id,)


def test_r2_no_empty_block_when_the_fc_of_the_parent_has_arrived() -> None:
    stage = Stage()
    made = notarized_parent(stage)
    stage.pass_ms(DELTA_MS - 1)
    stage.finalize(made)
    stage.pass_ms(100_000)
    assert stage.signed(P) == []


def test_r2_no_work_no_proposal() -> None:
    stage = Stage()
    stage.skip_to(4)
    stage.pass_ms(100_000)
    assert stage.signed(P) == []


def test_r2_what_came_from_no_voter_goes_along_for_the_observers() -> None:
    """They hear the voters only, and would each ask for it (ADR 0019)."""
    stage = Stage(observers=3)
    foreign, heard = stage.work(), stage.submission(origin="dev-1")
    stage.hear(SubmissionItem(raw=heard.raw))
    stage.take_left()
    stage.skip_to(4)
    left = [leaving.payload for leaving in stage.take_left() if leaving.to is None]
    (proposal,) = proposals(stage)
    assert proposal.header.submissions == (foreign.id, heard.id)
    assert proposal in left
    assert [item.raw for item in left if isinstance(item, SubmissionItem)] == [foreign.raw]


def test_r2_nothing_goes_along_where_nobody_observes() -> None:
    stage = Stage()
    stage.work()
    stage.take_left()
    stage.skip_to(4)
    assert not [left for left in stage.take_left() if isinstance(left.payload, SubmissionItem)]
