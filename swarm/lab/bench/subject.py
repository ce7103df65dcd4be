"""One agent under measurement: the agent as it ships, in a process of its own, given work from inside that process.

`python -m swarm.lab.bench.subject AGENT.yaml` takes orders from standard input and ends with it. The work comes from
inside, and nothing is told while it lasts, so that no pipe and no watching process shares in the figures.
With `SWARM_BENCH_PROFILE=FOLDER` in the environment, cProfile's findings are left there as `<device>.prof`.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config
from swarm.agent.keyfile import read_key_file
from swarm.crypto.keys import KeyPair
from swarm.device import events
from swarm.device.turn import DeviceEvent
from swarm.lab.bench.chunks import ChunkStation
from swarm.lab.bench.orders import (
    LINE_BYTES_MAX,
    ORDERS,
    Answer,
    Broken,
    Check,
    Cost,
    Done,
    Fetch,
    Flood,
    Flooded,
    Look,
    Moved,
    Offer,
    OneByOne,
    Order,
    Paced,
    Prepare,
    Ready,
    SendStick,
    TakeStick,
    Times,
    line_of,
)
from swarm.primitives.errors import SwarmError
from swarm.primitives.version import VERSION
from swarm.transport.transport import ConnectionState, Link

COMMAND_BYTES: Final = 200
"""As long as the submissions of the bare loop."""

PROFILE_FOLDER: Final = "SWARM_BENCH_PROFILE"
_DRAIN_TIMEOUT_S: Final = 10.0
_STATM: Final = Path("/proc/self/statm")


class Subject:
    """Runs one agent and obeys until the orders end."""

    def __init__(self, config: str) -> None:
        """Build the agent of the settings file `config`; errors as in `build_agent`."""
        loaded = load_agent_config(config)
        self.device = loaded.device
        self._station = ChunkStation()
        self._agent: Agent = build_agent(
            loaded,
            source=config,
            random=random.random,
            version=VERSION,
            wrap_transport=self._station.wrap,
            on_event=self._on_event,
            on_link=self._on_link,
        )
        self._station.join(self._agent, KeyPair(read_key_file(loaded.key)))
        self._number = 0
        self._signed: dict[int, asyncio.Future[None]] = {}
        """Last tag of a submission -> done when it was signed and published."""
        self._committed: dict[int, asyncio.Future[None]] = {}
        """First tag of a submission -> done when it is in the log."""

    async def run(self) -> None:
        """Live until standard input ends."""
        orders = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        running = asyncio.create_task(self._agent.run())
        obeying = asyncio.create_task(self._obey(orders))
        chunks = asyncio.create_task(self._station.run())
        try:
            await asyncio.wait({running, obeying, chunks}, return_when=asyncio.FIRST_COMPLETED)
            self._agent.stop()
            await running
            for task in (obeying, chunks):
                if task.done():
                    task.result()
        finally:
            obeying.cancel()
            chunks.cancel()
            pipe.close()

    async def _obey(self, orders: asyncio.StreamReader) -> None:
        while line := await orders.readline():
            _say(await self._answer(ORDERS.decode(line)))

    async def _answer(self, order: Order) -> Answer:
        match order:
            case OneByOne():
                return await self._submit_one_by_one(order)
            case Flood():
                return await self._flood(order)
            case Paced():
                return await self._submit_paced(order)
            case Prepare():
                self._station.prepare(order.size)
                return Done()
            case Check():
                self._station.check(order.size)
                return Done()
            case Offer():
                self._station.offer(order.size, order.number, order.bytes_per_s)
                return Done()
            case Fetch():
                moved = await self._station.fetch(order.size, order.number, order.peer, order.seconds)
                return Moved(size=moved[0], seconds=moved[1])
            case SendStick():
                await self._station.send_stick(order.size, order.peers)
                return Done()
            case TakeStick():
                return Moved(size=order.size, seconds=await self._station.take_stick(order.size))
            case Look():
                ledger = self._agent.device.ledger
                return Cost(
                    rss_bytes=_rss_bytes(),
                    cpu_s=time.process_time(),
                    height=ledger.height,
                    log_size=ledger.frontier.size,
                )

    # ------------------------------------------------------------------------------ work

    async def _submit_one_by_one(self, order: OneByOne) -> Times:
        times: list[int] = []
        ends = time.monotonic() + order.seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(order.seconds + _DRAIN_TIMEOUT_S):
                while time.monotonic() < ends:
                    began_ns = time.perf_counter_ns()
                    await self._submit(1)
                    times.append((time.perf_counter_ns() - began_ns) // 1000)
        return Times(commits_us=tuple(times[order.warm_up :]))

    async def _submit_paced(self, order: Paced) -> Times:
        """Submit by the clock: what is late does not make the next ones later, so nothing is left out."""
        began = time.monotonic()
        times: list[int] = []

        def note_from(began_ns: int) -> Callable[[asyncio.Future[None]], None]:
            return lambda _future: times.append((time.perf_counter_ns() - began_ns) // 1000)

        flying: list[asyncio.Future[None]] = []
        for number in range(int(order.seconds * order.per_s)):
            await asyncio.sleep(max(0.0, began + number / order.per_s - time.monotonic()))
            began_ns = time.perf_counter_ns()
            future = self._submit(1)
            future.add_done_callback(note_from(began_ns))
            flying.append(future)
        await asyncio.wait(flying, timeout=_DRAIN_TIMEOUT_S)
        return Times(commits_us=tuple(times))

    async def _flood(self, order: Flood) -> Flooded:
        began = time.monotonic()
        counted_from, ends = began + order.warm_up_s, began + order.seconds
        counted = 0
        flying: set[asyncio.Future[None]] = set()

        def arrived(future: asyncio.Future[None]) -> None:
            nonlocal counted
            flying.discard(future)
            counted += counted_from <= time.monotonic() < ends

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(order.seconds):
                while True:
                    while len(flying) >= order.window:
                        await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                    future = self._submit(order.bundle)
                    flying.add(future)
                    future.add_done_callback(arrived)
                    # The next one waits until this is signed, or the agent would make one submission of both.
                    await self._signed[self._number]
        if flying:
            await asyncio.wait(flying, timeout=_DRAIN_TIMEOUT_S)
        return Flooded(submissions=counted, seconds=ends - counted_from)

    def _submit(self, commands: int) -> asyncio.Future[None]:
        """Submit commands that go into one submission; done when it is in the log."""
        loop = asyncio.get_running_loop()
        tags = [self._agent.submit("notes", self._command()) for _ in range(commands)]
        self._number = tags[-1]
        self._signed[tags[-1]] = loop.create_future()
        future = self._committed[tags[0]] = loop.create_future()
        return future

    def _command(self) -> bytes:
        return os.urandom(8).ljust(COMMAND_BYTES, b".")

    # ------------------------------------------------------------------------------ what the agent tells

    def _on_event(self, event: DeviceEvent) -> None:
        if event.kind not in (events.SUBMITTED, events.COMMITTED):
            return
        waiting = self._signed if event.kind == events.SUBMITTED else self._committed
        for tag in cast("tuple[int, ...]", dict(event.data)["tags"]):
            future = waiting.pop(tag, None)
            if future is not None and not future.done():
                future.set_result(None)

    def _on_link(self, state: ConnectionState) -> None:
        if state.link is Link.CONNECTED:
            _say(Ready())


def _rss_bytes() -> int:
    """Return the resident memory; where the system does not tell, its highest value so far."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(line_of(answer))
    sys.stdout.buffer.flush()


async def _live(config: str) -> None:
    await Subject(config).run()


def main() -> None:
    """Run the process."""
    config = sys.argv[1]
    folder = os.environ.get(PROFILE_FOLDER)
    profile = None if folder is None else cProfile.Profile()
    try:
        if profile is None:
            asyncio.run(_live(config))
        else:
            profile.runcall(asyncio.run, _live(config))
    except SwarmError as error:
        _say(Broken(reason=str(error)))
        sys.exit(2)
    except BrokenPipeError:
        # Nobody listens any more.
        os._exit(0)
    finally:
        if profile is not None and folder is not None:
            profile.dump_stats(Path(folder) / f"{Path(config).stem}.prof")


if __name__ == "__main__":
    main()
