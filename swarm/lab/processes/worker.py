"""One device of an `mqtt` run: the agent as it ships, with bad weather around its transport and a supervisor above it.

`python -m swarm.lab.processes.worker SUPERVISOR_PID` reads commands from standard input and writes reports to standard
output (`pipe`). It cannot outlive its supervisor: the end of its input stops it, and the kernel kills it when the
supervisor dies while it is too busy to read.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Final

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config
from swarm.device import events
from swarm.device.events import event_to_json
from swarm.device.turn import DeviceEvent, Turn
from swarm.lab.attackers.attack import ATTACKS
from swarm.lab.processes.impaired import ImpairedTransport
from swarm.lab.processes.parent import end_with_parent
from swarm.lab.processes.pipe import (
    LINE_BYTES_MAX,
    AskStatus,
    Attack,
    Bye,
    Failed,
    Happened,
    Impair,
    Offline,
    Ready,
    Report,
    Start,
    Status,
    Stop,
    Submit,
    decode_command,
    encode_line,
)
from swarm.primitives.errors import ConfigError, StoreError, SwarmError, check
from swarm.primitives.version import VERSION
from swarm.transport.transport import ConnectionState, Inbox, Link, Transport

_CLOSE_TIMEOUT_S: Final = 5.0


class Worker:
    """Obeys the commands of one supervisor until it says stop or is gone."""

    def __init__(self, report: Callable[[Report], None]) -> None:
        """Report through `report`, which must not raise."""
        self._report = report
        self._agent: Agent | None = None
        self._impaired: ImpairedTransport | None = None
        self._view = 0
        self._log = (-1, 0, b"")
        """Height, size and root as of one moment: read between turns, which a thread may run."""

    async def run(self) -> None:
        """Start as the first command says, obey the others; returns when stopped."""
        commands = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        try:
            line = await commands.readline()
            if not line:
                return
            start = decode_command(line)
            check(isinstance(start, Start), f"the first command is {type(start).__name__}")
            if isinstance(start, Start):
                await self._live(start, commands)
        finally:
            pipe.close()

    async def _live(self, start: Start, commands: asyncio.StreamReader) -> None:
        agent = self._agent = self._build(start)
        if start.attack is not None:
            agent.change_turn = _attack(start.attack)
        running = asyncio.create_task(agent.run())
        obeying = asyncio.create_task(self._obey(commands))
        try:
            await asyncio.wait({running, obeying}, return_when=asyncio.FIRST_COMPLETED)
            agent.stop()
            if not (await asyncio.wait({running}, timeout=_CLOSE_TIMEOUT_S))[0]:
                running.cancel()
            await running
            if obeying.done():
                obeying.result()
        finally:
            obeying.cancel()
        self._report(Bye(status=self._status(agent)))

    def _build(self, start: Start) -> Agent:
        def wrap(connect: Callable[[Inbox], Transport], inbox: Inbox) -> Transport:
            self._impaired = ImpairedTransport(
                connect, inbox, me=config.device, network=start.network, seed=start.seed
            )
            self._impaired.change_weather(start.weather)
            return self._impaired

        config = load_agent_config(start.config)
        return build_agent(
            config,
            source=config.device,
            random=random.random,
            version=VERSION,
            behaviour_seed=start.behaviour_seed,
            wrap_transport=wrap,
            on_event=self._on_event,
            on_link=self._on_link,
        )

    async def _obey(self, commands: asyncio.StreamReader) -> None:
        """Obey until `Stop` or the end of the input."""
        agent = self._agent
        while agent is not None and (line := await commands.readline()):
            command = decode_command(line)
            match command:
                case Stop():
                    return
                case Impair(weather=weather):
                    if self._impaired is not None:
                        self._impaired.change_weather(weather)
                case Attack(name=name):
                    agent.change_turn = _attack(name)
                case Submit(commands=wanted):
                    for app, body in wanted:
                        agent.submit(app, body)
                case AskStatus():
                    self._report(self._status(agent))
                case Start():
                    check(False, "started twice")

    # ------------------------------------------------------------------------------ reports

    def _on_event(self, event: DeviceEvent) -> None:
        if event.kind == events.ENTERED:
            self._view = int(str(dict(event.data)["view"]))
        elif event.kind in (events.FINALIZED, events.STARTED) and self._agent is not None:
            self._remember_log(self._agent)
        self._report(Happened(event=event_to_json(event)))

    def _remember_log(self, agent: Agent) -> None:
        ledger = agent.device.ledger
        if ledger.height != self._log[0]:
            self._log = (ledger.height, ledger.frontier.size, ledger.frontier.root())

    def _on_link(self, state: ConnectionState) -> None:
        if state.link is Link.CONNECTED:
            self._report(Ready())
        else:
            self._report(Offline(reason=state.reason))

    def _status(self, agent: Agent) -> Status:
        counters = agent.transport.counters()
        dropped = sum(counters[name] for name in _DROPPED_ON_ARRIVAL)
        height, size, root = self._log
        return Status(
            view=self._view,
            height=max(height, 0),
            log_size=size,
            log_root=root,
            pending=len(agent.device.replica.state.pool.pending),
            delivered=counters["received"] - dropped,
            dropped=dropped + counters["outbox_dropped"] + counters["out_too_large"],
        )


_DROPPED_ON_ARRIVAL: Final = (
    "impaired_dropped",
    "inbox_full_frames",
    "inbox_full_bytes",
    "in_too_large",
    "in_unwanted_topic",
)


def _attack(name: str) -> Callable[[Turn], Turn]:
    return ATTACKS[name]().change


def _failed(error: BaseException) -> Failed:
    return Failed(
        kind=type(error).__name__,
        message=error.message if isinstance(error, ConfigError | StoreError) else str(error),
        where=error.where if isinstance(error, ConfigError) else "",
        hint=error.hint if isinstance(error, ConfigError | StoreError) else "",
    )


def _take_stdout() -> int:
    """Keep standard output for reports: what a plug-in prints goes to standard error instead."""
    reports = os.dup(1)
    os.dup2(2, 1)
    return reports


def main() -> None:
    """Run the process."""
    end_with_parent(signal.SIGKILL, parent=int(sys.argv[1]))
    descriptor = _take_stdout()

    def report(message: Report) -> None:
        line = memoryview(encode_line(message))
        try:
            while line:
                line = line[os.write(descriptor, line) :]
        except OSError:
            # Nobody listens any more: the supervisor is gone.
            os._exit(0)

    try:
        asyncio.run(Worker(report).run())
    except SwarmError as error:
        report(_failed(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
