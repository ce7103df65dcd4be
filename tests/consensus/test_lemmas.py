"""PROTOCOL section 4: the six lemmas, held by the core in every order of events, and checkers that see each broken.

`Every order` is meant literally: a device is led through all permutations of a handful of events, with restarts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from swarm.wire.statements import Kind, SignedStatement
from tests.support.adversary import Adversary
from tests.support.agreement import (
    World,
    certifiable,
    check_agreement,
    check_lemmas,
    check_logs,
    check_one_vote_per_view,
)
from tests.support.chaos import complaints_of, world_of
from tests.support.stage import GENESIS, T_VIEW_MS, A, F, K, Made, N, P, Stage

Event = Callable[[Stage, list[Made]], None]

EVENTS: dict[str, Event] = {
    "proposal": lambda s, made: s.give(made[0]),
    "other proposal": lambda s, made: s.give(made[1]),
    "vc": lambda s, made: s.notarize(made[0]),
    "work": lambda s, made: s.inputs_of(made[2]),
    "t_view": lambda s, _: s.pass_ms(T_VIEW_MS),
    "restart": lambda s, _: s.restart(),
}


def histories() -> Iterator[tuple[list[str], Stage]]:
    """Return a device after every order of the events of view 1, with its statements."""
    for order in itertools.permutations(EVENTS):
        stage = Stage()
        made = [stage.make(1, GENESIS, (stage.submission(f"{i}"),)) for i in range(3)]
        for name in order:
            EVENTS[name](stage, made)
        stage.pass_ms(2 * T_VIEW_MS)
        yield list(order), stage


def test_lemma_1_no_order_of_events_makes_f_and_k_of_one_view() -> None:
    skipped = finalized = 0
    for order, stage in histories():
        assert check_one_vote_per_view(stage.device.disk.statements) == [], order
        skipped += 1 in stage.signed_views(K)
        finalized += 1 in stage.signed_views(F)
    assert skipped > 50
    assert finalized > 50


def test_lemma_2_no_order_of_events_makes_two_n_of_one_view() -> None:
    both = 0
    for order, stage in histories():
        assert len(stage.signed(N, 1)) <= 1, order
        both += bool(stage.signed(N, 1))
    assert both > 100


def test_lemma_3_f_only_with_a_stored_vc() -> None:
    for order, stage in histories():
        stored = [(c.number, c.digest) for c in stage.device.disk.certificates if c.kind == N]
        for view, digest in zip(stage.signed_views(F), stage.signed(F), strict=True):
            assert (view, digest) in stored, order


def test_lemma_4_one_fc_per_view_whatever_the_leader_says() -> None:
    for seed in range(30):
        adversary = Adversary(4, "balanced", seed)
        adversary.run(200)
        views = [view for view, _ in certifiable(world_of(adversary.cluster), F)]
        assert len(views) == len(set(views))


def test_lemma_5_every_ancestor_of_a_notarized_block_is_notarized() -> None:
    notarized = 0
    for seed in range(30):
        adversary = Adversary(4, "balanced", seed)
        complaints = adversary.run(200)
        assert [c for c in complaints if c.startswith("lemma 5")] == []
        notarized += len(certifiable(world_of(adversary.cluster), N))
    assert notarized >= 25, "the runs have something to judge"


@pytest.mark.parametrize(
    ("n", "budget"), [(2, "balanced"), (4, "balanced"), (5, "balanced"), (7, "majority")]
)
def test_lemma_6_no_two_finalized_blocks_that_are_not_in_one_chain(n: int, budget: str) -> None:
    finals = 0
    for seed in range(1_000, 1_020):
        adversary = Adversary(n, budget, seed)
        assert adversary.run(250) == []
        finals += len(certifiable(world_of(adversary.cluster), F))
    assert finals > 0


# ------------------------------------------------------------------------------------------ the checkers see


def world(*statements: SignedStatement, made: list[Made], q: int = 2, liars: int = 0) -> World:
    headers = {block.hash: block.header for block in made}
    return World(q=q, liars=liars, genesis=GENESIS.hash, statements=statements, headers=headers)


def votes(
    stage: Stage, kind: Kind, view: int, voters: list[int], digest: bytes = bytes(32)
) -> list[SignedStatement]:
    return [stage.vote(kind, view, voter, digest) for voter in voters]


def two_branches(stage: Stage) -> tuple[Made, Made]:
    return stage.make(1), stage.make(2)


def test_the_checkers_accept_a_chain() -> None:
    stage = Stage()
    low = stage.make(1)
    high = stage.make(3, low)
    statements = [
        *votes(stage, N, 1, [0, 1], low.hash),
        *votes(stage, F, 1, [0, 1], low.hash),
        *votes(stage, K, 2, [0, 1]),
        *votes(stage, N, 3, [0, 1], high.hash),
        *votes(stage, F, 3, [0, 1], high.hash),
    ]
    whole = world(*statements, made=[low, high])
    assert (check_agreement(whole), check_lemmas(whole), check_one_vote_per_view(statements)) == ([], [], [])


def test_the_checkers_see_a_fork() -> None:
    stage = Stage()
    low, high = two_branches(stage)
    broken = world(
        *votes(stage, F, 1, [0, 1], low.hash), *votes(stage, F, 2, [0, 1], high.hash), made=[low, high]
    )
    assert len(check_agreement(broken)) == 1


def test_the_checkers_see_a_fork_that_the_liars_complete() -> None:
    stage = Stage()
    low, high = two_branches(stage)
    statements = [*votes(stage, F, 1, [0], low.hash), *votes(stage, F, 2, [1], high.hash)]
    assert check_agreement(world(*statements, made=[low, high], liars=0)) == []
    assert len(check_agreement(world(*statements, made=[low, high], liars=1))) == 1


def test_the_checkers_see_each_lemma_broken() -> None:
    stage = Stage()
    low, high = two_branches(stage)
    child = stage.make(3, low)
    cases = {
        "lemma 1": [*votes(stage, F, 1, [0, 1], low.hash), *votes(stage, K, 1, [0, 1])],
        "lemma 2": [*votes(stage, N, 1, [0, 1], low.hash), *votes(stage, N, 1, [0, 1], high.hash)],
        "lemma 3": votes(stage, F, 1, [0, 1], low.hash),
        "lemma 4": [*votes(stage, F, 1, [0, 1], low.hash), *votes(stage, F, 1, [0, 1], high.hash)],
        "lemma 5": votes(stage, N, 3, [0, 1], child.hash),
    }
    for lemma, statements in cases.items():
        complaints = check_lemmas(world(*statements, made=[low, high, child]))
        assert any(complaint.startswith(lemma) for complaint in complaints), lemma


@pytest.mark.parametrize(("one", "two"), [(N, N), (P, P), (F, F), (F, K)])
def test_the_checkers_see_a_voter_that_contradicts_itself(one: Kind, two: Kind) -> None:
    stage = Stage()
    pair = [stage.vote(one, 1, 2, b"x" * 32), stage.vote(two, 1, 2, bytes(32) if two == K else b"y" * 32)]
    assert len(check_one_vote_per_view(pair)) == 1


def test_the_checkers_accept_pairs_that_convict_nobody() -> None:
    stage = Stage()
    pairs = [stage.vote(N, 1, 2, b"x" * 32), stage.vote(K, 1, 2), stage.vote(A, 1, 2, b"x" * 32)]
    pairs += [stage.vote(N, 2, 2, b"x" * 32), stage.vote(F, 2, 2, b"y" * 32), stage.vote(A, 1, 2, b"y" * 32)]
    assert check_one_vote_per_view(pairs) == []


def test_the_checkers_see_two_logs() -> None:
    assert check_logs([[b"a", b"b"], [b"a"], []]) == []
    assert check_logs([[b"a", b"b"], [b"b"]]) != []


def test_the_checkers_are_asked_about_whole_runs() -> None:
    adversary = Adversary(4, "balanced", 1)
    adversary.run(50)
    correct = min(adversary.cluster.correct)
    device = adversary.cluster.devices[correct]
    stage = Stage()
    device.disk.statements += [stage.vote(N, 900, correct, bytes([i]) * 32) for i in range(2)]
    assert complaints_of(adversary.cluster) != []
