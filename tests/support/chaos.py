"""Seeded chaos on the cluster harness: faults for a while, then none; afterwards everything must become final and quiet.

A run is a function of its `Plan` alone. The checkers of `agreement` look at every run, also at one that got stuck.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

from swarm.wire.messages import Submission
from swarm.wire.statements import Header, SignedStatement, genesis_header, header_hash
from tests.support.agreement import World, check_agreement, check_lemmas, check_logs, check_one_vote_per_view
from tests.support.cluster import Cluster, Network
from tests.support.fake_signatures import SWARM_ID

GENESIS = header_hash(genesis_header(SWARM_ID))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens in a run; times in ms, probabilities from 0 to 1."""

    n: int
    budget: str | int
    seed: int
    chaos_ms: int = 5_000
    loss: float = 0.05
    duplicate: float = 0.05
    delay_ms: tuple[int, int] = (5, 40)
    crash: float = 0.2
    """Of all acts of the script, the rest are submissions."""
    partition: float = 0.1
    die: float = 0.0
    """Probability that a turn is the last before a crash that loses its messages."""
    silent: bool = True
    """One voter goes down for ever where the budget allows it."""
    observers: int = 0
    healing_ms: int = 60_000


@dataclass(slots=True)
class Report:
    """What a run ended with."""

    cluster: Cluster
    submissions: list[Submission]
    final_after_ms: int
    """From the end of the faults until everything was final everywhere."""
    all_final: bool
    quiet: bool
    complaints: list[str]


def run_chaos(plan: Plan) -> Report:
    """Play the plan: chaos, then healing, then silence."""
    rng = random.Random(plan.seed * 1_000_003 + plan.n)
    network = Network(rng, plan.delay_ms, plan.loss, plan.duplicate)
    cluster = Cluster(plan.n, plan.budget, observers=plan.observers, network=network, beats=True)
    submissions, gone = _faults(plan, rng, cluster, network)
    network.loss = network.duplicate = 0.0
    network.cut = lambda _source, _target: False
    cluster.dies_before_sending = None
    healed_ms = cluster.now_ms
    for i in range(plan.n + plan.observers):
        if cluster.devices[i].replica is None and i not in gone:
            cluster.restart(i)
    wanted = [s for s in submissions if survives(cluster, s)]
    cluster.run_until(healed_ms + plan.healing_ms, stop=lambda: all(cluster.has_final(s) for s in wanted))
    final_ms = cluster.now_ms
    all_final = all(cluster.has_final(s) for s in wanted)
    cluster.run_until(final_ms + 2_000)
    cluster.run_until(final_ms + plan.healing_ms, stop=cluster.is_quiet)
    return Report(
        cluster, submissions, final_ms - healed_ms, all_final, cluster.is_quiet(), complaints_of(cluster)
    )


def _faults(
    plan: Plan, rng: random.Random, cluster: Cluster, network: Network
) -> tuple[list[Submission], set[int]]:
    submissions: list[Submission] = []
    u = cluster.devices[0].config.budget.u
    gone = {rng.randrange(plan.n)} if plan.silent and u else set()
    back: dict[int, int] = {}
    if plan.die:
        cluster.dies_before_sending = lambda _source: rng.random() < plan.die
    while cluster.now_ms < plan.chaos_ms:
        cluster.run_until(cluster.now_ms + rng.randint(20, 500))
        for i in range(plan.n + plan.observers):
            if cluster.devices[i].replica is None and i not in gone:
                back.setdefault(i, cluster.now_ms + rng.randint(50, 800))
            if i in back and back[i] <= cluster.now_ms:
                del back[i]
                cluster.restart(i)
        running = cluster.running
        act = rng.random()
        if act < plan.crash and running:
            cluster.crash(rng.choice(running))
        elif act < plan.crash + plan.partition:
            side = [rng.random() < 0.5 for _ in cluster.devices]
            heals_ms = cluster.now_ms + rng.randint(100, 1_500)
            network.cut = partial(_apart, cluster, side, heals_ms)
        elif running:
            submissions.append(cluster.submit(rng.choice(running), f"note {cluster.now_ms}"))
        for i in sorted(gone):
            if i in cluster.running and cluster.now_ms > plan.chaos_ms // 2:
                cluster.crash(i)
    for i in sorted(gone):
        cluster.crash(i)
    return submissions, gone


def _apart(cluster: Cluster, side: list[bool], heals_ms: int, source: int, target: int) -> bool:
    return cluster.now_ms < heals_ms and side[source] != side[target]


def survives(cluster: Cluster, submission: Submission) -> bool:
    """Answer whether a submission must become final: some device that is up has stored it, or pends it."""
    return any(
        submission.id in (s.id for s in cluster.devices[i].disk.own_submissions)
        or submission.id in cluster.devices[i].up.state.pool.pending
        or submission.id in cluster.devices[i].disk.applied_ids()
        for i in cluster.running
    )


def world_of(cluster: Cluster) -> World:
    """Return what the checkers look at: statements of correct voters, headers that any of them stored or saw."""
    headers: dict[bytes, Header] = {}
    statements: list[SignedStatement] = []
    for i in cluster.correct:
        device = cluster.devices[i]
        statements += device.disk.statements
        headers.update({digest: header for digest, (header, _) in device.disk.blocks.items()})
        headers.update({block.hash: block.header for block in device.disk.log})
        if device.replica is not None:
            headers.update(device.up.state.headers)
    headers.pop(GENESIS, None)
    q = cluster.devices[0].config.budget.q
    return World(q=q, liars=len(cluster.byzantine), genesis=GENESIS, statements=statements, headers=headers)


def complaints_of(cluster: Cluster) -> list[str]:
    """Ask every checker about a run."""
    world = world_of(cluster)
    logs = [[block.hash for block in cluster.devices[i].disk.log] for i in cluster.correct]
    return [
        *check_agreement(world),
        *check_lemmas(world),
        *check_one_vote_per_view(world.statements),
        *check_logs(logs),
    ]
