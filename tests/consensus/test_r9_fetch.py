"""PROTOCOL R9, one test a sentence: the reasons to ask, whom first, how often, and what is done with an answer."""

from __future__ import annotations

import itertools

import pytest

from swarm.primitives.limits import CLAIM_DOUBT_MAX_MS, CLAIM_QUESTIONS_MAX
from swarm.wire.messages import (
    AskBlock,
    AskBlocks,
    AskCertificates,
    AskSubmissions,
    Block,
    Blocks,
    SubmissionItem,
)
from swarm.wire.statements import Certificate
from tests.support.mini_device import Beat, Payload
from tests.support.stage import DELTA_MS, GENESIS, F, K, Made, N, Stage

Asked = tuple[str | None, Payload]


def asks(stage: Stage) -> list[Asked]:
    """Return (to, question) of everything asked since the last call."""
    return [
        (left.to, left.payload)
        for left in stage.take_left()
        if isinstance(left.payload, AskBlock | AskBlocks | AskCertificates | AskSubmissions)
    ]


def test_r9_an_unknown_hash_in_a_valid_n() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.hear_votes(N, 1, [2], made.hash)
    stage.pass_ms(DELTA_MS)
    assert asks(stage)[0] == ("dev-2", AskBlock(hash=made.hash))


@pytest.mark.parametrize("view", [3, 900])
def test_r9_a_valid_statement_above_cur(view: int) -> None:
    """Its signer knows cur cleared, in the window and above it."""
    stage = Stage()
    stage.hear_votes(K, view, [3])
    stage.pass_ms(DELTA_MS)
    assert asks(stage)[0] == ("dev-3", AskCertificates(view=1))


def test_r9_a_heartbeat_with_a_higher_finalized_view() -> None:
    stage = Stage()
    stage.hear(Beat(7, 5, None), sender=2)
    stage.pass_ms(DELTA_MS)
    asked = asks(stage)
    assert ("dev-2", AskCertificates(view=1)) in asked
    assert ("dev-2", AskBlocks(height=1)) in asked


def test_r9_a_heartbeat_heals_who_has_every_vc_but_not_the_fc() -> None:
    """Found by simulation: asked from cur on, a peer that is no view ahead has nothing to say."""
    stage = Stage(me=4)
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    assert stage.state.cur == 2
    stage.hear(Beat(1, 1, None), sender=2)
    stage.pass_ms(DELTA_MS)
    assert ("dev-2", AskCertificates(view=1)) in asks(stage)


def test_r9_a_heartbeat_with_nothing_new_is_no_reason() -> None:
    stage = Stage()
    stage.commit(1)
    stage.hear(Beat(1, 1, None), sender=2)
    stage.pass_ms(100_000)
    assert asks(stage) == []


FAR = 2**62


@pytest.mark.parametrize("what", ["statement", "view", "height", "notarize"])
def test_r9_a_far_claim_of_fewer_than_r_plus_1_is_forgotten(what: str) -> None:
    """Found by an audit: one message of a liar cost every device a question every few seconds for ever."""
    stage = Stage()
    if what in ("statement", "notarize"):
        view = FAR if what == "statement" else 2
        stage.hear_votes(N, view, [3], b"x" * 32)
    else:
        stage.hear(Beat(FAR if what == "view" else 0, FAR if what == "height" else 0, None), sender=3)
    stage.pass_ms(60_000)
    assert 1 <= len(asks(stage)) <= 2 * CLAIM_QUESTIONS_MAX
    if what == "notarize":
        # A vote is not forgotten, so its block is asked for at long intervals.
        stage.hear_votes(K, 1, [3])
        stage.pass_ms(3_600_000)
        assert len(asks(stage)) <= 3_600_000 // CLAIM_DOUBT_MAX_MS + 1 + CLAIM_QUESTIONS_MAX
        return
    stage.pass_ms(3_600_000)
    assert asks(stage) == []
    assert stage.device.wake_at_ms is None


def test_r9_a_liar_that_claims_for_ever_is_asked_about_rarely() -> None:
    stage = Stage()
    for _ in range(360):
        stage.hear(Beat(FAR, FAR, None), stage.vote(K, FAR, 3), sender=3)
        stage.pass_ms(10_000)
    # Eight questions about views and eight about blocks in each time of doubt, and the first few short ones.
    assert len(asks(stage)) <= 2 * CLAIM_QUESTIONS_MAX * (3_600_000 // CLAIM_DOUBT_MAX_MS + 5)


def test_r9_a_liar_does_not_gain_by_the_progress_of_others() -> None:
    """Every commit makes another question of the same claim; the claimant's account goes on."""
    stage = Stage()
    made = GENESIS
    for view in range(1, 200):
        stage.hear(Beat(FAR, FAR, None), sender=3)
        if view % 4:
            made = stage.commit(view, made)
        else:
            stage.hear(stage.certificate(K, view))
        stage.pass_ms(1_000)
    assert stage.state.delivered_height > 100
    assert len(asks(stage)) <= 2 * CLAIM_QUESTIONS_MAX * 6


def test_r9_a_claim_of_r_plus_1_voters_is_asked_about_until_it_is_met() -> None:
    """One of them is correct, so something is missing: however long nobody could be reached."""
    stage = Stage()
    for voter in (2, 3):
        stage.hear(Beat(7, 5, None), sender=voter)
    stage.pass_ms(3_600_000)
    asked = asks(stage)
    assert len(asked) > 200
    assert {ask for _, ask in asked[-4:]} == {AskCertificates(view=1), AskBlocks(height=1)}


def test_r9_a_block_of_r_plus_1_votes_is_asked_for_often_again() -> None:
    stage = Stage()
    stage.hear_votes(N, 1, [3], b"x" * 32)
    stage.pass_ms(60_000)
    stage.take_left()
    stage.hear_votes(N, 1, [2], b"x" * 32)
    stage.pass_ms(10_000)
    assert len(asks(stage)) >= 3


@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_r9_the_word_of_one_counts_again_after_any_time_in_vain(minutes: int) -> None:
    """Whoever really lags and hears of it from one voter only is healed within a few minutes of being reachable."""
    stage = Stage()
    for _ in range(6 * minutes):
        stage.hear(Beat(20, 20, None), sender=3)
        stage.pass_ms(10_000)
    made = log_of(stage, 20)
    answer = Blocks(
        blocks=tuple(block.block for block in made), finality=stage.certificate(F, 20, made[-1].hash)
    )
    stage.take_left()
    reachable_at_ms = stage.now_ms
    while not stage.device.disk.log:
        stage.hear(Beat(20, 20, None), sender=3)
        stage.pass_ms(10_000)
        if AskBlocks(height=1) in [ask for _, ask in asks(stage)]:
            stage.hear(answer, sender=3)
    assert stage.now_ms - reachable_at_ms <= CLAIM_DOUBT_MAX_MS + 20_000


def test_r9_useful_answers_keep_the_word_of_one_good() -> None:
    """A long gap, with one peer only that has it: each piece is asked for at once, however many there are."""
    stage = Stage(n=20, me=19)
    pieces = 3 * CLAIM_QUESTIONS_MAX
    made = log_of(stage, 2 * pieces)
    stage.hear(Beat(0, 2 * pieces + 2, None), sender=3)
    for piece in range(pieces):
        first = 2 * piece + 1
        for _ in range(20):
            stage.pass_ms(DELTA_MS)
            if AskBlocks(height=first) in [ask for _, ask in asks(stage)]:
                break
        else:
            raise AssertionError(f"piece {piece} was not asked for")
        blocks = tuple(block.block for block in made[first - 1 : first + 1])
        stage.hear(Blocks(blocks=blocks, finality=stage.certificate(F, first + 1, made[first].hash)))
    assert stage.state.delivered_height == 2 * pieces


def test_r9_a_missing_ancestor_of_a_notarized_block() -> None:
    stage = Stage()
    parent = stage.make(1, GENESIS, (stage.submission(),))
    child = stage.make(2, parent, (stage.submission(),))
    stage.give(child)
    stage.notarize(child)
    stage.pass_ms(DELTA_MS)
    assert AskBlock(hash=parent.hash) in [ask for _, ask in asks(stage)]


def test_r9_delivery_is_fetched_for_also_without_work() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.finalize(made)
    assert not stage.state.work
    stage.pass_ms(DELTA_MS)
    assert AskBlock(hash=made.hash) in [ask for _, ask in asks(stage)]
    stage.hear(made.block)
    assert stage.log_ids() == list(made.header.submissions)
    assert stage.device.wake_at_ms is None


def test_r9_first_from_who_claimed_then_from_others_with_back_off() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.hear_votes(N, 1, [2], made.hash)
    times: list[tuple[int, str | None]] = []
    for _ in range(3_000):
        stage.pass_ms(1)
        times += [(stage.now_ms, to) for to, ask in asks(stage) if isinstance(ask, AskBlock)]
    assert times[0][1] == "dev-2"
    assert {to for _, to in times[1:4]} > {"dev-2"} or len({to for _, to in times[:4]}) >= 3
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(times)]
    assert all(later > 1.4 * earlier for earlier, later in itertools.pairwise(gaps))


def test_r9_who_claims_and_does_not_deliver_is_asked_last() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.hear_votes(N, 1, [2], made.hash)
    while stage.state.unreliable.get("dev-2", (0, 0))[0] <= stage.now_ms:
        stage.pass_ms(1)
    stage.take_left()
    stage.hear_votes(K, 3, [2])
    while not (asked := [to for to, ask in asks(stage) if isinstance(ask, AskCertificates)]):
        stage.pass_ms(1)
    assert asked[0] != "dev-2", "the only claimant disappointed a moment ago"


def test_r9_a_need_that_is_gone_is_not_asked_for() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.hear_votes(N, 1, [2], made.hash)
    stage.hear(stage.proposal(made))
    stage.pass_ms(DELTA_MS)
    assert asks(stage) == []
    assert stage.state.fetches == {}


def log_of(stage: Stage, count: int) -> list[Made]:
    made = [GENESIS]
    for view in range(1, count + 1):
        made.append(stage.make(view, made[-1], (stage.submission(),)))
    return made[1:]


def test_r9_a_long_gap_is_closed_by_consecutive_blocks_and_the_fc_on_the_last() -> None:
    stage = Stage()
    made = log_of(stage, 20)
    blocks = tuple(block.block for block in made)
    stage.hear(Blocks(blocks=blocks, finality=stage.certificate(F, 20, made[-1].hash)))
    assert len(stage.device.disk.log) == 20
    assert stage.state.cur == 21


@pytest.mark.parametrize("fault", ["hole", "no fc", "fc on another"])
def test_r9_an_answer_that_does_not_fit_is_dropped(fault: str) -> None:
    stage = Stage()
    made = log_of(stage, 3)
    blocks = [block.block for block in made]
    finality = stage.certificate(F, 3, made[-1].hash)
    if fault == "hole":
        del blocks[1]
    stage.hear(
        Blocks(
            blocks=tuple(blocks),
            finality={"hole": finality, "no fc": None}.get(fault, stage.certificate(F, 3, made[0].hash)),
        )
    )
    assert stage.device.disk.log == []
    assert stage.state.final_view == 0


def test_r9_long_gap_also_by_hash_when_blocks_are_not_answered() -> None:
    """Blocks up to the next FC may be too many or too large for one answer: then one by one, down from the FC."""
    stage = Stage()
    made = log_of(stage, 3)
    stage.finalize(made[-1])
    by_hash = {block.hash: block.block for block in made}
    for _ in range(200):
        stage.pass_ms(DELTA_MS)
        for to, ask in asks(stage):
            if isinstance(ask, AskBlock):
                stage.hear(by_hash[ask.hash], sender=stage.names.index(str(to)))
    assert len(stage.device.disk.log) == 3


def test_r9_a_block_that_nobody_certified_or_proposed_is_dropped() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.hear(made.block)
    assert made.hash not in stage.state.headers
    assert len(stage.state.pool) == 0


def test_r9_bytes_for_a_block_bypass_the_slot_of_the_pool() -> None:
    """Scenario `two bodies`: another content under the same (origin, seq) stands in the pool."""
    stage = Stage()
    stage.work("one content")
    stage._sequence -= 1
    other = stage.submission("other content")
    made = stage.make(1, GENESIS, (other,))
    stage.hear(stage.proposal(made))
    assert stage.signed(N) == []
    stage.hear(SubmissionItem(raw=other.raw))
    assert stage.signed(N) == [made.hash]


def test_r9_without_a_block_the_slot_holds_one_content() -> None:
    stage = Stage()
    stage.work("one content")
    stage._sequence -= 1
    stage.work("other content")
    assert len(stage.state.pool.pending) == 1


def test_r9_answers_certificates_from_a_view_on_newest_fc_first() -> None:
    stage = Stage()
    final = stage.commit(1)
    made = stage.make(2, final)
    stage.give(made)
    stage.notarize(made)
    stage.skip_to(5)
    stage.take_left()
    stage.hear(AskCertificates(view=1), sender=3)
    answered = [
        (left.to, left.payload.kind, left.payload.number)
        for left in stage.take_left()
        if isinstance(left.payload, Certificate)
    ]
    assert answered == [("dev-3", F, 1), ("dev-3", N, 2), ("dev-3", K, 3), ("dev-3", K, 4)]


def test_r9_who_does_not_vote_asks_for_bodies_when_they_are_final() -> None:
    """N, F and proposals are the reasons to have them before (ADR 0019)."""
    observer, voter = Stage(me=4), Stage()
    for stage in (observer, voter):
        made = stage.make(1, GENESIS, (stage.submission(),))
        stage.hear(stage.proposal(made), sender=1)
        stage.hear(stage.certificate(N, 1, made.hash))
        stage.pass_ms(10 * DELTA_MS)
    wanted = AskSubmissions(ids=made.header.submissions)
    assert wanted in [ask for _, ask in asks(voter)]
    assert wanted not in [ask for _, ask in asks(observer)]
    observer.hear(observer.certificate(F, 1, made.hash))
    observer.pass_ms(DELTA_MS)
    assert wanted in [ask for _, ask in asks(observer)]


def test_r9_answers_blocks_and_submissions_from_memory_and_from_the_store() -> None:
    stage = Stage()
    final = stage.commit(1)
    made = stage.make(2, final, (stage.submission(),))
    stage.give(made)
    stage.take_left()
    for block in (final, made):
        stage.hear(AskBlock(hash=block.hash), sender=3)
        assert block.block in [left.payload for left in stage.take_left() if left.to == "dev-3"]
        stage.hear(AskSubmissions(ids=block.header.submissions), sender=3)
        (answer,) = stage.take_left()
        assert answer.payload == SubmissionItem(raw=block.submissions[0].raw)
    stage.hear(AskBlocks(height=1), sender=3)
    (blocks,) = [left.payload for left in stage.take_left() if isinstance(left.payload, Blocks)]
    assert blocks.blocks == (Block(header=final.header, submissions=final.block.submissions),)


def test_r9_a_device_alone_asks_nobody_and_does_not_spin() -> None:
    stage = Stage(n=1)
    stage.hear(Beat(7, 5, None), sender=9)
    stage.pass_ms(10_000)
    assert len(asks(stage)) < 40
