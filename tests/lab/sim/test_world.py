"""The simulator: repeatable to the bit, quiet when idle, linear in messages, honest about what it cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from swarm.device.turn import Submit
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.result import HELD, exit_code
from swarm.lab.scenario.schema import Scenario
from swarm.lab.sim.run import run_sim
from swarm.lab.sim.world import World

SHORT = """
name: short
description: a few commits with everything that can go wrong in a network
seed: 5
duration: 4s
devices: {voters: 4, behaviour: {kind: thermostat, mean: 21.0, noise: 0.4}}
network: {latency: {median: 10ms, p99: 80ms}, loss: 0.02, duplicate: 0.05, reorder: 0.05}
faults:
  - {at: 1s, crash: [dev-1]}
  - {at: 2s, restart: [dev-1]}
workload:
  - {every: 400ms, decide: {subject: temperature, rule: median, scale: 2, deadline: 1s}}
"""

STEADY = """
name: steady
description: one submission at a time over a network with constant latency
seed: 3
duration: 6s
devices: {{voters: {n}}}
network: {{latency: {{median: 10ms, p99: 10ms}}}}
disk: {{sync: 0ms}}
clock: {{drift_ppm: 0}}
workload:
  - {{every: 500ms, submit: {{bytes: 100, commands: 1}}}}
"""


def scenario() -> Scenario:
    return parse_scenario(SHORT, "test")


def test_one_seed_gives_one_digest_and_another_seed_another() -> None:
    first = run_sim(scenario(), version="x")
    again = run_sim(scenario(), version="x")
    other = run_sim(parse_scenario(SHORT.replace("seed: 5", "seed: 6"), "test"), version="x")
    assert first.trace_digest == again.trace_digest
    assert first.trace_digest != other.trace_digest
    assert exit_code(first) == 0


def test_digest_is_equal_across_processes_with_other_hash_seeds() -> None:
    program = (
        "import sys; from swarm.lab.scenario.parse import parse_scenario; from swarm.lab.sim.run import run_sim;"
        "print(run_sim(parse_scenario(sys.stdin.read(), 'test'), version='x').trace_digest)"
    )
    digests = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=SHORT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_shared_verifications_change_nothing() -> None:
    """ADR 0011: sharing results of identical signature checks saves time and nothing else."""
    digests = set()
    for share in (True, False):
        world = World(scenario(), share_verifications=share)
        world.run_until(1500)
        digests.add(world.trace_digest)
    assert len(digests) == 1


def test_result_has_the_contract_s_fields() -> None:
    result = run_sim(scenario(), version="x")
    assert all(state == HELD for state in result.invariants.values())
    fields = json.loads(result.to_json())
    for name in [
        "scenario",
        "engine",
        "seed",
        "version",
        "duration_ms",
        "wall_s",
        "trace_digest",
        "budget",
        "devices",
        "agreement",
        "forks",
        "committed",
        "throughput_per_s",
        "commit_ms",
        "messages",
        "views",
        "convicted",
        "decisions",
        "firmware",
        "invariants",
        "expectations",
    ]:
        assert name in fields, name
    assert set(fields["devices"]) == {"dev-0", "dev-1", "dev-2", "dev-3"}
    assert fields["decisions"][0]["subject"] == "temperature"


@pytest.mark.parametrize("n", [4, 10, 25, 50])
def test_messages_per_commit_grow_linearly(n: int) -> None:
    """At most 4 n + 4 publishes a commit: a proposal, N, F and A of each voter, some certificates, heartbeats."""
    result = run_sim(parse_scenario(STEADY.format(n=n), "test"), version="x")
    per_commit = result.messages.published / result.commit_ms.count
    assert result.commit_ms.count == 11
    assert per_commit <= 4 * n + 4


@pytest.mark.parametrize("n", [4, 10, 25, 50])
def test_messages_per_commit_grow_linearly_also_with_jitter(n: int) -> None:
    """Late votes are no stragglers: answered by everybody at once they cost 9.5 n publishes a commit at n = 50 (R0)."""
    jitter = STEADY.replace("p99: 10ms", "p99: 200ms").format(n=n)
    result = run_sim(parse_scenario(jitter, "test"), version="x")
    assert result.commit_ms.count == 11
    assert result.messages.published / result.commit_ms.count <= 5 * n + 8


def test_commit_takes_four_delays_when_nothing_goes_wrong() -> None:
    """Submission, proposal, N, F: four one-way latencies of 10 ms."""
    result = run_sim(parse_scenario(STEADY.format(n=4), "test"), version="x")
    assert result.commit_ms.p50 == pytest.approx(40, abs=1)
    assert result.views.skipped == 0


def test_an_idle_swarm_publishes_heartbeats_only() -> None:
    """After the last commit the views stop: nothing is published before the next heartbeat is due."""
    world = World(parse_scenario(STEADY.format(n=4).split("workload:", maxsplit=1)[0], "test"))
    world.run_until(1000)
    for node in world.nodes.values():
        node.put(Submit("notes", b"the only one"))
    world.run_until(3000)
    heights = {state.height for state in world.final_states().values()}
    before = world.collector.traffic.published

    world.run_until(5900)

    assert len(heights) == 1
    assert heights <= {1, 2}, "four submissions at one time make one or two blocks"
    assert world.collector.traffic.published == before


def test_silent_attacker_publishes_nothing_and_commits_go_on() -> None:
    text = SHORT.replace(
        "faults:", "faults:\n  - {at: 0s, byzantine: {device: dev-3, attack: silent}}"
    ).replace("  - {at: 1s, crash: [dev-1]}\n  - {at: 2s, restart: [dev-1]}\n", "")
    sent: list[str] = []
    world = World(parse_scenario(text, "test"), on_trace=lambda event: sent.append(str(event["device"])))
    world.run_until(4000)
    result = world.collector.result(world.final_states(), version="x", wall_s=0, trace_digest=None)
    assert result.devices["dev-3"].byzantine
    assert result.committed.submissions > 5
    assert result.convicted == ()


def test_a_real_world_behaviour_is_refused_by_name() -> None:
    from swarm.primitives.errors import ConfigError

    text = SHORT.replace("kind: thermostat, mean: 21.0, noise: 0.4", "kind: file, path: /proc/loadavg")
    with pytest.raises(ConfigError, match="file"):
        run_sim(parse_scenario(text, "test"), version="x")
