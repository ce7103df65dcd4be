"""Random rollouts in which everything fails: crashes, power cuts, partitions, bad images, a lying device.

    python -m swarm.lab.scenario.chaos --seeds 0..199

Each seed makes one scenario: a swarm, a release, a plan, faults for a minute, then peace. Whatever happened, every rule
of the rollout and of the log must hold, and at the end every plan has ended and the log believes what is true. A seed
that fails is printed with the command that runs it again; `--write FILE` keeps its scenario.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.result import HELD, Result
from swarm.primitives.quorum import budget_of
from swarm.primitives.version import VERSION

FAULTS_FROM_MS: Final = 3_000
FAULTS_END_MS: Final = 60_000
DURATION_MS: Final = 240_000
"""Long enough after the last fault for the deadlines of a plan, one after the other."""

_PLAN: Final = "soak: 1s, deadline: 20s, trial: 8s, retries: 1"
_BEHAVIOURS: Final = ("healthy", "healthy", "healthy", "crash", "hang", "brick", "lie", "{bomb: 12s}")
_ATTACKS: Final = (
    "",
    "lying-canary",
    "lying-canary",
    "blocking-canary",
    "permit-hoarder",
    "repeated-reports",
    "votes-always",
    "refuses",
)
_CUTS: Final = ("", "fetch", "arm", "swap", "confirm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one seed; `broken` is empty where everything held."""

    seed: int
    broken: tuple[str, ...]
    state: str
    running: int
    wall_s: float

    def line(self) -> str:
        """Return the line that the command prints."""
        word = "held" if not self.broken else "VIOLATED " + "; ".join(self.broken)
        return f"seed {self.seed}: {self.state}, {self.running} devices updated, {self.wall_s:.1f} s, {word}"


# ------------------------------------------------------------------------------------------ the scenario


def chaos_scenario(seed: int) -> str:
    """Return the YAML of one random rollout, a function of the seed."""
    random = Random(f"chaos/{seed}")
    n = random.choice([4, 4, 5, 7])
    preset = random.choice(["balanced", "balanced", "majority"]) if n > 4 else "balanced"
    voters = [f"dev-{index}" for index in range(n)]
    observers = random.randrange(5)
    devices = [*voters, *(f"obs-{index}" for index in range(observers))]
    budget = budget_of(n, preset)
    liar = random.choice(voters) if budget.r else ""
    attack = random.choice(_ATTACKS) if liar else ""
    lines = [] if not attack else [f"{{at: 0s, byzantine: {{device: {liar}, attack: {attack}}}}}"]
    lines += _faults(random, voters, devices)
    hold_back = random.choice(["", f", hold_back: {random.randrange(n + 1)}"])
    loss = random.choice([0, 0, 0.02, 0.1])
    network = f"loss: {loss}, duplicate: {random.choice([0, 0.1])}, reorder: {random.choice([0, 0.2])}"
    faults = "\n".join(f"  - {line}" for line in lines)
    work = "\n".join(f"  - {line}" for line in _orders(random, hold_back))
    return f"""
name: firmware-chaos
description: a rollout in which everything fails for a minute, then peace
seed: {seed}
duration: {DURATION_MS}ms
devices: {{voters: {n}, observers: {observers}, operators: 1}}
budget: {preset}
network: {{latency: {{median: {random.choice([5, 15])}ms, p99: {random.choice([40, 150])}ms}}, {network}}}
firmware:
  release:
    v2: {{behaves: {random.choice(_BEHAVIOURS)}, bytes: {random.choice([6_000, 12_000, 30_000])}}}
    v3: {{behaves: healthy, number: 3}}
faults:
{faults}
workload:
  - {{rate: 0.5/s, submit: {{bytes: 30}}}}
{work}
"""


def _orders(random: Random, hold_back: str) -> Iterator[str]:
    yield "{at: 500ms, firmware: {propose: v2}}"
    yield "{at: 1s, firmware: {approve: v2}}"
    steps = random.choice(["", ", steps: [{voters: 1}, {observers: 50%}]", ", steps: [{observers: 1}]"])
    yield f"{{at: 2s, firmware: {{plan: {{release: v2, {_PLAN}{steps}{hold_back}}}}}}}"
    at_ms = FAULTS_FROM_MS
    while (at_ms := at_ms + random.randrange(8_000, 40_000)) < FAULTS_END_MS + 20_000:
        what = random.choice(["halt", "resume", "resume", "rollback", "abandon", "revoke"])
        yield f"{{at: {at_ms}ms, firmware: {{{what}: v2}}}}"
    if random.random() < 0.3:
        yield "{at: 70s, firmware: {propose: v3}}"
        yield "{at: 71s, firmware: {approve: v3}}"
        yield f"{{at: 72s, firmware: {{plan: {{release: v3, {_PLAN}}}}}}}"


def _faults(random: Random, voters: list[str], devices: list[str]) -> Iterator[str]:
    """Yield faults, and then what ends them: the network healed, every power taken and given once."""
    down: list[str] = []
    at_ms = FAULTS_FROM_MS
    while (at_ms := at_ms + random.randrange(500, 8_000)) < FAULTS_END_MS:
        kind = random.choice(["power_cut", "power_cut", "power_cut", "crash", "restart", "partition", "heal"])
        up = [device for device in devices if device not in down]
        if kind == "power_cut":
            during = random.choice(_CUTS)
            where = f", during: {during}" if during else ""
            off_ms = random.choice([200, 1_000, 5_000])
            yield f"{{at: {at_ms}ms, power_cut: [{random.choice(devices)}]{where}, for: {off_ms}ms}}"
        elif kind == "crash" and up:
            down.append(random.choice(up))
            yield f"{{at: {at_ms}ms, crash: [{down[-1]}]}}"
        elif kind == "restart" and down:
            yield f"{{at: {at_ms}ms, restart: [{down.pop(random.randrange(len(down)))}]}}"
        elif kind == "partition":
            mixed = random.sample(devices, len(devices))
            cut = random.randrange(1, len(mixed))
            yield f"{{at: {at_ms}ms, partition: [[{', '.join(mixed[:cut])}], [{', '.join(mixed[cut:])}]]}}"
        elif kind == "heal":
            yield f"{{at: {at_ms}ms, heal: all}}"
    yield f"{{at: {FAULTS_END_MS}ms, heal: all}}"
    for device in down:
        yield f"{{at: {FAULTS_END_MS}ms, restart: [{device}]}}"
    for index, device in enumerate(voters):
        # A brick ends with its power; one voter at a time, so that the log lives on.
        yield f"{{at: {FAULTS_END_MS + 1_000 + 4_000 * index}ms, power_cut: [{device}], for: 500ms}}"


# ------------------------------------------------------------------------------------------ the run


def run_seed(seed: int) -> Outcome:
    """Run the scenario of one seed and judge it."""
    # Imported here: worker processes need it, the parent does not.
    from swarm.lab.sim.run import run_sim

    began = time.monotonic()
    result = run_sim(parse_scenario(chaos_scenario(seed), f"seed {seed}"), version=VERSION)
    return outcome_of(seed, result, time.monotonic() - began)


def outcome_of(seed: int, result: Result, wall_s: float) -> Outcome:
    """Return what a result says about its seed."""
    broken = [f"{name} {state}" for name, state in result.invariants.items() if state != HELD]
    firmware = result.firmware
    plans = () if firmware is None else firmware.plans
    devices = {} if firmware is None else firmware.devices
    return Outcome(
        seed=seed,
        broken=tuple(broken),
        state=plans[-1].state if plans else "nothing planned",
        running=sum(row.version == "v2" for row in devices.values()),
        wall_s=wall_s,
    )


def run_seeds(seeds: Iterable[int], workers: int) -> Iterator[Outcome]:
    """Yield the outcomes in the order of the seeds; with more than one worker in processes of their own."""
    if workers <= 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(run_seed, seeds)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when every seed held, 1 when one did not, 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m swarm.lab.scenario.chaos", description="random rollouts")
    parser.add_argument("--seeds", default="0..199", help="A..B, both included, or one number")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at one time")
    parser.add_argument(
        "--write", type=Path, help="write the scenario of the first seed there and run nothing"
    )
    options = parser.parse_args(arguments)
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", options.seeds)
    if match is None:
        parser.error(f"--seeds {options.seeds!r} is neither A..B nor a number")
    first, last = int(match[1]), int(match[2] or match[1])
    if options.write is not None:
        options.write.write_text(chaos_scenario(first), encoding="utf-8")
        return 0
    began, bad = time.monotonic(), 0
    states: dict[str, int] = {}
    for outcome in run_seeds(range(first, last + 1), options.workers):
        states[outcome.state] = states.get(outcome.state, 0) + 1
        print(outcome.line(), flush=True)
        if outcome.broken:
            bad += 1
            print(f"  again: python -m swarm.lab.scenario.chaos --seeds {outcome.seed}", flush=True)
    ends = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"{last - first + 1} seeds, {bad} with a violation, {time.monotonic() - began:.0f} s: {ends}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
