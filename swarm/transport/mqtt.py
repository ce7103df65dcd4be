"""MQTT 3.1.1 behind the `Transport` port, on aiomqtt: one connection, kept up, with presence.

What a reader should know about the libraries below, because the code is shaped by it:

* aiomqtt's own message loop creates a task per message and its queue has no bound, so the queue class is replaced
  (`queue_type` is part of its public interface) by one that hands each message straight to our `Inbox`.
* It hides PUBACK refusals, and a plain 3.1.1 broker cannot even express them: an acknowledgement is counted and
  believed by nobody.
* A `Client` that is entered again sends old messages again; each connection therefore gets a fresh one. Frames in
  flight when a connection dies are counted and not repeated: one that made the broker hang up would do so for ever.
* A broker with Nagle's algorithm on (Mosquitto's default) holds a frame for us back until TCP has acknowledged the
  PUBACK before it, which our kernel delays by 40 ms: `_acknowledge_now`.
* Awaiting each PUBACK in turn gave 4,900 frames/s over loopback, 32 in flight 12,700, calling paho behind aiomqtt's
  back 15,600: the pool stays, at the price of a fifth, on the public interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import aiomqtt

from swarm.primitives import limits
from swarm.primitives.errors import check
from swarm.primitives.ids import DeviceId
from swarm.transport.connection import (
    CONNECT_TIMEOUT_S,
    LIBRARY_LOG,
    Client,
    connect,
    end_tasks,
    queue_into,
    shut,
    socket_of,
    until_lost,
    words_of,
)
from swarm.transport.topics import QOS, RETAINED, Scope, parse, subscriptions, topic_of, topic_status
from swarm.transport.transport import ConnectionState, Frame, Inbox, Link, Outbox, Outgoing
from swarm.transport.url import BrokerUrl, tls_context

KEEPALIVE_S: Final = 30
IN_FLIGHT_MAX: Final = 32
"""QoS 1 frames sent and not yet acknowledged."""

BULK_IN_FLIGHT_MAX: Final = 4
"""Bulk frames among them: 128 KiB are all that a vote finds before it in the socket."""

PUBACK_TIMEOUT_S: Final = 20.0
"""A broker that acknowledges nothing for so long is treated as gone."""

LEAVE_TIMEOUT_S: Final = 2.0
BACKOFF_BASE_S: Final = 0.25
BACKOFF_CAP_S: Final = 30.0
STABLE_S: Final = 10.0
"""A connection that lived so long ends a series of failures; a shorter one does not, or two devices with one
name would throw each other out four times a second for ever."""

FILTERS_PER_SUBSCRIBE: Final = 32
"""Filters in one SUBSCRIBE packet, some 2 KiB: far below every broker's packet size."""

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)  # Linux only


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What the retained status topic says: after connecting, by the broker when we vanish, and when we leave.

    The payloads come ready and signed; the last will is fixed when connecting, so it was signed before.
    """

    birth: bytes
    will: bytes
    offline: bytes


def backoff_s(attempt: int, fraction: float) -> float:
    """Return the pause before the next attempt: `fraction` (0 to 1) of the cap for `attempt` = 0, 1, ...

    Full jitter over a doubling interval that stops growing at 30 s: after a broker's restart a fleet does not
    come back in one wave.
    """
    return fraction * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(attempt, 16))


class MqttTransport:
    """One device's connection to one broker; implements `Transport`.

    `run` keeps connecting until `close` or cancellation, with full-jitter pauses drawn from `random` (a source of
    numbers in [0, 1)). After each connection it subscribes, publishes the birth, and then sends what waits in the
    outbox. `on_state` hears each change of the connection once, however often it is tried again; it must not raise.
    """

    def __init__(
        self,
        *,
        broker: BrokerUrl,
        swarm: str,
        me: DeviceId,
        members: Iterable[DeviceId],
        inbox: Inbox,
        random: Callable[[], float],
        presence: Presence | None = None,
        on_state: Callable[[ConnectionState], None] = lambda _state: None,
        echo: bool = False,
        scopes: Collection[Scope] = tuple(Scope),
        client_id: str = "",
    ) -> None:
        """Prepare without connecting. Raises `ConfigError` for unusable TLS files.

        `members` and `scopes` are what to listen to (`topics.subscriptions`); without `presence` it stays invisible.
        `client_id` defaults to `<swarm>-<me>`; two live connections with one id throw each other out.
        """
        self._broker = broker
        self._tls = tls_context(broker)
        self._swarm = swarm
        self._me = me
        self._echo = echo
        self._scopes = scopes
        self._inbox = inbox
        self._random = random
        self._presence = presence
        self._on_state = on_state
        self._client_id = client_id or f"{swarm}-{me}"
        self._outbox = Outbox()
        self._wanted: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._senders: dict[str, tuple[DeviceId, Scope]] = {}
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0
        self._running = False
        self._socket: socket.socket | None = None
        self._client: Client | None = None
        self._said: Link | None = None
        self._count: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        self.connected = False
        self.last_ack_s: float | None = None
        self.listen_to(members)

    # ------------------------------------------------------------------------------------------ the port

    async def run(self) -> None:
        """Keep the connection up until `close` or cancellation; call it once."""
        check(not self._running, "MqttTransport.run is called once")
        self._running = True
        clock = asyncio.get_running_loop().time
        attempt = 0
        try:
            while not self._closing.is_set():
                began = clock()
                ended = await self._session()
                if self._closing.is_set():
                    return
                self._say(ended)
                attempt = 0 if clock() - began >= STABLE_S else attempt
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff_s(attempt, self._random())):
                        await self._closing.wait()
                attempt += 1
        finally:
            self._ended.set()

    def publish(self, outgoing: Outgoing) -> bool:
        """Queue one frame and return at once; False if it is too large for any broker (counted)."""
        if len(outgoing.payload) > limits.FRAME_BYTES_MAX:
            self._count["out_too_large"] += 1
            return False
        if outgoing.scope is Scope.BEAT and not self.connected:
            # A heartbeat of the past would only push a frame that still matters out of the outbox.
            self._count["out_beats_skipped"] += 1
            return True
        if outgoing.bulk and not self.connected:
            # Whoever asked for it has asked somebody else by the time we are back.
            self._count["out_bulk_skipped"] += 1
            return True
        if outgoing.repeated and self._publish_at_once(outgoing):
            return True
        self._outbox.put(outgoing)
        self._idle.clear()
        return True

    def _publish_at_once(self, outgoing: Outgoing) -> bool:
        """Let a frame that nobody acknowledges pass by the pumps, unless something waits there before it."""
        if self._client is None or not self.connected or not self._outbox.holds_bulk_only:
            return False
        topic = topic_of(self._swarm, self._me, outgoing.scope, outgoing.dest)
        if not self._client.publish_unacknowledged(topic, outgoing.payload):
            return False
        self._count["published"] += 1
        self._count["published_bytes"] += len(outgoing.payload)
        return True

    async def close(self) -> None:
        """Send what waits but bulk (for a second at most), say `offline`, disconnect, wait for `run` to return."""
        self._drop_bulk()
        if self.connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._idle.wait()
        self._closing.set()
        if self._running:
            await self._ended.wait()

    def counters(self) -> Mapping[str, int]:
        """Return all counters; each name is always there, so that a missing one is a mistake and not a zero."""
        return {
            **self._count,
            **self._inbox.dropped,
            "outbox_dropped": self._outbox.dropped,
            "outbox_bulk_dropped": self._outbox.bulk_dropped,
        }

    def listen_to(self, members: Iterable[DeviceId]) -> None:
        """Replace the members to listen to; takes effect at once if connected, else with the next connection."""
        wanted = dict(subscriptions(self._swarm, self._me, members, echo=self._echo, scopes=self._scopes))
        senders: dict[str, tuple[DeviceId, Scope]] = {}
        for topic in wanted:
            parsed = parse(topic)
            check(parsed is not None, f"subscription {topic} cannot be parsed")
            if parsed is not None:
                senders[topic] = (parsed.sender, parsed.scope)
        self._wanted = wanted
        self._senders = senders
        self._changed.set()

    # ------------------------------------------------------------------------------------------ one connection

    async def _session(self) -> ConnectionState:
        """Connect, work until the connection ends, leave nothing behind; returns why it ended."""
        client = self._fresh_client()
        lost = asyncio.ensure_future(until_lost(client))
        work: list[asyncio.Task[None]] = []
        goodbye = True
        try:
            refusal = await connect(client)
            if refusal is not None:
                goodbye = False
                return refusal
            self._count["connects"] += 1
            deaf = await self._announce(client)
            self._socket, self._client = socket_of(client), client
            self.connected = True
            self._say(ConnectionState(Link.CONNECTED, str(self._broker)))
            if deaf is not None:
                self._say(deaf)
            work.append(asyncio.create_task(self._follow_subscriptions(client)))
            # Bulk has pumps of its own, so that there is always a free one for a vote beside them.
            take, take_bulk = self._outbox.get, self._outbox.get_bulk
            for number in range(IN_FLIGHT_MAX):
                pump = self._pump(client, take_bulk if number < BULK_IN_FLIGHT_MAX else take)
                work.append(asyncio.create_task(pump))
            closing = asyncio.create_task(_wait_for_event(self._closing))
            work.append(closing)
            done, _ = await asyncio.wait({lost, *work}, return_when=asyncio.FIRST_COMPLETED)
            goodbye = done == {closing}
            return ConnectionState(Link.LOST, _reason_of(done))
        except aiomqtt.MqttError as error:
            goodbye = False
            return ConnectionState(Link.LOST, f"connection lost: {words_of(error.__cause__ or error)}")
        finally:
            said_hello, self.connected = self.connected, False
            self._socket = self._client = None
            self._drop_bulk()
            await end_tasks(work)
            await self._leave(client, politely=goodbye and said_hello)
            # After a lost connection it has ended, or will with this: it takes the error nobody else looks at.
            await asyncio.wait({lost}, timeout=0.05)
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)

    def _fresh_client(self) -> Client:
        client = Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=KEEPALIVE_S,
            timeout=CONNECT_TIMEOUT_S,
            tls_context=self._tls,
            queue_type=queue_into(self._deliver),
            # One more than the pool, for the birth and the farewell; nothing ever queues inside paho.
            max_inflight_messages=IN_FLIGHT_MAX + 1,
            # Without it a QoS 1 stream falls from 9,400 to 360 deliveries/s by Nagle meeting delayed acks.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            will=None if self._presence is None else self._will(self._presence.will),
            logger=LIBRARY_LOG,
        )
        client.pending_calls_threshold = IN_FLIGHT_MAX + FILTERS_PER_SUBSCRIBE
        return client

    def _will(self, payload: bytes) -> aiomqtt.Will:
        return aiomqtt.Will(
            topic_status(self._swarm, self._me), payload, qos=QOS[Scope.STATUS], retain=RETAINED[Scope.STATUS]
        )

    async def _announce(self, client: Client) -> ConnectionState | None:
        """Subscribe first, so that answers to the birth are heard, then publish the birth."""
        self._changed.clear()
        self._held = self._wanted
        deaf = await self._subscribe(client, list(self._held.items()))
        if self._presence is not None:
            await self._publish_status(client, self._presence.birth)
        return deaf

    async def _follow_subscriptions(self, client: Client) -> None:
        """Keep the broker's idea of our subscriptions equal to `listen_to`."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            held, wanted = self._held, self._wanted
            deaf = await self._subscribe(client, [pair for pair in wanted.items() if pair[0] not in held])
            if deaf is not None:
                self._say(deaf)
            gone = [topic for topic in held if topic not in wanted]
            for start in range(0, len(gone), FILTERS_PER_SUBSCRIBE):
                await client.unsubscribe(gone[start : start + FILTERS_PER_SUBSCRIBE])
            self._held = wanted

    async def _subscribe(self, client: Client, pairs: list[tuple[str, int]]) -> ConnectionState | None:
        """Subscribe in batches; what the broker refuses is counted and returned as something to tell."""
        refused: list[str] = []
        for start in range(0, len(pairs), FILTERS_PER_SUBSCRIBE):
            batch = pairs[start : start + FILTERS_PER_SUBSCRIBE]
            answers = await client.subscribe(batch)
            codes = [answer if isinstance(answer, int) else answer.value for answer in answers]
            # An answer that is missing counts as refused.
            codes += [0x80] * (len(batch) - len(codes))
            refused += [topic for (topic, _), code in zip(batch, codes, strict=False) if code >= 0x80]
        if not refused:
            return None
        self._count["subscriptions_refused"] += len(refused)
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        reason = f"{self._broker} refuses the subscription to {refused[0]}{more}"
        return ConnectionState(Link.SUBSCRIPTION_REFUSED, reason)

    async def _publish_status(self, client: Client, payload: bytes) -> None:
        await client.publish(
            topic_status(self._swarm, self._me),
            payload,
            qos=QOS[Scope.STATUS],
            retain=RETAINED[Scope.STATUS],
        )

    async def _pump(self, client: Client, take: Callable[[], Awaitable[Outgoing]]) -> None:
        """Publish what `take` gives, one frame at a time; the pool of pumps is what keeps many in flight.

        Frames leave in the order they were queued: each pump calls paho in the same step in which it took a frame.
        """
        clock = asyncio.get_running_loop().time
        count = self._count
        while True:
            outgoing = await take()
            topic = topic_of(self._swarm, self._me, outgoing.scope, outgoing.dest)
            qos = 0 if outgoing.repeated else QOS[outgoing.scope]
            self._in_flight += 1
            began = clock()
            try:
                await client.publish(
                    topic,
                    outgoing.payload,
                    qos=qos,
                    retain=RETAINED[outgoing.scope],
                    timeout=PUBACK_TIMEOUT_S,
                )
            except BaseException:
                count["out_unacknowledged"] += 1
                raise
            finally:
                self._in_flight -= 1
                self._look_idle()
            count["published"] += 1
            count["published_bytes"] += len(outgoing.payload)
            if qos:
                self.last_ack_s = clock() - began
                self._acknowledge_now()
            else:
                # QoS 0 never waits; without this a pump could empty a long outbox in one step of the loop.
                await asyncio.sleep(0)

    def _look_idle(self) -> None:
        if not self._in_flight and not len(self._outbox):
            self._idle.set()

    def _drop_bulk(self) -> None:
        self._outbox.drop_bulk()
        self._look_idle()

    async def _leave(self, client: Client, *, politely: bool) -> None:
        """Make sure that the socket is gone whatever happens.

        Only a polite end sends `offline` and DISCONNECT, which takes the last will back; after any other end the
        broker publishes it.
        """
        client.timeout = LEAVE_TIMEOUT_S
        try:
            if politely:
                with contextlib.suppress(aiomqtt.MqttError):
                    if self._presence is not None:
                        await self._publish_status(client, self._presence.offline)
                    await client.__aexit__(None, None, None)
        finally:
            await shut(client)

    # ------------------------------------------------------------------------------------------ inwards

    def _deliver(self, message: aiomqtt.Message) -> None:
        """Put one message into the inbox; runs inside the library's reader and must not raise."""
        payload = message.payload
        known = self._senders.get(message.topic.value)
        self._count["received"] += 1
        if known is None:
            self._count["in_unwanted_topic"] += 1
        elif not isinstance(payload, bytes) or len(payload) > limits.FRAME_BYTES_MAX:
            self._count["in_too_large"] += 1
        else:
            self._inbox.offer(Frame(known[0], known[1], payload))
        if not message.qos:
            # A QoS 1 frame is answered by our PUBACK at once, which carries TCP's acknowledgement along.
            self._acknowledge_now()

    def _acknowledge_now(self) -> None:
        """Let TCP acknowledge what came, instead of waiting 40 ms for something to send along with it.

        Without this four devices needed 48 ms for a round of votes over a Mosquitto with its default settings,
        with it 7. The option is no state but an order, so it is given each time.
        """
        if self._socket is not None and _QUICKACK is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _say(self, state: ConnectionState) -> None:
        """Report `state` unless it says what was said last; `lost` already implies `unreachable`."""
        if state.link is self._said or (state.link is Link.UNREACHABLE and self._said is Link.LOST):
            return
        self._said = state.link
        self._on_state(state)


_COUNTERS: Final = (
    "connects",
    "published",
    "published_bytes",
    "received",
    "in_too_large",
    "in_unwanted_topic",
    "out_beats_skipped",
    "out_bulk_skipped",
    "out_too_large",
    "out_unacknowledged",
    "subscriptions_refused",
)


async def _wait_for_event(event: asyncio.Event) -> None:
    await event.wait()


def _reason_of(done: set[asyncio.Future[None]] | set[asyncio.Task[None]]) -> str:
    for task in done:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            return f"connection lost: {words_of(error.__cause__ or error)}"
    return "connection closed"
