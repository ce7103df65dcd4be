"""Chaos, then none: every submission becomes final everywhere, then the swarm is silent; and what a commit costs."""

from __future__ import annotations

import random
from functools import partial

import pytest

from tests.support.chaos import Plan, complaints_of, run_chaos
from tests.support.cluster import Cluster, Network
from tests.support.two_faced import TwoFaced

PRESETS = ("balanced", "majority", "crash")
MODES: dict[str, dict[str, float | int | tuple[int, int]]] = {
    "mild": {},
    "lossy": {"loss": 0.3, "duplicate": 0.2, "delay_ms": (5, 150)},
    "dying": {"die": 0.03, "crash": 0.1},
    "slow": {"delay_ms": (60, 200)},
    "observed": {"observers": 2, "die": 0.02},
}
DELAY_MS = 20


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("budget", PRESETS)
@pytest.mark.parametrize("mode", sorted(MODES))
def test_after_the_faults_everything_is_final_and_then_silent(n: int, budget: str, mode: str) -> None:
    for seed in range(2 if n < 7 else 1):
        plan = Plan(n=n, budget=budget, seed=seed, **MODES[mode])  # type: ignore[arg-type]
        report = run_chaos(plan)
        assert report.complaints == []
        assert len(report.submissions) > 3
        assert report.all_final, f"{plan}: stuck"
        assert report.quiet, f"{plan}: not silent"


@pytest.mark.parametrize(
    ("budget", "seed"),
    [("balanced", 132), ("majority", 132)],
)
def test_seeds_that_once_got_stuck(budget: str, seed: int) -> None:
    """An observer held every VC up to cur but not the FC; asked from cur on, nobody had an answer."""
    report = run_chaos(Plan(n=3, budget=budget, seed=seed, observers=2, die=0.02))
    assert report.all_final
    assert report.quiet


@pytest.mark.parametrize(("n", "publishes_max"), [(3, 20), (4, 27), (7, 43), (10, 62)])
def test_a_commit_costs_no_more_than_the_prototype(n: int, publishes_max: int) -> None:
    """Lossless, one submission at a time: 3.2 to 4.4 delays, and at most the publishes that were measured there."""
    network = Network(random.Random(1), (DELAY_MS, DELAY_MS))
    cluster = Cluster(n, network=network, delta_ms=3 * DELAY_MS)
    delays: list[float] = []
    rounds = 20
    for i in range(rounds):
        origin = (i * 7) % n
        since_ms = cluster.now_ms
        submission = cluster.submit(origin, f"{i}")
        cluster.run_until(since_ms + 5_000, stop=partial(cluster.has_final, submission, [origin]))
        delays.append((cluster.now_ms - since_ms) / DELAY_MS)
        cluster.run_until(cluster.now_ms + 1_000)
        assert cluster.is_quiet()
    assert 3.0 <= sum(delays) / rounds <= 4.4
    assert max(delays) <= 5.0
    assert cluster.published / rounds <= publishes_max
    assert cluster.devices[0].up.state.cur == rounds + 1, "one view a commit"


@pytest.mark.parametrize(
    ("n", "budget"), [(4, "balanced"), (5, "balanced"), (7, "balanced"), (7, "majority")]
)
def test_liars_that_say_something_else_to_everybody_stop_nothing(n: int, budget: str) -> None:
    """min(u, r) two-faced voters for ever: every submission of a correct device becomes final all the same."""
    for seed in range(6):
        rng = random.Random(seed)
        cluster = Cluster(n, budget, network=Network(rng, (5, 25)), beats=True)
        bounds = cluster.devices[0].config.budget
        cluster.byzantine = set(rng.sample(range(n), min(bounds.u, bounds.r)))
        cluster.on_byzantine = TwoFaced(cluster, rng).hear
        for i in range(8):
            submission = cluster.submit(rng.choice(cluster.correct), f"{i}")
            since_ms = cluster.now_ms
            cluster.run_until(since_ms + 20_000, stop=partial(cluster.has_final, submission))
            assert cluster.has_final(submission), f"seed {seed}: stuck"
        assert complaints_of(cluster) == []
        accused = {one.voter for i in cluster.correct for one, _ in cluster.devices[i].evidence}
        assert accused == cluster.byzantine


def test_two_runs_of_one_seed_are_one_run() -> None:
    digests = []
    for _ in range(2):
        report = run_chaos(Plan(n=4, budget="balanced", seed=5, die=0.02))
        digests.append(
            (
                report.cluster.published,
                report.cluster.now_ms,
                [len(d.disk.statements) for d in report.cluster.devices],
            )
        )
    other = run_chaos(Plan(n=4, budget="balanced", seed=6, die=0.02))
    assert digests[0] == digests[1]
    assert digests[0][1] != other.cluster.now_ms
