"""Starts the broker and one worker a device, carries out what a run does to them, and leaves no process behind.

Use it with `async with`: whatever ends the block, all processes that it started are gone afterwards. If this very
process is killed, workers and broker see the end of their standard input, and the kernel kills the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from swarm.device import events
from swarm.device.events import event_from_json
from swarm.device.turn import DeviceEvent
from swarm.lab.processes.child import Child
from swarm.lab.processes.folder import RunFolder
from swarm.lab.processes.pipe import (
    AskStatus,
    Attack,
    Command,
    Happened,
    Impair,
    Offline,
    Ready,
    Report,
    Start,
    Status,
    Stop,
    Submit,
    Weather,
)
from swarm.lab.processes.wiretap import OnFrame, Wiretap
from swarm.lab.scenario.schema import Cut, Partition, Scenario
from swarm.primitives.errors import InvariantError, TransportError
from swarm.transport.broker import EmbeddedBroker, answers_connect
from swarm.transport.url import BrokerUrl, parse_broker

OnEvent = Callable[[str, DeviceEvent], None]
"""Device and event; its time is the monotonic clock of this machine, which all processes share."""

PROBE_TIMEOUT_S: Final = 5.0
"""How long a broker that is not ours may take to accept a first connection."""

CONNECT_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_PER_DEVICE_S: Final = 1.0
"""A worker starts in 0.4 s of processor time, and fifty of them share two cores."""

QUORUM_PATIENCE_S: Final = 12.0
"""How long to wait for voters to hear each other; a lossy network may take a heartbeat interval of 10 s."""

STOP_TIMEOUT_S: Final = 8.0
_POLL_S: Final = 0.01


class Supervisor:
    """All processes of one run. A worker that ends by itself ends the run: `sleep_until` and the rest raise its error."""

    def __init__(
        self,
        scenario: Scenario,
        path: Path,
        *,
        broker: str | None,
        on_event: OnEvent,
        on_frame: OnFrame,
    ) -> None:
        """Prepare a run in the empty folder `path`; `broker` is a URL, None for an embedded one.

        Raises `ConfigError` for a URL that is none. The callbacks must not raise.
        """
        self._scenario = scenario
        self._path = path
        self._url: BrokerUrl | None = None if broker is None else parse_broker(broker, where="--broker")
        self._on_event = on_event
        self._on_frame = on_frame
        self._broker: EmbeddedBroker | None = None
        self._folder: RunFolder | None = None
        self._wiretap: Wiretap | None = None
        self._listening: asyncio.Task[None] | None = None
        self._children: dict[str, Child] = {}
        """The newest process of each device, also one that has ended."""
        self._ended: list[Child] = []
        """Processes before the newest."""
        self._weather = Weather()
        self._attacks: dict[str, str] = {}
        self._failed = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def folder(self) -> RunFolder:
        """Genesis, keys and stores; there once the run has started."""
        if self._folder is None:
            raise InvariantError("the run has not started")
        return self._folder

    @property
    def children(self) -> Mapping[str, Child]:
        """The newest process of each device."""
        return self._children

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of all that runs: broker first, then workers."""
        broker = None if self._broker is None else self._broker.pid
        workers = [child.pid for child in self._children.values() if child.is_running]
        return (*(() if broker is None else (broker,)), *workers)

    async def __aenter__(self) -> Self:
        """Start nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """End every process at once."""
        for child in self._children.values():
            child.kill()
        await asyncio.gather(*(child.wait() for child in self._children.values()))
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._broker is not None:
            await self._broker.stop_async()

    # ------------------------------------------------------------------------------ start

    async def start(self) -> None:
        """Start everything; returns when all devices are connected and the voters hear a quorum.

        Raises `TransportError` for a broker that cannot be used, and what made a worker end.
        """
        if self._url is not None:
            await _probe(self._url)
        # Interpreters start while the broker does; a worker waits for its first command.
        for device in self._scenario.devices.ids:
            await self._spawn(device)
        url = self._url
        if url is None:
            self._broker = EmbeddedBroker()
            await self._broker.start_async()
            url = parse_broker(self._broker.url)
        self._folder = RunFolder(
            self._path, self._scenario, broker_url=str(url), shared_broker=self._broker is None
        )
        self._wiretap = Wiretap(url, self._folder.genesis.swarm, self._on_frame)
        self._listening = asyncio.create_task(self._wiretap.run())
        timeout_s = CONNECT_TIMEOUT_S + CONNECT_TIMEOUT_PER_DEVICE_S * len(self._children)
        wiretap = self._wiretap
        if not await self._until(lambda: wiretap.is_listening, timeout_s):
            raise TransportError(f"nobody can listen on {url}")
        for child in self._children.values():
            self._send_start(child, life=1)
        if not await self._until(self._all_connected, timeout_s):
            trouble = next((child.trouble for child in self._children.values() if child.trouble), "no answer")
            raise TransportError(f"the devices cannot connect to {url}: {trouble}")
        await self._until(self._quorum_heard, QUORUM_PATIENCE_S)

    async def _spawn(self, device: str) -> Child:
        child = await Child.spawn(
            device, self._path / f"{device}.log", on_report=self._on_report, on_end=self._on_end
        )
        before = self._children.get(device)
        if before is not None:
            self._ended.append(before)
        self._children[device] = child
        return child

    def _send_start(self, child: Child, *, life: int) -> None:
        identity = self.folder.identities[child.device]
        child.send(
            Start(
                config=str(identity.config),
                network=self._scenario.network,
                # Another life, other weather; the noise of a sensor stays the device's own.
                seed=identity.seed + life,
                behaviour_seed=identity.seed,
                weather=self._weather,
                attack=self._attacks.get(child.device),
            )
        )

    def _all_connected(self) -> bool:
        return all(child.connected for child in self._children.values())

    def _quorum_heard(self) -> bool:
        others = self._scenario.budget.q - 1
        return all(len(self._children[voter].heard) >= others for voter in self._scenario.devices.voter_ids)

    # ------------------------------------------------------------------------------ what a run does

    @property
    def free_origins(self) -> tuple[str, ...]:
        """The devices that can be given work: connected and no attacker's."""
        return tuple(d for d, child in self._children.items() if child.connected and d not in self._attacks)

    def submit(self, device: str, commands: Sequence[tuple[str, bytes]]) -> None:
        """Give a device commands for the log; one that is down hears nothing."""
        if self._children[device].connected:
            self._children[device].send(Submit(commands=tuple(commands)))

    async def crash(self, devices: Iterable[str]) -> None:
        """Kill the devices' processes as a power cut would."""
        for device in devices:
            self._children[device].kill()
        for device in devices:
            await self._children[device].wait()

    async def restart(self, devices: Iterable[str]) -> None:
        """Start the devices again from their stores; returns before they are connected."""
        for device in devices:
            life = 2 + sum(child.device == device for child in self._ended)
            self._send_start(await self._spawn(device), life=life)

    def partition(self, fault: Partition) -> None:
        """Let only devices of one group hear each other."""
        self._change_weather(Weather(partition=fault, cuts=self._weather.cuts))

    def cut(self, fault: Cut) -> None:
        """Let nothing from the sender reach the receivers."""
        self._change_weather(Weather(partition=self._weather.partition, cuts=(*self._weather.cuts, fault)))

    def heal(self) -> None:
        """End partition and cuts."""
        self._change_weather(Weather())

    def attack(self, device: str, name: str) -> None:
        """Give the device to an attacker, restarts included."""
        self._attacks[device] = name
        self._tell(Attack(name=name), [device])

    def refresh(self) -> None:
        """Ask all devices that are connected for their status; the answers appear in `children`."""
        self._tell(AskStatus(), [device for device, child in self._children.items() if child.connected])

    async def sleep_until(self, time_s: float) -> None:
        """Sleep until the monotonic clock says `time_s`; raises the error of a worker that ends meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(time_s - time.monotonic()):
                await self._failed.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Stop all devices in order; afterwards `children` hold their last status, and their stores are free."""
        running = [child for child in self._children.values() if child.is_running]
        for child in running:
            child.is_ending = True
            child.send(Stop())
        ends = asyncio.gather(*(child.wait() for child in running))
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.shield(ends)
        except TimeoutError:
            for child in running:
                child.kill()
            await ends
        if self._broker is None and self._wiretap is not None:
            await self._wiretap.forget_presence(self._scenario.devices.ids)

    def last_status(self, device: str) -> Status | None:
        """Return the last status that any process of the device reported."""
        lives = [child for child in (*self._ended, self._children[device]) if child.device == device]
        return next((child.status for child in reversed(lives) if child.status is not None), None)

    def totals(self) -> tuple[int, int]:
        """Return the frames delivered and dropped by all processes, ended ones with their last word."""
        known = [child.status for child in (*self._ended, *self._children.values()) if child.status]
        return sum(status.delivered for status in known), sum(status.dropped for status in known)

    # ------------------------------------------------------------------------------ inside

    def _change_weather(self, weather: Weather) -> None:
        self._weather = weather
        self._tell(Impair(weather=weather), self._children)

    def _tell(self, command: Command, devices: Iterable[str]) -> None:
        for device in devices:
            if self._children[device].is_running:
                self._children[device].send(command)

    def _on_report(self, child: Child, report: Report) -> None:
        match report:
            case Ready():
                child.connected = child.is_running
            case Offline(reason=reason):
                child.connected = False
                child.trouble = reason
            case Happened(event=data):
                event = event_from_json(data)
                if event.kind == events.HEARD:
                    peer = str(dict(event.data)["device"])
                    if peer in self._scenario.devices.voter_ids:
                        child.heard[peer] = None
                self._on_event(child.device, event)
            case _:
                pass

    def _on_end(self, child: Child) -> None:
        if not child.is_ending and self._failure is None:
            self._failure = child.error()
            self._failed.set()

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for `condition`; False if it has not come about in time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= deadline_s:
                return False
            await self.sleep_until(time.monotonic() + _POLL_S)
        return True


async def _probe(url: BrokerUrl) -> None:
    """Fail early and in words where the address is wrong; only a plain connection can be tried so cheaply."""
    if not url.tls and not await asyncio.to_thread(
        answers_connect, url.host, url.port, timeout_s=PROBE_TIMEOUT_S
    ):
        raise TransportError(f"no broker at {url} accepts an anonymous connection")
