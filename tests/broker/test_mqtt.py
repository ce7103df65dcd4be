"""The adapter against real brokers: what two devices say to each other arrives, whatever happens to the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from swarm.primitives import limits
from swarm.transport.topics import Scope
from swarm.transport.transport import Inbox, Link, Outgoing
from swarm.transport.url import parse_broker
from tests.support.brokers import MosquittoBroker, RestartableBroker, free_port
from tests.support.devices import PATIENCE_S, Device, device, presence_of

pytestmark = pytest.mark.broker

PAIR = ("a", "b")


@asynccontextmanager
async def pair(url: str) -> AsyncIterator[tuple[Device, Device]]:
    async with device(url, "a", PAIR) as a, device(url, "b", PAIR) as b:
        await a.until_said(Link.CONNECTED)
        await b.until_said(Link.CONNECTED)
        yield a, b


async def test_all_to_and_beat_arrive_with_their_sender_and_scope(broker_url: str) -> None:
    async with pair(broker_url) as (a, b):
        a.transport.publish(Outgoing(Scope.ALL, None, b"for all"))
        a.transport.publish(Outgoing(Scope.TO, "b", b"for b"))
        a.transport.publish(Outgoing(Scope.TO, "c", b"for c"))
        a.transport.publish(Outgoing(Scope.BEAT, None, b"beat"))
        got = {(frame.topic_sender, frame.scope, frame.payload) for frame in await b.frames(3)}
        assert got == {
            ("a", Scope.ALL, b"for all"),
            ("a", Scope.TO, b"for b"),
            ("a", Scope.BEAT, b"beat"),
        }
        b.transport.publish(Outgoing(Scope.ALL, None, b"back"))
        assert [frame.payload for frame in await a.frames(1)] == [b"back"]
        assert a.transport.last_ack_s is not None


async def test_own_frames_come_back_only_with_echo(broker_url: str) -> None:
    async with device(broker_url, "a", ["a", "b"], echo=True) as a:
        await a.until_said(Link.CONNECTED)
        a.transport.publish(Outgoing(Scope.ALL, None, b"echo"))
        (frame,) = await a.frames(1)
        assert (frame.topic_sender, frame.payload) == ("a", b"echo")


async def test_the_largest_frame_arrives_and_a_larger_one_does_not_leave(broker_url: str) -> None:
    async with pair(broker_url) as (a, b):
        largest = os.urandom(limits.FRAME_BYTES_MAX)
        assert not a.transport.publish(Outgoing(Scope.ALL, None, largest + b"x"))
        assert a.transport.publish(Outgoing(Scope.ALL, None, largest))
        assert [frame.payload for frame in await b.frames(1)] == [largest]
        assert a.links == b.links == [Link.CONNECTED]


async def test_a_thousand_frames_arrive_in_order(broker_url: str) -> None:
    async with pair(broker_url) as (a, b):
        for number in range(1000):
            a.transport.publish(Outgoing(Scope.ALL, None, b"%d" % number))
        got = [frame.payload for frame in await b.frames(1000)]
        assert got == [b"%d" % number for number in range(1000)]
        await a.transport.close()
        assert a.transport.counters()["published"] == 1000


async def test_after_a_broker_restart_both_are_heard_again(broker: RestartableBroker) -> None:
    async with pair(broker.url) as (a, b):
        await asyncio.to_thread(broker.kill)
        await a.until_said(Link.LOST)
        await b.until_said(Link.LOST)
        a.transport.publish(Outgoing(Scope.ALL, None, b"said while the broker was away"))
        await asyncio.to_thread(broker.start)
        await b.until_said(Link.CONNECTED, times=2)
        await a.until_said(Link.CONNECTED, times=2)
        a.transport.publish(Outgoing(Scope.ALL, None, b"after"))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if (await b.frames(1))[0].payload == b"after":
                    break
        assert a.links == b.links == [Link.CONNECTED, Link.LOST, Link.CONNECTED]


async def test_an_absent_broker_is_said_once_and_found_when_it_comes(tmp_path: Path) -> None:
    port = free_port()
    async with device(f"mqtt://127.0.0.1:{port}", "a", PAIR, random=lambda: 0.01) as a:
        await a.until_said(Link.UNREACHABLE)
        mosquitto = MosquittoBroker(tmp_path)
        mosquitto.port = port
        await asyncio.sleep(0.2)
        try:
            await asyncio.to_thread(mosquitto.start)
            await a.until_said(Link.CONNECTED)
            assert a.links == [Link.UNREACHABLE, Link.CONNECTED]
            await a.transport.close()
        finally:
            await asyncio.to_thread(mosquitto.stop)


async def test_status_is_retained_and_follows_a_device_through_its_life(broker_url: str) -> None:
    said = presence_of("a")
    async with device(broker_url, "a", PAIR, presence=True) as a:
        await a.until_said(Link.CONNECTED)
        async with device(broker_url, "b", PAIR) as late:
            (birth,) = await late.frames(1)
            assert (birth.topic_sender, birth.scope, birth.payload) == ("a", Scope.STATUS, said.birth)
            await a.transport.close()
            (offline,) = await late.frames(1)
            assert offline.payload == said.offline
    async with device(broker_url, "b", PAIR) as later:
        assert [frame.payload for frame in await later.frames(1)] == [said.offline]


_VICTIM = """
import asyncio, sys
from tests.support.devices import device
from swarm.transport.transport import Link
async def main():
    async with device(sys.argv[1], "a", ["a", "b"], presence=True) as a:
        await a.until_said(Link.CONNECTED)
        print("up", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.processes
async def test_the_last_will_of_a_killed_process_appears(broker_url: str) -> None:
    async with device(broker_url, "b", PAIR) as b:
        await b.until_said(Link.CONNECTED)
        with subprocess.Popen(  # noqa: ASYNC220  -- milliseconds, in a test
            [sys.executable, "-c", _VICTIM, broker_url], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        ) as victim:
            try:
                assert [frame.payload for frame in await b.frames(1)] == [presence_of("a").birth]
            finally:
                victim.send_signal(signal.SIGKILL)
        (will,) = await b.frames(1)
        assert (will.scope, will.payload) == (Scope.STATUS, presence_of("a").will)


async def test_a_small_inbox_drops_counts_and_goes_on(broker_url: str) -> None:
    inbox = Inbox(frames_max=10)
    async with (
        device(broker_url, "a", PAIR) as a,
        device(broker_url, "b", PAIR, inbox=inbox) as b,
    ):
        await a.until_said(Link.CONNECTED)
        await b.until_said(Link.CONNECTED)
        for number in range(500):
            a.transport.publish(Outgoing(Scope.ALL, None, b"%d" % number))
        async with asyncio.timeout(PATIENCE_S):
            while b.transport.counters()["received"] < 500:  # noqa: ASYNC110  -- dropped frames wake nobody
                await asyncio.sleep(0.01)
        assert b.transport.counters()["inbox_full_frames"] == 490
        assert [frame.payload for frame in inbox.take_all(100)] == [b"%d" % number for number in range(10)]
        a.transport.publish(Outgoing(Scope.ALL, None, b"later"))
        assert [frame.payload for frame in await b.frames(1)] == [b"later"]
        assert b.links == [Link.CONNECTED]


async def test_a_wrong_password_is_told_as_a_refused_login(tmp_path: Path) -> None:
    mosquitto = MosquittoBroker(tmp_path, login=("joe", "right"))
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    for path in (wrong, right):
        path.touch(mode=0o600)
        path.write_text(path.name + "\n")
    try:
        await asyncio.to_thread(mosquitto.start)
        bad = parse_broker(mosquitto.url, username="joe", password_file=wrong)
        good = parse_broker(mosquitto.url, username="joe", password_file=right)
        async with device(bad, "a", PAIR) as a, device(good, "b", PAIR) as b:
            await b.until_said(Link.CONNECTED)
            await a.until_said(Link.REFUSED)
            assert a.states[0].reason == "the broker refuses the login: not authorised"
    finally:
        await asyncio.to_thread(mosquitto.stop)


async def test_two_devices_with_one_name_throw_each_other_out_ever_more_slowly(broker_url: str) -> None:
    async with device(broker_url, "a", PAIR, random=lambda: 0.5) as one:
        await one.until_said(Link.CONNECTED)
        async with device(broker_url, "a", PAIR, random=lambda: 0.5) as two:
            await one.until_said(Link.LOST)
            await two.until_said(Link.LOST)
            await one.until_said(Link.LOST, times=2)
            # Pauses so far: 1/8 and 1/4 s of `one`, 1/8 s of `two`; without doubling it would go on at 1/8 s.
            assert one.transport.counters()["connects"] <= 3
            assert two.transport.counters()["connects"] <= 3


async def test_an_unknown_client_id_hears_only_retained_presence(broker_url: str) -> None:
    """The QoS table as a stranger sees it: nothing but status is retained."""
    async with device(broker_url, "a", PAIR, presence=True) as a:
        await a.until_said(Link.CONNECTED)
        for scope in (Scope.ALL, Scope.BEAT):
            a.transport.publish(Outgoing(scope, None, b"passing"))
        a.transport.publish(Outgoing(Scope.STATUS, None, b"kept"))
        broker = parse_broker(broker_url)
        async with asyncio.timeout(PATIENCE_S):
            while a.transport.counters()["published"] < 3:  # noqa: ASYNC110  -- nobody is woken by a PUBACK
                await asyncio.sleep(0.01)
            async with aiomqtt.Client(broker.host, broker.port) as stranger:
                await stranger.subscribe("swarm/#", qos=1)
                await stranger.publish("swarm/end", b"end", qos=1)
                heard = []
                async for message in stranger.messages:
                    if message.topic.value == "swarm/end":
                        break
                    heard.append((message.topic.value, message.payload))
        assert heard == [("swarm/1/s1/n/a/status", b"kept")]
