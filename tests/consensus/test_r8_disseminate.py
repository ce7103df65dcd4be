"""PROTOCOL R8, one test a sentence: what is published once, what again, in which order, and how often at most."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from swarm.consensus.disseminate import RESEND_DELTAS, STANDSTILL_DELTAS
from swarm.primitives.limits import EGRESS_BURST, EGRESS_FRAMES_PER_SECOND
from swarm.wire.messages import SubmissionItem
from swarm.wire.statements import Certificate, SignedStatement
from tests.support.cluster import kind_of
from tests.support.mini_device import Leaving
from tests.support.stage import DELTA_MS, GENESIS, F, K, N, Stage

T_S_MS = STANDSTILL_DELTAS * DELTA_MS


def named(left: Iterable[Leaving]) -> list[str]:
    """Return what left in words such as `N 1`, `SC 3`, `S 7 bytes`."""
    words = []
    for leaving in left:
        payload = leaving.payload
        number = payload.number if isinstance(payload, SignedStatement | Certificate) else None
        words.append(kind_of(payload) if number is None else f"{kind_of(payload)} {number}")
    return words


def test_r8_own_statements_leave_once() -> None:
    stage = Stage()
    stage.give(stage.make(1))
    assert named(stage.take_left()) == ["N 1"]
    stage.pass_ms(DELTA_MS)
    assert stage.take_left() == []


def test_r8_a_certificate_that_i_formed_is_republished_within_half_a_delta() -> None:
    stage = Stage()
    stage.hear_votes(K, 1, [1, 2, 3])
    stage.pass_ms(DELTA_MS // 2)
    assert "SC 1" in named(stage.take_left())
    stage.pass_ms(100_000)
    assert "SC 1" not in named(stage.take_left())


def test_r8_observers_take_a_span_that_grows_with_the_fleet() -> None:
    """Forty of them: with Δ/2 nearly each of them would publish it before a voter's copy is heard (ADR 0019)."""
    due = []
    for number in range(1, 41):
        stage = Stage(me=4, observers=40)
        stage.skip_to(number)
        stage.hear_votes(K, number, [1, 2, 3])
        due.append(stage.state.republish[K, number][0] - stage.now_ms)
    assert max(due) <= DELTA_MS // 2 * 11
    assert sum(ms > DELTA_MS // 2 for ms in due) > 30


def test_r8_not_when_it_was_heard_from_somebody_else() -> None:
    stage = Stage()
    stage.hear_votes(K, 1, [1, 2, 3])
    assert stage.state.republish
    stage.hear(stage.certificate(K, 1))
    stage.pass_ms(10 * DELTA_MS)
    assert "SC 1" not in named(stage.take_left())


def test_r8_a_certificate_that_came_to_me_alone_is_spread() -> None:
    """A liar that completes one in private would keep one device ahead of all others for ever."""
    stage = Stage()
    stage.left += stage.device.receive("dev-1", stage.certificate(K, 1), 0, broadcast=False)
    stage.pass_ms(DELTA_MS // 2)
    assert "SC 1" in named(stage.take_left())


def test_r8_the_delay_differs_between_devices() -> None:
    delays = set()
    for me in range(7):
        stage = Stage(n=7, me=me)
        stage.hear_votes(K, 1, stage.others)
        delays |= {due for due, _ in stage.state.republish.values()}
    assert len(delays) > 3
    assert all(0 <= delay <= DELTA_MS // 2 for delay in delays)


def test_r8_an_origin_republishes_its_own_submission_with_back_off() -> None:
    stage = Stage(me=4)
    own = stage.submit()
    assert named(stage.take_left()) == ["S"]
    times: list[int] = []
    while len(times) < 4:
        stage.pass_ms(1)
        if any(
            isinstance(left.payload, SubmissionItem) and left.payload.raw == own.raw
            for left in stage.take_left()
        ):
            times.append(stage.now_ms)
        stage.state.standstill_at_ms, stage.state.standstill_round = 10**9, 1
    assert times[0] == RESEND_DELTAS * DELTA_MS
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(gaps))


def test_r8_also_after_a_restart() -> None:
    stage = Stage()
    own = stage.submit()
    stage.take_left()
    stage.restart()
    assert [left.payload for left in stage.take_left()] == [SubmissionItem(raw=own.raw)]


def test_r8_also_after_a_restart_when_a_dead_block_holds_it() -> None:
    stage = Stage()
    own = stage.submit()
    stage.give(stage.make(1, GENESIS, (own,)))
    assert stage.signed_views(N) == [1]
    stage.finalize(stage.make(2, GENESIS, (stage.submission("the other branch"),)))
    stage.restart()
    assert own.id in stage.state.pool.own
    assert SubmissionItem(raw=own.raw) in [left.payload for left in stage.take_left()]


def test_r8_until_it_is_final() -> None:
    stage = Stage()
    own = stage.submit()
    made = stage.make(1, GENESIS, (own,))
    stage.give(made)
    stage.notarize(made)
    stage.finalize(made)
    stage.take_left()
    stage.pass_ms(100_000)
    assert stage.take_left() == []


def standstills(stage: Stage, duration_ms: int) -> list[int]:
    end_ms = stage.now_ms + duration_ms
    times = []
    while stage.now_ms < end_ms:
        before = len(stage.device.notes)
        stage.pass_ms(1)
        if ("standstill", stage.state.cur) in stage.device.notes[before:]:
            times.append(stage.now_ms)
    return times


def test_r8_a_standstill_after_five_deltas_growing_by_half_to_four_times() -> None:
    stage = Stage(me=4)
    stage.pass_ms(1_000)
    stage.work()
    times = standstills(stage, 20 * T_S_MS)
    assert times[0] == 1_000 + T_S_MS
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[:6] == [T_S_MS * f // 16 for f in (24, 36, 54, 64, 64)] + gaps[5:6]


def test_r8_no_standstill_without_work() -> None:
    stage = Stage()
    stage.hear_votes(K, 1, [1, 2, 3])
    stage.pass_ms(DELTA_MS)
    assert standstills(stage, 20 * T_S_MS) == []


def test_r8_a_finalization_starts_the_standstill_anew() -> None:
    stage = Stage(me=4)
    stage.work()
    stage.pass_ms(T_S_MS - 1)
    stage.commit(1)
    assert standstills(stage, T_S_MS) == [2 * T_S_MS - 1]


def busy() -> Stage:
    """A voter in view 4 with every sort of thing to repeat: FC 1, VC 2 with own F, SC 3, own K in 4, two submissions."""
    stage = Stage(n=7, me=6)
    final = stage.commit(1)
    made = stage.make(2, final, (stage.submission("second"),))
    stage.give(made)
    stage.notarize(made)
    stage.hear(stage.certificate(K, 3))
    stage.hear_votes(K, 4, [4])
    assert (stage.state.cur, stage.signed_views(K), stage.signed_views(F)) == (4, [4], [1, 2])
    stage.work("pending")
    return stage


def test_r8_the_order_of_a_standstill() -> None:
    stage = busy()
    stage.take_left()
    since = max(stage.state.final_at_ms, stage.state.work_since_ms)
    stage.now_ms = since + 10 * T_S_MS
    stage.pass_ms(0)
    stage.state.fetches.clear()
    said = [word for word in named(stage.take_left()) if word != "ask"]
    assert said == ["K 4", "FC 1", "VC 2", "SC 3", "N 2", "F 2", "S", "S"]


def test_r8_every_held_pending_submission_of_any_origin_is_repeated() -> None:
    stage = Stage(me=4)
    raws = [stage.work(f"{i}").raw for i in range(5)]
    stage.take_left()
    stage.pass_ms(T_S_MS)
    assert [left.payload for left in stage.take_left()] == [SubmissionItem(raw=raw) for raw in raws]


def test_r8_a_round_continues_where_the_last_one_stopped() -> None:
    """Scenario `egress`: the bucket empties before the end of the list, and the tail gets its turn."""
    stage = Stage(me=4)
    raws = [stage.work(f"{i}").raw for i in range(300)]
    stage.take_left()
    said: list[bytes] = []
    for _ in range(12):
        stage.state.tokens_milli = 200_000
        stage.state.tokens_at_ms = 10**9
        stage.pass_ms(4 * T_S_MS)
        said += [left.payload.raw for left in stage.take_left() if isinstance(left.payload, SubmissionItem)]
    assert set(said) == set(raws)
    assert said[: len(raws)] == raws


def test_r8_everything_repeated_passes_one_token_bucket() -> None:
    stage = Stage(me=4)
    for i in range(1_000):
        stage.work(f"{i}")
    stage.take_left()
    stage.pass_ms(60_000)
    published = len(stage.take_left())
    assert 1_000 < published <= EGRESS_BURST + 60 * EGRESS_FRAMES_PER_SECOND


def test_r8_votes_pass_when_submissions_must_wait() -> None:
    stage = busy()
    stage.take_left()
    stage.state.tokens_milli = 20_000
    stage.state.tokens_at_ms = 10**9
    stage.now_ms += 10 * T_S_MS
    stage.pass_ms(0)
    said = named(stage.take_left())
    assert "FC 1" in said
    assert "S" not in said
    assert N != F
