"""`swarm bench --delivery`: how fast a release reaches four devices, and what commits feel of it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Final

from swarm.lab.bench import footprint
from swarm.lab.bench.chunks import CHUNK_BYTES
from swarm.lab.bench.figures import DeliveryFigures, DeliveryResult, percentile
from swarm.lab.bench.fleet import Fleet, new_folder
from swarm.lab.bench.measure import SECONDS_MAX, SECONDS_MIN, OnStep, describe_machine, open_broker
from swarm.lab.bench.orders import (
    Check,
    Done,
    Fetch,
    Moved,
    Offer,
    Paced,
    Prepare,
    SendStick,
    TakeStick,
    Times,
)
from swarm.primitives.errors import ConfigError, TransportError

SECONDS_DEFAULT: Final = 60.0
IMAGE_BYTES: Final = 16 * 1024 * 1024
ROUNDS: Final = 2
"""Fetches by four devices, each between two runs of the measuring stick."""

COMMITS_PER_S: Final = 10
CHUNK_RATE: Final = 1024 * 1024
"""Bytes a second of the serving device while commits are timed; the example of `agent.yaml`."""

_MOVE_TIMEOUT_S: Final = 120.0
_SETTLE_S: Final = 1.0


async def measure_delivery(
    broker: str | None, *, seconds: float = SECONDS_DEFAULT, on_step: OnStep = lambda _words, _done: None
) -> DeliveryResult:
    """Measure over `broker`, a URL, or an embedded broker on loopback for None.

    dev-0, a voter, serves an image of 16 MiB to the three other voters and an observer. `seconds` are those in which
    commits are timed, half of them without and half with chunks; the fetches come on top. Errors as in `measure`.
    """
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise ConfigError(
            f"cannot measure for {seconds:g} seconds",
            where="--seconds",
            hint=f"{SECONDS_MIN:g} to {SECONDS_MAX:g}",
        )
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as path:
        async with open_broker(broker) as figures:
            folder = new_folder(Path(path), figures.url, observers=1)
            try:
                on_step("starting five agents", 0.0)
                async with Fleet(folder) as fleet:
                    delivery = await _measure(fleet, seconds, on_step)
            finally:
                if broker is not None:
                    await footprint.forget_presence(folder, figures.url)
    return DeliveryResult(machine=describe_machine(), broker=figures, delivery=delivery)


async def _measure(fleet: Fleet, seconds: float, on_step: OnStep) -> DeliveryFigures:
    server, *receivers = fleet.devices
    bulk: list[float] = []
    chunks: list[float] = []
    await fleet.ask_all(Prepare(size=IMAGE_BYTES), Done, seconds=_MOVE_TIMEOUT_S)
    for number in range(ROUNDS):
        on_step("frames of a chunk's size, as fast as the client can", 0.05 + 0.15 * number)
        bulk.append(await _run_stick(fleet, server, receivers))
        on_step(f"16 MiB to {len(receivers)} devices", 0.1 + 0.15 * number)
        chunks.append(await _run_fetch(fleet, server, receivers, number))
    bulk.append(await _run_stick(fleet, server, receivers))
    on_step("commits without chunks", 0.4)
    await asyncio.sleep(_SETTLE_S)
    order = Paced(seconds=seconds / 2, per_s=COMMITS_PER_S)
    idle = _in_ms(await fleet.ask(server, order, Times, seconds=seconds / 2), order)
    on_step("commits beside chunks", 0.7)
    await fleet.ask(server, Offer(size=IMAGE_BYTES, number=ROUNDS, bytes_per_s=CHUNK_RATE), Done)
    fetch = Fetch(size=IMAGE_BYTES, number=ROUNDS, peer=server, seconds=seconds / 2)
    fetching = [
        asyncio.create_task(fleet.ask(device, fetch, Moved, seconds=seconds / 2)) for device in receivers
    ]
    loaded = _in_ms(await fleet.ask(server, order, Times, seconds=seconds / 2), order)
    moved = [await task for task in fetching]
    return DeliveryFigures(
        devices=len(receivers),
        image_bytes=IMAGE_BYTES,
        chunk_bytes=CHUNK_BYTES,
        bulk_mb_per_s=statistics.fmean(bulk),
        chunks_mb_per_s=statistics.fmean(chunks),
        commits_per_s=COMMITS_PER_S,
        chunk_rate_mb_per_s=CHUNK_RATE / 1e6,
        chunks_beside_mb_per_s=_rate(moved),
        idle_p50_ms=percentile(idle, 0.50),
        idle_p99_ms=percentile(idle, 0.99),
        loaded_p50_ms=percentile(loaded, 0.50),
        loaded_p99_ms=percentile(loaded, 0.99),
    )


async def _run_stick(fleet: Fleet, server: str, receivers: list[str]) -> float:
    """Return the MB a second that leave the server when nothing is signed, checked or asked for."""
    taking = [
        asyncio.create_task(fleet.ask(device, TakeStick(size=IMAGE_BYTES), Moved, seconds=_MOVE_TIMEOUT_S))
        for device in receivers
    ]
    order = SendStick(size=IMAGE_BYTES, peers=tuple(receivers))
    await fleet.ask(server, order, Done, seconds=_MOVE_TIMEOUT_S)
    return _rate([await task for task in taking])


async def _run_fetch(fleet: Fleet, server: str, receivers: list[str], number: int) -> float:
    """Return the MB a second of chunks that were fetched and checked, over all receivers."""
    await fleet.ask(server, Offer(size=IMAGE_BYTES, number=number, bytes_per_s=None), Done)
    order = Fetch(size=IMAGE_BYTES, number=number, peer=server, seconds=_MOVE_TIMEOUT_S)
    asked = [
        asyncio.create_task(fleet.ask(device, order, Moved, seconds=_MOVE_TIMEOUT_S)) for device in receivers
    ]
    moved = [await task for task in asked]
    if any(move.size != IMAGE_BYTES for move in moved):
        raise TransportError(f"no {IMAGE_BYTES} bytes came within {_MOVE_TIMEOUT_S:.0f} s")
    for device in receivers:
        await fleet.ask(device, Check(size=IMAGE_BYTES), Done)
    return _rate(moved)


def _rate(moved: list[Moved]) -> float:
    """Return MB a second over all receivers, up to when the last one had all."""
    return sum(move.size for move in moved) / max(move.seconds for move in moved) / 1e6


def _in_ms(times: Times, order: Paced) -> tuple[float, ...]:
    """Return the times in milliseconds; a commit that never came would make the others look good."""
    expected = int(order.seconds * order.per_s)
    if len(times.commits_us) != expected:
        raise TransportError(f"of {expected} submissions {len(times.commits_us)} came into the log")
    return tuple(time_us / 1000 for time_us in times.commits_us)
