"""The adapter against a broker that misbehaves on cue."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from aiomqtt.exceptions import MqttCodeError, MqttConnectError, MqttError
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from swarm.primitives import limits
from swarm.transport import mqtt
from swarm.transport.connection import words_of
from swarm.transport.mqtt import BACKOFF_CAP_S, BULK_IN_FLIGHT_MAX, IN_FLIGHT_MAX, backoff_s
from swarm.transport.topics import Scope, topic_all
from swarm.transport.transport import Inbox, Link, Outgoing, Transport
from tests.support.devices import PATIENCE_S, Device, device, presence_of
from tests.support.scripted_broker import ScriptedBroker, scripted_broker


def url(broker: ScriptedBroker) -> str:
    return f"mqtt://127.0.0.1:{broker.port}"


def to_all(payload: bytes) -> Outgoing:
    return Outgoing(Scope.ALL, None, payload)


async def seen(broker: ScriptedBroker, count: int) -> list[bytes]:
    async with asyncio.timeout(PATIENCE_S), broker.changed:
        await broker.changed.wait_for(lambda: len(broker.published) >= count)
    return [payload for _, payload, _ in broker.published]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def as_port(one: Device) -> Transport:
    return one.transport


@settings(deadline=None)
@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_backoff_is_within_zero_and_the_cap(attempt: int, fraction: float) -> None:
    assert 0 <= backoff_s(attempt, fraction) < BACKOFF_CAP_S
    assert backoff_s(attempt, fraction) <= backoff_s(attempt + 1, fraction)


def test_backoff_doubles_until_the_cap() -> None:
    assert [backoff_s(attempt, 1.0) for attempt in (0, 1, 2, 6, 7, 99)] == [0.25, 0.5, 1.0, 16.0, 30.0, 30.0]


async def test_birth_comes_after_the_subscriptions_and_offline_before_the_farewell() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["a", "b"], presence=True) as a:
        await a.until_said(Link.CONNECTED)
        assert len(broker.subscribed) == 4
        assert broker.published == [("swarm/1/s1/n/a/status", presence_of("a").birth, True)]
        await as_port(a).close()
        assert a.task.done()
        assert broker.published[1:] == [("swarm/1/s1/n/a/status", presence_of("a").offline, True)]
        assert broker.disconnects == 1
        assert a.links == [Link.CONNECTED]


async def test_cancellation_says_offline_too() -> None:
    async with scripted_broker() as broker:
        async with device(url(broker), "a", ["b"], presence=True) as a:
            await a.until_said(Link.CONNECTED)
        assert [payload for _, payload, _ in broker.published] == [
            presence_of("a").birth,
            presence_of("a").offline,
        ]


async def test_close_sends_what_waits_first() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        for number in range(100):
            a.transport.publish(to_all(b"%d" % number))
        await a.transport.close()
        assert [payload for _, payload, _ in broker.published] == [b"%d" % number for number in range(100)]


async def test_frames_keep_their_order_though_many_are_in_flight() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        for number in range(500):
            assert a.transport.publish(to_all(b"%d" % number))
        assert await seen(broker, 500) == [b"%d" % number for number in range(500)]


def chunk_to_b(number: int) -> Outgoing:
    return Outgoing(Scope.TO, "b", b"chunk %d" % number, bulk=True)


async def test_a_vote_published_while_100_bulk_frames_wait_leaves_next() -> None:
    """Of a hundred chunks only so many are on their way that the vote finds few before it, whatever the broker does."""
    async with scripted_broker(pubacks=False) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        for number in range(100):
            a.transport.publish(chunk_to_b(number))
        assert len(await seen(broker, BULK_IN_FLIGHT_MAX)) == BULK_IN_FLIGHT_MAX
        a.transport.publish(to_all(b"vote"))
        assert (await seen(broker, BULK_IN_FLIGHT_MAX + 1))[BULK_IN_FLIGHT_MAX:] == [b"vote"]


async def test_a_vote_published_with_bulk_in_one_step_leaves_before_it() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        for number in range(20):
            a.transport.publish(chunk_to_b(number))
        a.transport.publish(to_all(b"vote"))
        chunks = [b"chunk %d" % number for number in range(20)]
        assert await seen(broker, 21) == [b"vote", *chunks]


async def test_bulk_never_takes_the_last_place_of_a_vote() -> None:
    """However much bulk the broker leaves unacknowledged, votes still have places of their own."""
    async with scripted_broker(pubacks=False) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        for number in range(100):
            a.transport.publish(chunk_to_b(number))
        await seen(broker, BULK_IN_FLIGHT_MAX)
        votes = [b"vote %d" % number for number in range(IN_FLIGHT_MAX - BULK_IN_FLIGHT_MAX)]
        for vote in votes:
            a.transport.publish(to_all(vote))
        assert (await seen(broker, IN_FLIGHT_MAX))[BULK_IN_FLIGHT_MAX:] == votes


def question_to_b(number: int) -> Outgoing:
    return Outgoing(Scope.TO, "b", b"question %d" % number, repeated=True)


async def test_what_is_repeated_anyway_waits_for_no_acknowledgement() -> None:
    async with scripted_broker(pubacks=False) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        questions = [b"question %d" % number for number in range(3 * IN_FLIGHT_MAX)]
        for number in range(len(questions)):
            a.transport.publish(question_to_b(number))
        assert sorted(await seen(broker, len(questions))) == sorted(questions)
        assert a.transport.counters()["published"] == len(questions)


async def test_what_is_repeated_leaves_after_a_vote_that_waits_and_before_bulk() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        a.transport.publish(chunk_to_b(0))
        a.transport.publish(to_all(b"vote"))
        a.transport.publish(question_to_b(0))
        assert await seen(broker, 3) == [b"vote", b"question 0", b"chunk 0"]


async def test_what_is_repeated_is_kept_for_a_broker_that_is_away() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        a.transport.publish(question_to_b(0))
        assert await seen(broker, 1) == [b"question 0"]


async def test_bulk_is_not_kept_for_a_broker_that_is_away_nor_for_the_farewell() -> None:
    async with scripted_broker(pubacks=False) as broker, device(url(broker), "a", ["b"]) as a:
        a.transport.publish(chunk_to_b(0))
        assert a.transport.counters()["out_bulk_skipped"] == 1
        await a.until_said(Link.CONNECTED)
        for number in range(30):
            a.transport.publish(chunk_to_b(number))
        await seen(broker, BULK_IN_FLIGHT_MAX)
        broker.hang_up()
        await a.until_said(Link.CONNECTED, times=2)
        assert a.transport.counters()["outbox_bulk_dropped"] == 30 - BULK_IN_FLIGHT_MAX
        broker.pubacks = True
        for number in range(30):
            a.transport.publish(chunk_to_b(number))
        await a.transport.close()
        assert len(broker.published) < 30 + BULK_IN_FLIGHT_MAX


async def test_a_refused_login_is_said_once_and_tried_again() -> None:
    async with scripted_broker(connack=5) as broker, device(url(broker), "a", ["b"]) as a:
        async with asyncio.timeout(PATIENCE_S), broker.changed:
            await broker.changed.wait_for(lambda: broker.connects >= 4)
        assert a.links == [Link.REFUSED]
        assert a.states[0].reason == "the broker refuses the login: not authorised"
        broker.connack = 0
        await a.until_said(Link.CONNECTED)
        assert a.links == [Link.REFUSED, Link.CONNECTED]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (2, "it rejects the client identifier"),
        (3, "its service is unavailable"),
        (4, "bad user name or password"),
        (5, "not authorised"),
    ],
)
async def test_the_return_codes_of_a_login_in_words(code: int, words: str) -> None:
    async with scripted_broker(connack=code) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.REFUSED)
        assert a.states[0].reason == f"the broker refuses the login: {words}"


async def test_a_refused_version_is_told_as_a_broker_that_hangs_up() -> None:
    async with scripted_broker(connack=1) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.UNREACHABLE)
        assert a.states[0].reason.endswith("or not speak MQTT 3.1.1")


async def test_a_broker_that_hangs_up_is_told_without_numbers() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        broker.hang_up()
        await a.until_said(Link.LOST)
        assert a.states[1].reason == "connection lost: the broker closed it"


async def test_nobody_there_is_told_without_numbers() -> None:
    async with device("mqtt://127.0.0.1:1", "a", ["b"]) as a:
        await a.until_said(Link.UNREACHABLE)
        assert a.states[0].reason == "the broker cannot be reached: Connection refused"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MqttConnectError(5), "not authorised"),
        (MqttConnectError(1), "it does not speak MQTT 3.1.1"),
        (MqttConnectError(77), "return code 77"),
        (MqttCodeError(ReasonCode(PacketTypes.DISCONNECT, "Unspecified error")), "the broker closed it"),
        (
            MqttCodeError(ReasonCode(PacketTypes.DISCONNECT, "Keep alive timeout")),
            "the broker was silent for too long",
        ),
        (MqttCodeError(4, "Could not publish message"), "the broker closed it"),
        (MqttCodeError(16), "the broker was silent for too long"),
        (MqttCodeError(None), "the broker closed it"),
        (MqttError("Operation timed out"), "the broker did not answer in time"),
        (MqttError("[Errno 113] No route to host"), "No route to host"),
        (MqttError("[Errno -2] Name or service not known"), "Name or service not known"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_the_libraries_say_in_words(error: Exception, words: str) -> None:
    assert words_of(error) == words


async def test_a_refused_subscription_is_said_with_its_topic() -> None:
    async with scripted_broker(suback=0x80) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.SUBSCRIPTION_REFUSED)
        assert "swarm/1/s1/n/b/all and 3 more" in a.states[-1].reason
        assert a.transport.counters()["subscriptions_refused"] == 4
        a.transport.publish(to_all(b"still talking"))
        assert await seen(broker, 1) == [b"still talking"]


async def test_a_frame_that_kills_the_connection_is_counted_and_not_repeated() -> None:
    async with (
        scripted_broker(pubacks=False, hang_up_after=1) as broker,
        device(url(broker), "a", ["b"]) as a,
    ):
        await a.until_said(Link.CONNECTED)
        a.transport.publish(to_all(b"poison"))
        await a.until_said(Link.CONNECTED, times=2)
        broker.pubacks, broker.hang_up_after = True, None
        a.transport.publish(to_all(b"next"))
        assert await seen(broker, 2) == [b"poison", b"next"]
        await a.transport.close()
        counters = a.transport.counters()
        assert (counters["published"], counters["out_unacknowledged"]) == (1, 1)
        assert a.links == [Link.CONNECTED, Link.LOST, Link.CONNECTED]


async def test_a_broker_that_acknowledges_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "PUBACK_TIMEOUT_S", 0.05)
    async with scripted_broker(pubacks=False) as broker, device(url(broker), "a", ["b"]) as a:
        a.transport.publish(to_all(b"x"))
        await a.until_said(Link.CONNECTED, times=2)
        assert a.transport.counters()["published"] == 0
        assert broker.disconnects == 0, "a clean DISCONNECT would take the last will back"


async def test_a_silent_broker_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "CONNECT_TIMEOUT_S", 0.05)
    async with scripted_broker(connack=None) as broker, device(url(broker), "a", ["b"]) as a:
        async with asyncio.timeout(PATIENCE_S), broker.changed:
            await broker.changed.wait_for(lambda: broker.connects >= 3)
            await broker.changed.wait_for(lambda: len(broker._writers) <= 1)
        assert a.links == [Link.UNREACHABLE]


async def test_a_broker_that_hangs_up_before_it_answers_is_noticed_at_once() -> None:
    async with scripted_broker(hang_up_after=0) as broker, device(url(broker), "a", ["b"]) as a:
        async with asyncio.timeout(3):  # far below the time-out of a CONNACK
            await a.until_said(Link.UNREACHABLE)
        assert "hangs up" in a.states[0].reason


async def test_cancellation_while_connecting_leaves_nothing() -> None:
    async with scripted_broker(connack=None) as broker:
        async with device(url(broker), "a", ["b"]) as a, asyncio.timeout(PATIENCE_S), broker.changed:
            await broker.changed.wait_for(lambda: broker.connects == 1)
        assert a.task.cancelled()
        async with asyncio.timeout(PATIENCE_S), broker.changed:
            await broker.changed.wait_for(lambda: not broker._writers)


async def test_too_large_frames_are_refused_both_ways() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        assert not a.transport.publish(to_all(bytes(limits.FRAME_BYTES_MAX + 1)))
        assert a.transport.publish(to_all(bytes(limits.FRAME_BYTES_MAX)))
        await seen(broker, 1)
        broker.inject(topic_all("s1", "b").encode(), bytes(limits.FRAME_BYTES_MAX + 1))
        broker.inject(topic_all("s1", "b").encode(), bytes(limits.FRAME_BYTES_MAX))
        (frame,) = await a.frames(1)
        assert len(frame.payload) == limits.FRAME_BYTES_MAX
        counters = a.transport.counters()
        assert (counters["out_too_large"], counters["in_too_large"], counters["received"]) == (1, 1, 2)


async def test_topics_nobody_asked_for_are_counted_and_dropped() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        for topic in ("swarm/1/s1/n/stranger/all", "swarm/1/other/n/b/all", "swarm/1/s1/n/b/to/c", "x"):
            broker.inject(topic.encode(), b"no")
        broker.inject(b"swarm/1/s1/n/b/to/a", b"yes")
        (frame,) = await a.frames(1)
        assert (frame.topic_sender, frame.scope, frame.payload) == ("b", Scope.TO, b"yes")
        assert a.transport.counters()["in_unwanted_topic"] == 4


@pytest.mark.parametrize("topic", [b"\xff\xfe", b"a/+/b", b"#", b""])
async def test_a_broker_that_breaks_the_protocol_costs_one_connection(topic: bytes) -> None:
    async with scripted_broker() as broker:
        before = open_files()
        async with device(url(broker), "a", ["b"]) as a:
            await a.until_said(Link.CONNECTED)
            broker.inject(topic, b"x")
            await a.until_said(Link.CONNECTED, times=2)
            broker.inject(topic_all("s1", "b").encode(), b"after")
            assert [frame.payload for frame in await a.frames(1)] == [b"after"]
            assert a.links == [Link.CONNECTED, Link.LOST, Link.CONNECTED]
        async with asyncio.timeout(PATIENCE_S), broker.changed:
            await broker.changed.wait_for(lambda: not broker._writers)
        await asyncio.sleep(0.01)
        # paho would keep the socket and handle the broken packet again and again.
        assert open_files() == before


async def test_a_full_inbox_drops_and_counts() -> None:
    inbox = Inbox(frames_max=3)
    async with scripted_broker() as broker, device(url(broker), "a", ["b"], inbox=inbox) as a:
        await a.until_said(Link.CONNECTED)
        for number in range(10):
            broker.inject(topic_all("s1", "b").encode(), b"%d" % number)
        async with asyncio.timeout(PATIENCE_S):
            while a.transport.counters()["received"] < 10:  # noqa: ASYNC110  -- dropped frames wake nobody
                await asyncio.sleep(0.01)
        assert a.transport.counters()["inbox_full_frames"] == 7
        assert [frame.payload for frame in await a.frames(3)] == [b"0", b"1", b"2"]


async def test_listen_to_changes_the_subscriptions_of_a_live_connection() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        broker.subscribed.clear()
        a.transport.listen_to(["c"])
        async with asyncio.timeout(PATIENCE_S), broker.changed:
            await broker.changed.wait_for(lambda: len(broker.unsubscribed) == 4)
        assert all("/n/c/" in topic for topic in broker.subscribed)
        assert len(broker.subscribed) == 4
        assert all("/n/b/" in topic for topic in broker.unsubscribed)


async def test_while_away_the_oldest_are_dropped_and_beats_are_not_kept() -> None:
    async with scripted_broker(connack=3) as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.REFUSED)
        for number in range(limits.OUTBOX_FRAMES_MAX + 5):
            a.transport.publish(to_all(b"%d" % number))
        a.transport.publish(Outgoing(Scope.BEAT, None, b"beat"))
        counters = a.transport.counters()
        assert (counters["outbox_dropped"], counters["out_beats_skipped"]) == (5, 1)
        broker.connack = 0
        payloads = await seen(broker, limits.OUTBOX_FRAMES_MAX)
        assert payloads[0] == b"5"
        assert b"beat" not in payloads


async def test_many_connections_leak_neither_tasks_nor_threads() -> None:
    async with scripted_broker() as broker, device(url(broker), "a", ["b"]) as a:
        await a.until_said(Link.CONNECTED)
        tasks = len(asyncio.all_tasks())
        for times in range(2, 7):
            broker.hang_up()
            await a.until_said(Link.CONNECTED, times=times)
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) <= tasks + 1
        assert not [thread.name for thread in threading.enumerate() if "paho" in thread.name]
