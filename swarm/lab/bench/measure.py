"""All of `swarm bench`: what runs when, on which broker, and for how long."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.lab.bench import commit, footprint
from swarm.lab.bench.figures import (
    AgentFigures,
    BareLoopFigures,
    BenchResult,
    BrokerFigures,
    CommitFigures,
    MachineFigures,
)
from swarm.lab.bench.fleet import VOTERS, Fleet, new_folder
from swarm.lab.bench.primitives import ask_broker_kind, measure_primitives
from swarm.lab.bench.virtual import measure_simulator
from swarm.lab.processes.folder import RunFolder
from swarm.lab.processes.scratch import scratch_folder
from swarm.primitives.errors import ConfigError, TransportError
from swarm.transport.broker import EmbeddedBroker, answers_connect
from swarm.transport.url import parse_broker

SECONDS_DEFAULT: Final = 40.0
SECONDS_MIN: Final = 2.0
SECONDS_MAX: Final = 3600.0

_PROBE_TIMEOUT_S: Final = 5.0
_SETTLE_S: Final = 1.0
"""After the load, before idleness is measured: the last certificates are still on their way."""

OnStep = Callable[[str, float], None]
"""What is measured now, and the share of the work that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How `seconds` are spent; the starts of processes come on top, about ten seconds of a slow machine."""

    seconds: float

    @property
    def primitives_s(self) -> float:
        return 0.08 * self.seconds

    @property
    def low_load_s(self) -> float:
        return 0.37 * self.seconds

    @property
    def flood_s(self) -> float:
        return max(commit.RUN_S_MIN, 0.11 * self.seconds)

    @property
    def idle_s(self) -> float:
        # By default 10 s, in which every device beats once; of a shorter time no messages are reported.
        return 0.25 * self.seconds

    @property
    def simulator_s(self) -> float:
        return 0.08 * self.seconds

    def done_after(self, steps: int) -> float:
        """Return the share of all work that is done after so many of its six steps, 0 to 1.

        Of the sum of the steps, not of `seconds`: a flood has a shortest time, so that a short run takes longer.
        """
        planned = (
            self.primitives_s,
            self.low_load_s,
            self.flood_s,
            self.flood_s,
            self.idle_s,
            self.simulator_s,
        )
        return sum(planned[:steps]) / sum(planned)


async def measure(
    broker: str | None, *, seconds: float = SECONDS_DEFAULT, on_step: OnStep = lambda _words, _done: None
) -> BenchResult:
    """Measure this machine and `broker`, a URL, or an embedded broker on loopback for None.

    All processes that it starts are gone when it returns, raises or is cancelled. Raises `ConfigError` for a bad URL
    or time and `TransportError` for a broker that cannot be used. `on_step` must not raise.
    """
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise ConfigError(
            f"cannot measure for {seconds:g} seconds",
            where="--seconds",
            hint=f"{SECONDS_MIN:g} to {SECONDS_MAX:g}",
        )
    shares = Shares(seconds)
    with scratch_folder("swarm-bench-") as path:
        async with open_broker(broker) as figures:
            on_step("signatures, wire format, disk, broker", 0.0)
            primitives = await measure_primitives(figures.url, path, shares.primitives_s)
            folder = new_folder(path, figures.url)
            try:
                bare, commits, agent = await _measure_swarm(folder, figures.url, shares, on_step)
            finally:
                if broker is not None:
                    await footprint.forget_presence(folder, figures.url)
        on_step("simulator", shares.done_after(5))
        simulator = await measure_simulator(shares.simulator_s)
    return BenchResult(
        machine=describe_machine(),
        broker=figures,
        primitives=primitives,
        bare_loop=bare,
        commit=commits,
        agent=agent,
        simulator=simulator,
    )


async def _measure_swarm(
    folder: RunFolder, url: str, shares: Shares, on_step: OnStep
) -> tuple[BareLoopFigures, CommitFigures, AgentFigures]:
    first = folder.identities["dev-0"]
    empty_bytes = footprint.store_bytes(first.store)
    on_step("starting four agents", shares.done_after(1))
    async with Fleet(folder) as fleet:
        low = await commit.measure_low_load(
            fleet, url, shares.low_load_s, lambda words: on_step(words, shares.done_after(1))
        )
        height = (await fleet.look())[0].height
    # Only a closed store has all its bytes in one file.
    disk_bytes = (footprint.store_bytes(first.store) - empty_bytes) / height
    async with Fleet(folder) as fleet:
        on_step(f"{commit.OUTSTANDING} submissions of one command on the way", shares.done_after(2))
        single = await commit.measure_throughput(fleet, 1, shares.flood_s)
        before = footprint.mean_rss_mb(await fleet.look())
        words = f"{commit.OUTSTANDING} submissions of {commit.BUNDLE} commands on the way"
        on_step(words, shares.done_after(3))
        bundled = await commit.measure_throughput(fleet, commit.BUNDLE, shares.flood_s)
        growth = footprint.mean_rss_mb(await fleet.look()) - before
        on_step("idle agents", shares.done_after(4))
        await asyncio.sleep(_SETTLE_S)
        idle = await footprint.measure_idle(fleet, folder, url, shares.idle_s)
    on_step("restart of one agent", shares.done_after(5))
    restart = await footprint.measure_restart(folder, first.device)
    commits = CommitFigures(
        devices=VOTERS,
        low_load_p50_ms=low.p50_ms,
        low_load_p99_ms=low.p99_ms,
        single_per_s=single,
        bundle=commit.BUNDLE,
        bundled_commands_per_s=bundled * commit.BUNDLE,
        disk_bytes_per_commit=disk_bytes,
    )
    agent = AgentFigures(
        rss_mb=idle.rss_mb,
        idle_cpu_percent=idle.cpu_percent,
        idle_publishes_per_min=idle.publishes_per_min,
        rss_growth_mb_per_min=60 * growth / shares.flood_s,
        restart_s_at_entries=restart,
    )
    return low.bare_loop, commits, agent


@asynccontextmanager
async def open_broker(url: str | None) -> AsyncIterator[BrokerFigures]:
    """Give a broker that answers: an embedded one for None, which is gone afterwards."""
    if url is None:
        async with EmbeddedBroker() as embedded:
            yield BrokerFigures(url=embedded.url, kind="embedded")
        return
    parsed = parse_broker(url, where="--broker")
    # Only a plain connection can be tried so cheaply.
    if not parsed.tls and not await asyncio.to_thread(
        answers_connect, parsed.host, parsed.port, timeout_s=_PROBE_TIMEOUT_S
    ):
        raise TransportError(f"no broker at {parsed} accepts an anonymous connection")
    yield BrokerFigures(url=str(parsed), kind=await ask_broker_kind(url))


def describe_machine() -> MachineFigures:
    """Return what this machine is; nothing that names it."""
    return MachineFigures(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        python=platform.python_version(),
        arch=platform.machine(),
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # A Raspberry Pi has no model name for its cores, and one line for the board.
    for key in ("model name", "Model"):
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or "unknown"
