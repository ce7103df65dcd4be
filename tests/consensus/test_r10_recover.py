"""PROTOCOL R10, the core's part: replay through the live path, own statements counted again, nothing signed twice."""

from __future__ import annotations

from swarm.primitives.ids import ZERO_DIGEST
from swarm.wire.messages import AskBlock, Block, Proposal, SubmissionItem
from swarm.wire.statements import SignedStatement
from tests.support.cluster import Cluster
from tests.support.stage import DELTA_MS, GENESIS, T_VOTE_MS, A, F, K, N, P, Stage


def test_r10_own_statements_re_enter_the_own_tally() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.restart()
    stage.hear_votes(N, 1, [1, 2], made.hash)
    assert stage.state.cur == 2, "two of others and the own one of the earlier life"


def test_r10_the_frontier_survives() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.notarize(made)
    stage.skip_to(4)
    stage.restart()
    assert stage.state.cur == 4
    stage.finalize(made)
    assert len(stage.log_ids()) == 1


def test_r10_the_log_survives_and_is_not_delivered_again() -> None:
    stage = Stage()
    made = stage.commit(2, stage.commit(1))
    stage.restart()
    state = stage.state
    assert (state.delivered_height, state.final_view, state.final_hash) == (2, 2, made.hash)
    assert len(stage.device.disk.log) == 2
    stage.commit(3, made)
    assert len(stage.device.disk.log) == 3


def test_r10_an_fc_without_bytes_is_remembered() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.finalize(made)
    stage.restart()
    assert (stage.state.final_view, stage.state.delivered_view) == (1, 0)
    stage.hear(made.block)
    assert len(stage.log_ids()) == 1


def test_r10_stored_own_proposal_statements_and_submissions_are_published_again_once() -> None:
    stage = Stage()
    own = stage.submit()
    stage.skip_to(4)
    assert stage.signed_views(P) == stage.signed_views(N) == [4]
    before = list(stage.device.disk.statements)
    stage.take_left()
    stage.restart()
    left = [leaving.payload for leaving in stage.take_left()]
    assert [p.header.view for p in left if isinstance(p, Proposal)] == [4]
    assert [p for p in left if isinstance(p, SignedStatement)] == [s for s in before if s.kind == N]
    assert [p for p in left if isinstance(p, SubmissionItem)] == [SubmissionItem(raw=own.raw)]
    stage.pass_ms(DELTA_MS // 2)
    assert stage.take_left() == []
    assert stage.device.disk.statements == before, "re-publishing sends stored bytes, it never signs"


def test_r10_what_was_notarized_is_served_after_a_restart() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.give(made)
    stage.restart()
    stage.take_left()
    stage.hear(AskBlock(hash=made.hash), sender=3)
    assert [p.payload for p in stage.take_left() if isinstance(p.payload, Block)] == [made.block]


def test_r10_the_turn_of_an_f_stores_f_vc_and_bytes_together() -> None:
    stage = Stage()
    made = stage.make(1, GENESIS, (stage.submission(),))
    stage.hear(stage.proposal(made))
    stage.notarize(made)
    before = len(stage.device.disk.certificates)
    stage.hear(SubmissionItem(raw=made.submissions[0].raw))
    assert before == 1, "a certificate that moved cur is durable in its own turn"
    assert stage.signed_views(F) == [1]
    assert made.hash in stage.device.disk.blocks


def test_r10_every_certificate_that_moved_cur_is_durable() -> None:
    stage = Stage()
    stage.hear_votes(K, 1, [1, 2, 3])
    stage.hear(stage.certificate(K, 2))
    stage.hear(stage.certificate(F, 5, b"x" * 32))
    assert [(chr(c.kind), c.number) for c in stage.device.disk.certificates] == [("K", 1), ("K", 2), ("F", 5)]


def test_r10_no_statement_is_wanted_twice_at_any_crash_point() -> None:
    """Restart after every single message of a commit: the guard of the harness raises on a second signature."""
    length = 40
    for crash_at in range(length):
        cluster = Cluster(4)
        submission = cluster.submit(0, "x")
        for step in range(length):
            if step == crash_at:
                for device in range(4):
                    cluster.crash(device)
                    cluster.restart(device)
            if cluster.pending:
                cluster.take(cluster.pending.pop(0))
        cluster.settle(5_000)
        assert cluster.has_final(submission)


def test_r10_the_timers_start_anew() -> None:
    stage = Stage()
    stage.submit()
    stage.pass_ms(T_VOTE_MS - 1)
    stage.restart()
    stage.pass_ms(T_VOTE_MS - 1)
    assert stage.signed(K) == []
    stage.pass_ms(1)
    assert stage.signed_views(K) == [1]


def test_r10_the_last_attestation_survives() -> None:
    stage = Stage()
    stage.commit(1)
    attested = [s for s in stage.device.disk.statements if s.kind == A]
    stage.restart()
    assert stage.state.own_attest == attested[-1]
    assert [s for s in stage.device.disk.statements if s.kind == A] == attested
    assert attested[-1].digest != ZERO_DIGEST
