"""An independent listener on the broker: what the devices really published, for the checkers and the totals.

No member of the swarm: it believes nobody, sends nothing, and no device knows of it. It listens with QoS 0, so that a
run is not slowed by its acknowledgements; a frame that it misses is one that no checker complains about.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Final

import aiomqtt

from swarm.primitives.ids import DeviceId
from swarm.transport.topics import Scope, parse, topic_status
from swarm.transport.url import BrokerUrl, tls_context

OnFrame = Callable[[DeviceId, Scope, bytes], None]
"""Topic sender, scope and payload of a frame as somebody published it."""

_AGAIN_S: Final = 0.2
_IN_FLIGHT_MAX: Final = 64

# What the library would say, `Supervisor` says better.
_LIBRARY_LOG: Final = logging.getLogger("swarm.lab.processes.wiretap.library")
_LIBRARY_LOG.setLevel(logging.CRITICAL)


class Wiretap:
    """Hears all topics of one swarm; `run` keeps the connection up until it is cancelled."""

    def __init__(self, broker: BrokerUrl, swarm: str, on_frame: OnFrame) -> None:
        """Prepare without connecting; `on_frame` must not raise."""
        self._broker = broker
        self._swarm = swarm
        self._on_frame = on_frame
        self._client: aiomqtt.Client | None = None
        self.is_listening = False
        """Whether what is published now is heard."""

    async def run(self) -> None:
        """Listen, and connect again when the connection is lost."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with self._fresh_client() as client:
                    await client.subscribe(f"swarm/1/{self._swarm}/n/+/#", qos=0)
                    self._client = client
                    self.is_listening = True
                    async for _ in client.messages:
                        pass
            self._client = None
            self.is_listening = False
            await asyncio.sleep(_AGAIN_S)

    async def forget_presence(self, members: Iterable[DeviceId]) -> None:
        """Take the retained status of `members` off a broker that outlives the run."""
        if self._client is None:
            return
        with contextlib.suppress(aiomqtt.MqttError):
            for member in members:
                await self._client.publish(topic_status(self._swarm, member), b"", qos=1, retain=True)

    def _fresh_client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier=f"{self._swarm}-wiretap",
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            tls_context=tls_context(self._broker),
            queue_type=_queue_into(self._hear),
            max_inflight_messages=_IN_FLIGHT_MAX,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            logger=_LIBRARY_LOG,
        )

    def _hear(self, message: aiomqtt.Message) -> None:
        parsed = parse(message.topic.value)
        if parsed is not None and parsed.scope is not Scope.STATUS and isinstance(message.payload, bytes):
            self._on_frame(parsed.sender, parsed.scope, message.payload)


def _queue_into(hear: Callable[[aiomqtt.Message], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    """Return a queue class that keeps nothing: what is put goes to `hear`, and `get` waits for ever."""

    class _Sink(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            hear(item)

    return _Sink
