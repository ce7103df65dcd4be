"""Agents for tests: device folders with real files, and an in-memory bus in place of a broker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from swarm.agent.agent import Agent
from swarm.agent.keyfile import write_key_file
from swarm.agent.presence import sign_presence
from swarm.apps.decisions.rules import DecisionView, Outcome
from swarm.apps.router import Router
from swarm.behaviours.behaviour import BehaviourContext
from swarm.behaviours.loader import Behaviours, LoadedBehaviour
from swarm.crypto.signing import verify
from swarm.device.device import Device, DeviceConfig
from swarm.device.turn import DeviceEvent
from swarm.primitives.ids import DeviceId
from swarm.storage.memory import MemoryStore
from swarm.storage.sqlite import create_store
from swarm.storage.store import Store
from swarm.transport.mqtt import Presence
from swarm.transport.topics import Scope
from swarm.transport.transport import ConnectionState, Frame, Inbox, Link, Outgoing
from swarm.wire.genesis import Genesis
from tests.support.swarms import keypair

PATIENCE_S = 60.0


class Hub:
    """Carries every frame to everybody it is for, in the next step of the loop."""

    def __init__(self) -> None:
        self.inboxes: dict[DeviceId, Inbox] = {}
        self.published: list[tuple[DeviceId, Outgoing]] = []
        self.births: dict[DeviceId, Frame] = {}
        self._carried = asyncio.Event()

    def join(self, me: DeviceId, inbox: Inbox, birth: bytes) -> None:
        """Let `me` hear and be heard; births are retained as a broker would."""
        for frame in self.births.values():
            inbox.offer(frame)
        self.inboxes[me] = inbox
        self.births[me] = Frame(me, Scope.STATUS, birth)
        self.carry(me, Outgoing(Scope.STATUS, None, birth))

    def carry(self, sender: DeviceId, outgoing: Outgoing) -> None:
        self.published.append((sender, outgoing))
        self._carried.set()
        for id, inbox in self.inboxes.items():
            if id != sender and outgoing.dest in (None, id):
                frame = Frame(sender, outgoing.scope, outgoing.payload)
                asyncio.get_running_loop().call_soon(inbox.offer, frame)

    def broadcasts(self, sender: DeviceId, scope: Scope) -> list[bytes]:
        return [out.payload for who, out in self.published if who == sender and out.scope is scope]

    async def until_broadcasts(self, sender: DeviceId, scope: Scope, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.broadcasts(sender, scope)) < count:
                self._carried.clear()
                await self._carried.wait()


class HubTransport:
    """One agent's place at the hub."""

    def __init__(
        self,
        hub: Hub,
        me: DeviceId,
        inbox: Inbox,
        on_state: Callable[[ConnectionState], None],
        presence: Presence,
    ) -> None:
        self._presence = presence
        self._hub = hub
        self._me = me
        self._inbox = inbox
        self.on_state = on_state
        self._closed = asyncio.Event()
        self.failure: Exception | None = None
        self.fail = asyncio.Event()

    async def run(self) -> None:
        self._hub.join(self._me, self._inbox, self._presence.birth)
        self.on_state(ConnectionState(Link.CONNECTED, "hub"))
        waiting = [asyncio.create_task(event.wait()) for event in (self._closed, self.fail)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if self.failure is not None:
            raise self.failure

    def publish(self, outgoing: Outgoing) -> bool:
        self._hub.carry(self._me, outgoing)
        return True

    def listen_to(self, members: Iterable[DeviceId]) -> None:
        self.heard = tuple(members)

    async def close(self) -> None:
        self._hub.inboxes.pop(self._me, None)
        self._closed.set()

    def counters(self) -> Mapping[str, int]:
        return {}


class Says:
    """A behaviour with one answer; `gate`, if given, is waited for in the behaviour's thread."""

    in_simulator: ClassVar[bool] = True

    def __init__(self, _context: BehaviourContext | None, options: Mapping[str, object]) -> None:
        value = options["value"]
        assert isinstance(value, int)
        self.value = value
        self.outcomes: list[Outcome] = []
        self.told = threading.Event()
        self.before: Callable[[], None] = lambda: None

    def on_open(self, decision: DecisionView, now_ms: int) -> int:
        self.before()
        return self.value

    def on_outcome(self, outcome: Outcome, now_ms: int) -> None:
        self.outcomes.append(outcome)
        self.told.set()


def one_behaviour(behaviour: Says) -> Behaviours:
    return Behaviours((LoadedBehaviour(kind="says", subject=None, behaviour=behaviour),))


@dataclass
class Heard:
    """What an agent reported, and a way to wait for it."""

    events: list[DeviceEvent] = field(default_factory=list)
    links: list[ConnectionState] = field(default_factory=list)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    def on_event(self, event: DeviceEvent) -> None:
        self.events.append(event)
        self.said.set()

    def on_link(self, state: ConnectionState) -> None:
        self.links.append(state)
        self.said.set()

    def all(self, kind: str) -> list[dict[str, object]]:
        return [dict(event.data) for event in self.events if event.kind == kind]

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not ready():
                self.said.clear()
                await self.said.wait()

    async def until_happened(self, kind: str, *, times: int = 1) -> list[dict[str, object]]:
        await self.until(lambda: len(self.all(kind)) >= times)
        return self.all(kind)

    async def until_committed(self, *tags: int) -> None:
        wanted = frozenset(tags)

        def done() -> bool:
            committed: set[object] = set()
            for data in self.all("committed"):
                found = data["tags"]
                assert isinstance(found, tuple)
                committed.update(found)
            return wanted <= committed

        await self.until(done)

    async def until_link(self, link: Link, *, times: int = 1) -> None:
        await self.until(lambda: [state.link for state in self.links].count(link) >= times)

    def outcomes(self) -> list[Outcome]:
        found = [data["outcome"] for data in self.all("closed")]
        return [outcome for outcome in found if isinstance(outcome, Outcome)]


def memory_store(genesis: Genesis, id: DeviceId) -> MemoryStore:
    return MemoryStore(swarm_id=genesis.id, device=id, key_public=keypair(id).public)


def hub_agent(
    hub: Hub,
    genesis: Genesis,
    id: DeviceId,
    heard: Heard,
    *,
    store: Store | None = None,
    behaviours: Behaviours | None = None,
    heartbeat_ms: int = 10_000,
) -> Agent:
    """Return an agent at the hub, with a store in memory unless one is given."""
    held = memory_store(genesis, id) if store is None else store
    config = DeviceConfig(
        genesis=genesis, me=id, keypair=keypair(id), delta_floor_ms=50, heartbeat_ms=heartbeat_ms
    )
    device = Device(config, held, Router(genesis.apps), verify, time.monotonic_ns() // 1_000_000)
    presence = sign_presence(genesis.id, id, keypair(id), device.boot)
    return Agent(
        device=device,
        store=held,
        genesis=genesis,
        me=id,
        make_transport=lambda inbox, on_state: HubTransport(hub, id, inbox, on_state, presence),
        behaviours=behaviours,
        on_event=heard.on_event,
        on_link=heard.on_link,
    )


@asynccontextmanager
async def running(*agents: Agent) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run agents; those that still run at the end of the block are stopped in order."""
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    try:
        yield tasks
    finally:
        for agent in agents:
            agent.stop()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*tasks, return_exceptions=True)


AGENT_YAML = """\
genesis: genesis.json
device: {id}
key: {id}.key
store: {id}.sqlite
broker: {{url: "{url}"}}
behaviours: [{{subject: temperature, kind: thermostat, mean: {mean}}}]
"""


def write_device(root: Path, genesis: Genesis, id: DeviceId, url: str, *, mean: float = 21.0) -> Path:
    """Make the folder of a device as `swarm init` does, with the fixed key of tests; returns its agent.yaml."""
    folder = root / id
    folder.mkdir(parents=True)
    (folder / "genesis.json").write_text(genesis.to_json())
    write_key_file(folder / f"{id}.key", keypair(id).seed)
    create_store(folder / f"{id}.sqlite", genesis.id, id, keypair(id).public)
    path = folder / "agent.yaml"
    path.write_text(AGENT_YAML.format(id=id, url=url, mean=mean))
    return path
