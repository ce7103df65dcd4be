"""PROTOCOL R4, one test a sentence: K only in cur, never after F, and for which reasons."""

from __future__ import annotations

from tests.support.stage import GENESIS, T_VIEW_MS, T_VOTE_MS, F, K, N, P, Stage


def test_r4_only_in_cur_and_never_ahead() -> None:
    stage = Stage()
    stage.work()
    for view in (2, 3):
        stage.hear_votes(K, view, [2, 3])
    stage.pass_ms(10 * T_VIEW_MS)
    assert stage.signed_views(K) == [1]


def test_r4_never_below_cur() -> None:
    stage = Stage()
    stage.work()
    made = stage.make(1)
    stage.give(made)
    stage.notarize(made)
    assert stage.state.cur == 2
    stage.hear_votes(K, 1, [1])
    stage.pass_ms(100 * T_VIEW_MS)
    assert 1 not in stage.signed_views(K)


def test_r4_never_after_the_own_f_not_even_when_its_vc_is_lost() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    assert stage.signed_views(F) == [1]
    stage.device.disk.certificates.clear()
    stage.restart()
    assert stage.state.cur == 1
    stage.hear_votes(K, 1, [1])
    stage.pass_ms(10 * T_VIEW_MS)
    assert stage.signed(K) == []


def test_r4_on_t_vote_without_n() -> None:
    stage = Stage()
    stage.work()
    stage.pass_ms(T_VOTE_MS - 1)
    assert stage.signed(K) == []
    stage.pass_ms(1)
    assert stage.signed_views(K) == [1]


def test_r4_on_t_view_with_n() -> None:
    stage = Stage()
    stage.give(stage.make(1))
    stage.pass_ms(T_VIEW_MS - 1)
    assert stage.signed(K) == []
    stage.pass_ms(1)
    assert (stage.signed_views(N), stage.signed_views(K)) == ([1], [1])


def test_r4_on_the_leaders_own_k() -> None:
    stage = Stage()
    stage.work()
    stage.hear_votes(K, 1, [2])
    assert stage.signed(K) == [], "dev-2 does not lead view 1"
    stage.hear_votes(K, 1, [1])
    assert stage.signed_views(K) == [1]


def test_r4_on_the_leaders_own_k_also_after_n() -> None:
    stage = Stage()
    stage.give(stage.make(1))
    stage.hear_votes(K, 1, [1])
    assert (stage.signed_views(N), stage.signed_views(K)) == ([1], [1])


def test_r4_once_a_view() -> None:
    stage = Stage()
    stage.work()
    stage.pass_ms(20 * T_VIEW_MS)
    stage.restart()
    stage.pass_ms(20 * T_VIEW_MS)
    assert stage.signed_views(K) == [1]


def test_r4_not_without_work() -> None:
    stage = Stage()
    stage.hear_votes(K, 1, [1, 2])
    stage.pass_ms(100 * T_VIEW_MS)
    assert stage.signed(K) == []


def views_without_waiting(stage: Stage, views: int) -> list[int]:
    """Walk through views that the others skip at once; return those that the device skipped without a timer."""
    at_once: list[int] = []
    for view in range(stage.state.cur, stage.state.cur + views):
        if stage.signed(K, view):
            at_once.append(view)
        stage.hear(stage.certificate(K, view))
    return at_once


def test_r4_at_once_when_the_leader_is_absent() -> None:
    """dev-1 never speaks: after more than n = 4 entries its views 5 and 9 are skipped without waiting."""
    stage = Stage()
    stage.work()
    stage.hear_votes(N, 3, [2, 3], b"x" * 32)
    assert views_without_waiting(stage, 10) == [5, 9, 10]


def test_r4_a_voter_is_absent_only_after_more_than_n_entries() -> None:
    stage = Stage()
    stage.work()
    for view in range(1, 6):
        stage.hear_votes(N, view, [2, 3], b"x" * 32)
        if view == 5:
            assert stage.signed_views(K) == [5]
        else:
            assert stage.signed(K, view) == []
        stage.hear(stage.certificate(K, view))


def test_r4_any_valid_statement_of_the_view_shows_presence() -> None:
    stage = Stage()
    stage.work()
    for view in range(1, 30):
        for voter in (1, 2, 3):
            stage.hear_votes(N, view, [voter], b"x" * 32)
        assert stage.signed(K, view) == []
        stage.hear(stage.certificate(K, view))


def test_r4_a_replay_refreshes_nothing() -> None:
    stage = Stage()
    stage.work()
    stage.skip_to(5)
    assert stage.signed_views(K)[-1] == 5
    replayed = Stage()
    replayed.work()
    for view in range(1, 5):
        replayed.hear_votes(N, 1, [1], b"x" * 32)
        replayed.hear(replayed.certificate(K, view))
    replayed.hear_votes(N, 1, [1], b"x" * 32)
    assert replayed.signed(K, 5) == [], "heard in view 1, five entries since"
    for view in range(5, 9):
        replayed.hear_votes(N, 1, [1], b"x" * 32)
        replayed.hear(replayed.certificate(K, view))
    assert replayed.signed(K, 9), "nine views later the word of view 1 is worth nothing"


def test_r4_a_jump_over_many_views_counts_one_entry() -> None:
    stage = Stage()
    stage.work()
    stage.hear(stage.certificate(F, 400, b"x" * 32))
    assert stage.state.cur == 401
    assert stage.signed(K) == []


def test_r4_the_leader_itself_is_never_absent_for_itself() -> None:
    stage = Stage()
    stage.work()
    stage.skip_to(8)
    assert stage.signed_views(P) == [4, 8]
    assert 8 not in stage.signed_views(K)
