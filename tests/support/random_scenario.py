"""Random scenarios for the simulator: any budget, any faults for a while, then healed; a function of the seed."""

from __future__ import annotations

from random import Random

from swarm.primitives.quorum import budget_of

WORK_ENDS_MS = 14_000
FAULTS_END_MS = 12_000
DURATION_MS = 50_000


def random_scenario(seed: int) -> str:
    """Return the YAML of a scenario whose faults end and whose dead voters are at most u."""
    random = Random(seed)
    n = random.choice([1, 2, 3, 4, 5, 7])
    preset = random.choice(["balanced", "majority", "crash"])
    voters = [f"dev-{index}" for index in range(n)]
    lines, down = _faults(random, voters)
    lines.append(f"{{at: {FAULTS_END_MS}ms, heal: all}}")
    may_stay_down = budget_of(n, preset).u
    for device in sorted(down):
        if may_stay_down and random.random() < 0.4:
            may_stay_down -= 1
        else:
            lines.append(f"{{at: {FAULTS_END_MS + 100}ms, restart: [{device}]}}")
    faults = "\n".join(f"  - {line}" for line in lines)
    latency = f"{{median: {random.choice([2, 15])}ms, p99: {random.choice([20, 150])}ms}}"
    network = (
        f"{{latency: {latency}, loss: {random.choice([0, 0.02, 0.1])}, "
        f"duplicate: {random.choice([0, 0.05])}, reorder: {random.choice([0, 0.1])}}}"
    )
    return f"""
name: random
description: random faults, then peace
seed: {seed}
duration: {DURATION_MS}ms
devices: {{voters: {n}, observers: {random.choice([0, 1])}, behaviour: {{kind: thermostat, noise: 0.4}}}}
budget: {preset}
network: {network}
faults:
{faults}
workload:
  - {{every: 400ms, decide: {{subject: temperature, rule: median, scale: 2, deadline: 2s}}}}
  - {{every: 300ms, submit: {{bytes: 50, commands: 2}}}}
"""


def _faults(random: Random, voters: list[str]) -> tuple[list[str], set[str]]:
    lines: list[str] = []
    down: set[str] = set()
    at_ms = 500
    while (at_ms := at_ms + random.randrange(200, 2000)) < FAULTS_END_MS:
        kind = random.choice(["crash", "restart", "partition", "cut", "heal"])
        if kind == "crash" and (up := [v for v in voters if v not in down]):
            device = random.choice(up)
            down.add(device)
            lines.append(f"{{at: {at_ms}ms, crash: [{device}]}}")
        elif kind == "restart" and down:
            device = random.choice(sorted(down))
            down.discard(device)
            lines.append(f"{{at: {at_ms}ms, restart: [{device}]}}")
        elif kind == "partition" and len(voters) > 1:
            mixed = random.sample(voters, len(voters))
            cut = random.randrange(1, len(voters))
            lines.append(
                f"{{at: {at_ms}ms, partition: [[{', '.join(mixed[:cut])}], [{', '.join(mixed[cut:])}]]}}"
            )
        elif kind == "cut" and len(voters) > 1:
            sender, receiver = random.sample(voters, 2)
            lines.append(f"{{at: {at_ms}ms, cut: {{from: {sender}, to: [{receiver}]}}}}")
        elif kind == "heal":
            lines.append(f"{{at: {at_ms}ms, heal: all}}")
    return lines, down
