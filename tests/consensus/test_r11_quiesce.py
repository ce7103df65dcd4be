"""PROTOCOL R11: work is the switch; without it no view timer runs and nothing is said."""

from __future__ import annotations

import pytest

from swarm.wire.messages import SubmissionItem
from tests.support.cluster import Cluster
from tests.support.fake_signatures import make_submission
from tests.support.stage import GENESIS, T_VIEW_MS, F, K, P, Stage


def test_r11_a_pending_submission_is_work() -> None:
    stage = Stage()
    assert not stage.state.work
    stage.work()
    assert stage.state.work


def test_r11_a_valid_proposal_of_cur_is_work() -> None:
    stage = Stage()
    stage.give(stage.make(1))
    assert stage.state.work


def test_r11_a_proposal_of_another_view_is_none() -> None:
    stage = Stage()
    stage.give(stage.make(2))
    assert not stage.state.work


def test_r11_an_invalid_proposal_is_none() -> None:
    stage = Stage()
    stage.give(stage.make(1, height=9))
    assert not stage.state.work
    assert stage.device.wake_at_ms is None


def test_r11_a_notarized_block_above_the_last_finalized_one_is_work() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.hear(made.block)
    stage.notarize(made)
    assert stage.state.work
    stage.finalize(made)
    stage.hear(made.block)
    assert not stage.state.work


@pytest.mark.parametrize("sequence", [0, 1_025, 2**40])
def test_r11_a_submission_that_would_be_a_no_op_is_none(sequence: int) -> None:
    """Scenario `eternal pending`: outside the window it is not pending, else empty blocks would follow for ever."""
    stage = Stage()
    stage.hear(SubmissionItem(raw=make_submission("ops", sequence, "x").raw))
    assert not stage.state.work


def test_r11_a_used_sequence_number_and_an_expired_submission_are_none() -> None:
    stage = Stage()
    made = stage.commit(2, stage.commit(1))
    assert made.header.height == 2
    stage.hear(SubmissionItem(raw=make_submission("ops", 1, "another content").raw))
    stage.hear(SubmissionItem(raw=make_submission("ops", 9, "too late", expiry=2).raw))
    assert not stage.state.work
    stage.hear(SubmissionItem(raw=make_submission("ops", 9, "in time", expiry=3).raw))
    assert stage.state.work


def test_r11_the_bytes_of_a_final_block_are_none() -> None:
    """Who catches up on an idle swarm must not skip views meanwhile."""
    stage = Stage()
    low = stage.make(1, GENESIS, (stage.submission(), stage.submission()))
    stage.hear(stage.proposal(low))
    stage.finalize(low)
    stage.hear(SubmissionItem(raw=low.submissions[0].raw))
    assert not stage.state.work
    high = stage.make(2, low, (stage.submission(),))
    stage.finalize(high)
    stage.hear(high.block)
    assert not stage.state.work
    stage.restart()
    assert not stage.state.work
    stage.pass_ms(10 * T_VIEW_MS)
    assert stage.signed(K) == []
    stage.hear(high.block, low.block)
    assert len(stage.log_ids()) == 3


def test_r11_pending_is_judged_again_after_every_block() -> None:
    stage = Stage()
    stage.hear(SubmissionItem(raw=make_submission("ops", 7, "until height 1", expiry=1).raw))
    assert len(stage.state.pool.pending) == 1
    stage.commit(1)
    assert not stage.state.work
    assert len(stage.state.pool) == 0


def test_r11_without_work_no_view_timer_runs_and_nothing_is_said() -> None:
    stage = Stage()
    stage.skip_to(4)
    stage.hear_votes(K, 4, [1, 2])
    assert stage.device.wake_at_ms is None
    stage.take_left()
    stage.pass_ms(1_000 * T_VIEW_MS)
    assert stage.take_left() == []
    assert stage.signed(P) == stage.signed(K) == stage.signed(F) == []


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_r11_a_swarm_is_silent_after_its_work(n: int) -> None:
    cluster = Cluster(n)
    submission = cluster.submit(0, "x")
    cluster.settle(5_000)
    assert cluster.has_final(submission)
    assert cluster.is_quiet()
    published = cluster.published
    views = [d.up.state.cur for d in cluster.devices]
    cluster.settle(10_000_000)
    assert (cluster.published, [d.up.state.cur for d in cluster.devices]) == (published, views)
    assert GENESIS.view == 0
