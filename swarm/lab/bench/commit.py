"""What the swarm does beside the bare loop: commits at low load in turn with it, then under full load."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from swarm.lab.bench.bare_loop import BareLoopResult, measure_bare_loop
from swarm.lab.bench.figures import BareLoopFigures, percentile
from swarm.lab.bench.fleet import VOTERS, Fleet
from swarm.lab.bench.orders import Flood, Flooded, OneByOne, Times
from swarm.primitives.errors import TransportError
from swarm.primitives.limits import SUBMISSION_COMMANDS_MAX

ROUNDS: Final = 2
"""Runs at low load, each between two runs of the bare loop: what else the machine does changes from second to second."""

OUTSTANDING: Final = 64
"""Submissions on the way over all devices when throughput is measured."""

BUNDLE: Final = SUBMISSION_COMMANDS_MAX
WARM_UP_COMMITS: Final = 10
BARE_COMMITS_MAX: Final = 5_000
RUN_S_MIN: Final = 1.0
"""However little time there is: on a busy machine the warm-up of the bare loop alone takes half a second."""

_WARM_UP_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class LowLoad:
    """Commits one by one, and the bare loop around them."""

    p50_ms: float
    p99_ms: float
    bare_loop: BareLoopFigures


async def measure_low_load(
    fleet: Fleet, broker_url: str, seconds: float, on_step: Callable[[str], None]
) -> LowLoad:
    """Take turns: bare loop, commits, bare loop, and so on; `seconds` for all of it, but `RUN_S_MIN` for each run.

    Raises `TransportError` when not even one block goes round.

    The agents are idle while the bare loop runs, and cost nothing then.
    """
    # Each run of the bare loop has two phases; it gets half of the time.
    bare_s = max(RUN_S_MIN, seconds / 2 / (ROUNDS + 1) / 2)
    run_s = max(RUN_S_MIN, seconds / 2 / ROUNDS)
    times: list[int] = []
    bare: list[BareLoopResult] = []
    for number in range(ROUNDS):
        on_step(f"bare loop {number + 1} of {ROUNDS + 1}")
        bare.append(await _run_bare_loop(broker_url, bare_s))
        on_step(f"one submission at a time {number + 1} of {ROUNDS}")
        order = OneByOne(seconds=run_s, warm_up=WARM_UP_COMMITS)
        answer = await fleet.ask(fleet.devices[0], order, Times, seconds=run_s)
        times.extend(answer.commits_us)
    on_step(f"bare loop {ROUNDS + 1} of {ROUNDS + 1}")
    bare.append(await _run_bare_loop(broker_url, bare_s))
    if not times:
        raise TransportError(f"no more than {WARM_UP_COMMITS} commits in {run_s:.1f} s")
    in_ms = tuple(time_us / 1000 for time_us in times)
    return LowLoad(p50_ms=percentile(in_ms, 0.50), p99_ms=percentile(in_ms, 0.99), bare_loop=_mean_of(bare))


async def measure_throughput(fleet: Fleet, bundle: int, seconds: float) -> float:
    """Return submissions of `bundle` commands a second, `OUTSTANDING` on the way over all devices."""
    order = Flood(
        seconds=seconds,
        window=max(1, OUTSTANDING // VOTERS),
        bundle=bundle,
        warm_up_s=seconds * _WARM_UP_SHARE,
    )
    answers = await fleet.ask_all(order, Flooded, seconds=seconds)
    return sum(answer.submissions / answer.seconds for answer in answers)


async def _run_bare_loop(broker_url: str, seconds: float) -> BareLoopResult:
    return await measure_bare_loop(broker_url, devices=VOTERS, commits=BARE_COMMITS_MAX, seconds=seconds)


def _mean_of(runs: list[BareLoopResult]) -> BareLoopFigures:
    return BareLoopFigures(
        p50_ms=statistics.fmean(run.p50_ms for run in runs),
        p99_ms=statistics.fmean(run.p99_ms for run in runs),
        blocks_per_s=statistics.fmean(run.blocks_per_s for run in runs),
        submissions_per_s=statistics.fmean(run.submissions_per_s for run in runs),
    )
