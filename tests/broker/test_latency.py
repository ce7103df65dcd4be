"""No 40 ms stalls: Nagle's algorithm at the broker and delayed acknowledgements here must never meet.

Where they do, every answer that follows a PUBACK takes 40 ms more on loopback, whatever the machine. The median of
many rounds is far below that on a busy machine too.
"""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path

import pytest

from swarm.transport.topics import Scope
from swarm.transport.transport import Link, Outgoing
from tests.support.brokers import MosquittoBroker
from tests.support.devices import device

pytestmark = pytest.mark.broker

STALL_MS = 40.0


async def median_round_trip_ms(url: str, scope: Scope) -> float:
    """Measure publish, answer by a peer, receipt; the first rounds are left out, the kernel acknowledges them at once."""
    clock = asyncio.get_running_loop().time
    times: list[float] = []
    async with device(url, "a", ["b"]) as a, device(url, "b", ["a"]) as b:
        await a.until_said(Link.CONNECTED)
        await b.until_said(Link.CONNECTED)

        async def answer() -> None:
            while True:
                await b.frames(1)
                b.transport.publish(Outgoing(scope, None, b"pong"))

        answering = asyncio.create_task(answer())
        for _ in range(80):
            began = clock()
            a.transport.publish(Outgoing(scope, None, b"ping"))
            await a.frames(1)
            times.append((clock() - began) * 1000)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
    return statistics.median(times[40:])


@pytest.mark.parametrize("scope", [Scope.ALL, Scope.BEAT])
async def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(broker_url: str, scope: Scope) -> None:
    assert await median_round_trip_ms(broker_url, scope) < STALL_MS / 2


async def test_not_even_with_a_broker_as_it_comes_out_of_the_box(tmp_path: Path) -> None:
    mosquitto = MosquittoBroker(tmp_path, nodelay=False)
    try:
        await asyncio.to_thread(mosquitto.start)
        assert await median_round_trip_ms(mosquitto.url, Scope.ALL) < STALL_MS / 2
    finally:
        await asyncio.to_thread(mosquitto.stop)
