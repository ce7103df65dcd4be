"""PROTOCOL R6: certificates form from q statements of distinct voters on one kind, view and digest."""

from __future__ import annotations

import pytest

from swarm.wire.statements import Certificate, Kind
from tests.support.stage import A, F, K, Made, N, Stage


def held(stage: Stage, kind: Kind, view: int) -> Certificate | None:
    slots = stage.state.views[view]
    return {N: slots.vc, K: slots.sc, F: slots.fc}[kind]


def observer() -> Stage:
    """An observer signs nothing, so that every statement is the test's own; q = 3 of 4."""
    return Stage(me=4)


@pytest.mark.parametrize("kind", [N, K])
def test_r6_q_statements_make_a_certificate_and_fewer_do_not(kind: Kind) -> None:
    stage = observer()
    digest = bytes(32) if kind == K else b"x" * 32
    stage.hear_votes(kind, 1, [0, 2], digest)
    assert held(stage, kind, 1) is None
    stage.hear_votes(kind, 1, [3], digest)
    certificate = held(stage, kind, 1)
    assert certificate is not None
    assert [voter for voter, _ in certificate.signatures] == [0, 2, 3]
    assert stage.state.cur == 2


def test_r6_q_statements_make_an_fc_and_fewer_do_not() -> None:
    stage = observer()
    made = stage.make(1, submissions=(stage.submission(),))
    stage.give(made)
    stage.hear_votes(F, 1, [0, 2], made.hash)
    assert (stage.state.final_view, stage.log_ids()) == (0, [])
    stage.hear_votes(F, 1, [3], made.hash)
    assert stage.state.final_view == 1
    assert stage.log_ids() == list(made.header.submissions)


def test_r6_voters_are_counted_not_messages() -> None:
    stage = observer()
    for _ in range(5):
        stage.hear_votes(N, 1, [0, 2], b"x" * 32)
        stage.hear_votes(K, 1, [0, 2])
    assert (held(stage, N, 1), held(stage, K, 1)) == (None, None)


def test_r6_one_digest() -> None:
    stage = observer()
    stage.hear_votes(N, 1, [0, 2], b"x" * 32)
    stage.hear_votes(N, 1, [1, 3], b"y" * 32)
    assert held(stage, N, 1) is None


def test_r6_one_view() -> None:
    stage = observer()
    stage.hear_votes(K, 1, [0, 2])
    stage.hear_votes(K, 2, [3])
    assert (held(stage, K, 1), held(stage, K, 2)) == (None, None)


def test_r6_one_kind() -> None:
    stage = observer()
    stage.hear_votes(N, 1, [0, 2], b"x" * 32)
    stage.hear_votes(F, 1, [3], b"x" * 32)
    assert (held(stage, N, 1), held(stage, F, 1)) == (None, None)


def test_r6_the_own_statement_counts() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.give(made)
    stage.hear_votes(N, 1, [1], made.hash)
    assert stage.state.cur == 1
    stage.hear_votes(N, 1, [2], made.hash)
    assert stage.state.cur == 2


def test_r6_the_own_statement_counts_once_also_after_a_restart() -> None:
    stage = Stage()
    made = stage.make(1)
    stage.give(made)
    stage.restart()
    stage.hear(stage.vote(N, 1, 0, made.hash))
    stage.hear_votes(N, 1, [1], made.hash)
    assert held(stage, N, 1) is None


def test_r6_a_liars_second_statement_does_not_help_it() -> None:
    stage = observer()
    one: Made = stage.make(1)
    two = stage.make(1, submissions=(stage.submission(),))
    stage.hear_votes(N, 1, [0, 2], one.hash)
    stage.hear_votes(N, 1, [2, 3], two.hash)
    stage.hear_votes(N, 1, [2], one.hash)
    assert held(stage, N, 1) is None
    assert A != N
