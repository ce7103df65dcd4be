"""One MQTT client under test, with everything it said about its connection, and a way to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from swarm.transport.mqtt import MqttTransport, Presence
from swarm.transport.transport import ConnectionState, Frame, Inbox, Link
from swarm.transport.url import BrokerUrl, parse_broker

PATIENCE_S = 60.0


@dataclass
class Device:
    """A running transport and its surroundings."""

    transport: MqttTransport
    inbox: Inbox
    task: asyncio.Task[None]
    states: list[ConnectionState]
    said: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def links(self) -> list[Link]:
        return [state.link for state in self.states]

    async def until_said(self, link: Link, *, times: int = 1) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.links.count(link) < times:
                self.said.clear()
                await self.said.wait()

    async def frames(self, count: int) -> list[Frame]:
        got: list[Frame] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(got) < count:
                await self.inbox.wait()
                got += self.inbox.take_all(count - len(got))
        return got


def presence_of(me: str) -> Presence:
    return Presence(
        birth=f'{{"{me}":"online"}}'.encode(),
        will=f'{{"{me}":"lost"}}'.encode(),
        offline=f'{{"{me}":"offline"}}'.encode(),
    )


@asynccontextmanager
async def device(
    broker: str | BrokerUrl,
    me: str,
    members: Sequence[str],
    *,
    inbox: Inbox | None = None,
    presence: bool = False,
    echo: bool = False,
    random: Callable[[], float] = lambda: 0.05,
) -> AsyncIterator[Device]:
    """Run a transport for `me`; it is cancelled at the end of the block if it still runs."""
    inbox = Inbox() if inbox is None else inbox
    states: list[ConnectionState] = []
    said = asyncio.Event()

    def on_state(state: ConnectionState) -> None:
        states.append(state)
        said.set()

    transport = MqttTransport(
        broker=parse_broker(broker) if isinstance(broker, str) else broker,
        swarm="s1",
        me=me,
        members=members,
        inbox=inbox,
        random=random,
        presence=presence_of(me) if presence else None,
        on_state=on_state,
        echo=echo,
    )
    task = asyncio.create_task(transport.run())
    try:
        yield Device(transport, inbox, task, states, said)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or task.exception() is None
