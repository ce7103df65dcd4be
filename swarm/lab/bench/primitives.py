"""The parts that everything else is made of: signatures, the wire format, one synced write, one way over the broker."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiomqtt

from swarm.crypto.digest import sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign, verify
from swarm.lab.bench.figures import PrimitiveFigures, percentile
from swarm.primitives.errors import TransportError
from swarm.transport.mqtt import MqttTransport
from swarm.transport.topics import Scope
from swarm.transport.transport import ConnectionState, Inbox, Link, Outgoing
from swarm.transport.url import parse_broker, tls_context
from swarm.wire.messages import decode_frame, encode_frame
from swarm.wire.statements import Kind, SignedStatement, statement_bytes

_CALLS_PER_BATCH: Final = 50
_BATCHES_MIN: Final = 3
_RTT_WARM_UP: Final = 20
_CONNECT_TIMEOUT_S: Final = 10.0
_KIND_TIMEOUT_S: Final = 1.0


async def measure_primitives(broker_url: str, folder: Path, seconds: float) -> PrimitiveFigures:
    """Measure each part for its share of `seconds`; the synced writes go to `folder`.

    Raises `TransportError` when nothing comes back from the broker.
    """
    share_s = seconds / 7
    keys = KeyPair(sha256(b"swarm bench"))
    message = statement_bytes(bytes(32), Kind.NOTARIZE, 0, 1, sha256(b"block"))
    signature = sign(keys, message)
    vote = SignedStatement(
        kind=Kind.NOTARIZE, epoch=0, number=1, digest=sha256(b"block"), voter=0, signature=signature
    )
    frame = encode_frame((vote,))
    figures: dict[str, float] = {}
    for name, call in (
        ("sign_us", lambda: sign(keys, message)),
        ("verify_us", lambda: verify(keys.public, message, signature)),
        ("encode_us", lambda: encode_frame((vote,))),
        ("decode_us", lambda: decode_frame(frame)),
    ):
        figures[name] = _median_us(call, share_s)
        # An interrupt is taken here, at most one share late.
        await asyncio.sleep(0)
    figures["sync_us"] = _measure_sync_us(folder / "sync.sqlite", frame, share_s)
    await asyncio.sleep(0)
    trips = await _round_trips_ms(broker_url, 2 * share_s)
    return PrimitiveFigures(
        **figures,
        broker_rtt_p50_ms=percentile(trips, 0.50),
        broker_rtt_p99_ms=percentile(trips, 0.99),
    )


async def ask_broker_kind(broker_url: str) -> str:
    """Return what the broker says of itself, such as `mosquitto 2.0.18`; `unknown` where it says nothing in a second."""
    broker = parse_broker(broker_url, where="--broker")
    with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
        async with (
            asyncio.timeout(_KIND_TIMEOUT_S),
            aiomqtt.Client(
                broker.host, broker.port, tls_context=tls_context(broker), timeout=_KIND_TIMEOUT_S
            ) as client,
        ):
            await client.subscribe("$SYS/broker/version")
            async for message in client.messages:
                if isinstance(message.payload, bytes):
                    words = message.payload.decode(errors="replace").replace(" version ", " ")
                    return words if words.isprintable() else "unknown"
    return "unknown"


def _median_us(call: Callable[[], object], seconds: float) -> float:
    """Return the median over batches of the mean time of one call."""
    batches: list[float] = []
    ends_ns = time.perf_counter_ns() + int(seconds * 1e9)
    while len(batches) < _BATCHES_MIN or time.perf_counter_ns() < ends_ns:
        began_ns = time.perf_counter_ns()
        for _ in range(_CALLS_PER_BATCH):
            call()
        batches.append((time.perf_counter_ns() - began_ns) / _CALLS_PER_BATCH / 1000)
    return statistics.median(batches)


def _measure_sync_us(path: Path, row: bytes, seconds: float) -> float:
    """Return the median time of one transaction of one row, with the settings of a device's store."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as disk:
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
            disk.execute(f"PRAGMA {pragma}").fetchall()
        disk.execute("CREATE TABLE vote (bytes BLOB NOT NULL)")
        times: list[float] = []
        ends_ns = time.perf_counter_ns() + int(seconds * 1e9)
        while len(times) < _BATCHES_MIN or time.perf_counter_ns() < ends_ns:
            began_ns = time.perf_counter_ns()
            disk.execute("INSERT INTO vote VALUES (?)", (row,))
            times.append((time.perf_counter_ns() - began_ns) / 1000)
    return statistics.median(times)


async def _round_trips_ms(broker_url: str, seconds: float) -> tuple[float, ...]:
    """Send a frame to ourselves and wait for it, again and again."""
    arrived, connected = asyncio.Event(), asyncio.Event()
    inbox = Inbox(wake=arrived.set)

    def on_state(state: ConnectionState) -> None:
        if state.link is Link.CONNECTED:
            connected.set()

    transport = MqttTransport(
        broker=parse_broker(broker_url, where="--broker"),
        swarm=f"bench-{random.randrange(1 << 32):08x}",
        me="dev-0",
        members=["dev-0"],
        inbox=inbox,
        random=random.random,
        on_state=on_state,
        echo=True,
        scopes=(Scope.ALL,),
    )
    running = asyncio.create_task(transport.run())
    times: list[float] = []
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await connected.wait()
        ends = time.monotonic() + seconds
        while len(times) < _RTT_WARM_UP + _BATCHES_MIN or time.monotonic() < ends:
            arrived.clear()
            began_ns = time.perf_counter_ns()
            transport.publish(Outgoing(Scope.ALL, None, b"round trip"))
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await arrived.wait()
            times.append((time.perf_counter_ns() - began_ns) / 1e6)
            inbox.take_all(1)
        await transport.close()
    except TimeoutError:
        raise TransportError(f"nothing comes back from {broker_url}") from None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return tuple(times[_RTT_WARM_UP:])
