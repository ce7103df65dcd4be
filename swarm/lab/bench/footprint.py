"""What a device costs: memory, an idle processor, messages of an idle swarm, disk, and the time of a restart."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.lab.bench.figures import RestartFigures
from swarm.lab.bench.fleet import Fleet
from swarm.lab.bench.orders import Cost
from swarm.lab.processes.folder import RunFolder
from swarm.lab.processes.wiretap import Wiretap
from swarm.primitives.errors import TransportError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import HEARTBEAT_MS
from swarm.transport.topics import Scope
from swarm.transport.url import parse_broker

MIB: Final = 1024 * 1024
_LISTEN_TIMEOUT_S: Final = 10.0
_STORE_SUFFIXES: Final = ("", "-wal", "-shm", ".mark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """One agent with nothing to do, the mean of all."""

    rss_mb: float
    cpu_percent: float
    publishes_per_min: float | None
    """None when watched for less than a heartbeat interval: what an idle device says is its heartbeats."""


async def measure_idle(fleet: Fleet, folder: RunFolder, broker_url: str, seconds: float) -> Idle:
    """Watch an idle fleet for `seconds`; a listener of its own counts what is published. Raises `TransportError`."""
    heard = 0

    def on_frame(_sender: DeviceId, _scope: Scope, _payload: bytes) -> None:
        nonlocal heard
        heard += 1

    wiretap = Wiretap(parse_broker(broker_url), folder.genesis.swarm, on_frame)
    listening = asyncio.create_task(wiretap.run())
    try:
        await _until_listening(wiretap, broker_url)
        heard, before, began = 0, await fleet.look(), time.monotonic()
        await asyncio.sleep(seconds)
        took_s, count, after = time.monotonic() - began, heard, await fleet.look()
    finally:
        listening.cancel()
        await asyncio.wait({listening})
    spent = [last.cpu_s - first.cpu_s for first, last in zip(before, after, strict=True)]
    return Idle(
        rss_mb=mean_rss_mb(after),
        cpu_percent=100 * statistics.fmean(spent) / took_s,
        publishes_per_min=publishes_per_min(count, took_s, len(fleet.devices)),
    )


def publishes_per_min(count: int, seconds: float, devices: int) -> float | None:
    """Return what one of `devices` published a minute, None if `seconds` are too short to have seen each beat once."""
    return 60 * count / seconds / devices if seconds * 1000 >= HEARTBEAT_MS else None


def mean_rss_mb(costs: Sequence[Cost]) -> float:
    """Return the resident memory of one process, the mean of all."""
    return statistics.fmean(cost.rss_bytes for cost in costs) / MIB


def store_bytes(store: Path) -> int:
    """Return what the files of one store take."""
    files = (store.with_name(store.name + suffix) for suffix in _STORE_SUFFIXES)
    return sum(file.stat().st_size for file in files if file.exists())


async def measure_restart(folder: RunFolder, device: str) -> RestartFigures:
    """Start the process of one stopped device and wait for its connection; the store is checked on the way."""
    async with Fleet(folder, [device]) as alone:
        (cost,) = await alone.look()
        return RestartFigures(entries=cost.log_size, seconds=alone.start_s)


async def forget_presence(folder: RunFolder, broker_url: str) -> None:
    """Take the retained status of the devices off a broker that outlives the bench."""
    wiretap = Wiretap(parse_broker(broker_url), folder.genesis.swarm, lambda *_: None)
    listening = asyncio.create_task(wiretap.run())
    try:
        await _until_listening(wiretap, broker_url)
        await wiretap.forget_presence(folder.identities)
    finally:
        listening.cancel()
        await asyncio.wait({listening})


async def _until_listening(wiretap: Wiretap, broker_url: str) -> None:
    ends = time.monotonic() + _LISTEN_TIMEOUT_S
    while not wiretap.is_listening:
        if time.monotonic() >= ends:
            raise TransportError(f"nobody can listen on {broker_url}")
        await asyncio.sleep(0.01)
