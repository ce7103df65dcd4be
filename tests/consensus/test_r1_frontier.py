"""PROTOCOL R1: what clears a view, which view is cur, and when its timers run."""

from __future__ import annotations

import pytest

from swarm.consensus import frontier, tally
from swarm.wire.statements import Kind
from tests.support.stage import DELTA_MS, GENESIS, T_VIEW_MS, T_VOTE_MS, F, K, N, Stage


@pytest.mark.parametrize("kind", [N, K, F])
def test_r1_vc_sc_and_fc_each_clear_a_view(kind: Kind) -> None:
    stage = Stage()
    assert stage.state.cur == 1
    stage.hear(stage.certificate(kind, 1, bytes(32) if kind == K else b"x" * 32))
    assert stage.state.cur == 2


def test_r1_an_fc_clears_every_view_up_to_its_own() -> None:
    stage = Stage()
    stage.hear(stage.certificate(F, 7, b"x" * 32))
    assert stage.state.cur == 8


def test_r1_cur_is_the_smallest_view_not_cleared() -> None:
    stage = Stage()
    stage.hear(stage.certificate(K, 2), stage.certificate(K, 3))
    assert stage.state.cur == 1
    stage.hear(stage.certificate(K, 1))
    assert stage.state.cur == 4


def k_times(stage: Stage, views: int) -> list[int]:
    """Return how long after entering it the device skipped each view; the others skip at once after it."""
    times: list[int] = []
    for _ in range(views):
        view, since = stage.state.cur, stage.now_ms
        while not stage.signed(K, view):
            stage.pass_ms(1)
            assert stage.now_ms - since < 100_000, f"no K in {view}"
        times.append(stage.now_ms - since)
        stage.hear(stage.certificate(K, view))
    return times


def test_r1_timers_are_armed_when_work_appears() -> None:
    stage = Stage()
    stage.pass_ms(10_000)
    stage.work()
    stage.pass_ms(T_VOTE_MS - 1)
    assert stage.signed(K) == []
    stage.pass_ms(1)
    assert stage.signed_views(K) == [1]


def test_r1_timers_are_armed_when_cur_is_entered() -> None:
    stage = Stage()
    stage.work()
    stage.pass_ms(T_VOTE_MS - 10)
    stage.hear(stage.certificate(K, 1))
    stage.pass_ms(T_VOTE_MS - 1)
    assert stage.signed(K) == []
    stage.pass_ms(1)
    assert stage.signed_views(K) == [2]


def test_r1_timers_are_disarmed_when_work_ends() -> None:
    stage = Stage()
    submission = stage.work()
    made = stage.make(1, GENESIS, (submission,))
    stage.pass_ms(T_VOTE_MS - 1)
    stage.give(made)
    stage.notarize(made)
    stage.finalize(made)
    assert stage.device.wake_at_ms is None
    stage.pass_ms(100_000)
    assert stage.signed(K) == []


def test_r1_t_view_ends_a_view_with_a_vote_in_it() -> None:
    stage = Stage()
    stage.give(stage.make(1))
    assert stage.signed_views(N) == [1]
    stage.pass_ms(T_VIEW_MS - 1)
    assert stage.signed(K) == []
    stage.pass_ms(1)
    assert stage.signed_views(K) == [1]


def test_r1_delta_grows_by_half_with_each_view_after_a_grace_of_two() -> None:
    stage = Stage(n=7, me=6)
    stage.work()
    assert k_times(stage, 5) == [2 * d for d in (DELTA_MS, DELTA_MS, DELTA_MS, 75, 113)]


def test_r1_delta_stops_at_its_cap() -> None:
    stage = Stage(n=7, me=6)
    stage.work()
    stage.skip_to(60)
    assert stage.state.delta_ms == stage.device.config.delta_cap_ms


def test_r1_delta_never_shrinks_because_of_progress_that_is_no_finalization() -> None:
    stage = Stage(n=7, me=6)
    stage.work()
    stage.skip_to(8)
    before = stage.state.delta_ms
    made = stage.make(8)
    stage.give(made)
    stage.notarize(made)
    assert stage.state.cur == 9
    assert stage.state.delta_ms > before
    stage.finalize(made)
    stage.skip_to(10)
    assert stage.state.delta_ms == DELTA_MS


def answered(stage: Stage, answer_ms: int, views: int) -> list[int]:
    """Let a quorum answer every F after `answer_ms`; return the Δ right after each finalization."""
    deltas, made = [], GENESIS
    for view in range(stage.state.cur, stage.state.cur + views):
        made = stage.make(view, made, (stage.submission(),))
        stage.give(made, parent=stage.certificate(F, view - 1, made.header.parent) if view > 1 else None)
        stage.notarize(made)
        stage.pass_ms(answer_ms)
        stage.finalize(made)
        deltas.append(stage.state.delta_base_ms)
    return deltas


def test_r1_delta_adapts_to_how_long_a_quorum_takes_to_answer() -> None:
    stage = Stage(n=40, me=39)
    deltas = answered(stage, 40, 30)
    assert deltas == sorted(deltas), "no overshoot"
    assert 110 <= deltas[-1] <= 3 * 40


def test_r1_delta_is_never_below_the_floor_nor_above_the_cap() -> None:
    stage = Stage(n=40, me=39)
    assert answered(stage, 0, 5) == [DELTA_MS] * 5
    slow = Stage(n=40, me=39)
    slow.state.delta_base_ms = slow.device.config.delta_cap_ms
    frontier.adapt_delta(slow.state, 10**9)
    assert slow.state.delta_base_ms == slow.device.config.delta_cap_ms


def test_r1_one_late_answer_does_not_count_in_full() -> None:
    stage = Stage(n=40, me=39)
    (delta,) = answered(stage, 100 * DELTA_MS, 1)
    assert delta <= 2 * DELTA_MS


def test_r1_an_outage_of_many_views_ends() -> None:
    """The bound on stored views goes with cur: counted from the finalized view, cur would stop there for ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "UNFINALIZED_VIEWS_MAX", 40)
        stage = Stage(me=4)
        stage.skip_to(90)
    assert stage.state.cur == 90


def test_r1_no_timer_polls() -> None:
    """After K nothing of cur waits for time: a device that skipped is woken by the standstill round only."""
    stage = Stage()
    stage.work()
    stage.pass_ms(T_VOTE_MS)
    assert stage.signed_views(K) == [1]
    wakes = 0
    end_ms = stage.now_ms + 10_000
    while (wake := stage.device.wake_at_ms) is not None and wake < end_ms:
        stage.pass_ms(wake - stage.now_ms)
        wakes += 1
    assert wakes < 30
