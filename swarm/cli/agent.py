"""`swarm agent`: one device in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config
from swarm.agent.lines import Announcer, event_json, link_json
from swarm.cli.logs import LogLevel, tell
from swarm.device.turn import DeviceEvent
from swarm.install.lifeline import Lifeline
from swarm.transport.transport import ConnectionState


def agent(
    config: Annotated[
        Path, typer.Argument(metavar="AGENT.yaml", show_default=False, help="The device's file.")
    ],
    *,
    json_events: Annotated[
        bool,
        typer.Option("--json-events", help="One JSON object a line on stdout for everything that happens."),
    ] = False,
) -> None:
    """Run the agent of one device in the foreground; it never starts a broker.

    It says on stdout what goes as it should and on stderr what somebody may have to look at. With --json-events
    stdout holds events alone, with --log-json stderr holds one JSON object for each thing said.
    """
    settings = load_agent_config(config)
    voice = _Voice(json_events=json_events)
    built = build_agent(
        settings,
        source=str(config),
        random=random.random,
        version=str(import_module("swarm").__version__),
        lifeline=Lifeline.from_environment(os.environ),
        on_event=voice.on_event,
        on_link=voice.on_link,
    )
    voice.announcer = Announcer(built.genesis, built.me, say=voice.say, complain=voice.complain)
    voice.announcer.introduce()
    asyncio.run(_run(built))
    if built.exit_code:
        raise typer.Exit(built.exit_code)


class _Voice:
    """Where lines go: words to stdout and stderr, or words to stderr and JSON to stdout."""

    def __init__(self, *, json_events: bool) -> None:
        self._json = json_events
        self.announcer: Announcer | None = None

    def say(self, line: str) -> None:
        tell(line, on_stdout=not self._json)

    def complain(self, line: str) -> None:
        tell(line, LogLevel.WARNING)

    def on_event(self, event: DeviceEvent) -> None:
        if self._json:
            print(event_json(event), flush=True)
        if self.announcer is not None:
            self.announcer.on_event(event)

    def on_link(self, state: ConnectionState) -> None:
        if self._json:
            print(link_json(state, int(asyncio.get_running_loop().time() * 1000)), flush=True)
        if self.announcer is not None:
            self.announcer.on_link(state)


async def _run(built: Agent) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, built.stop)
    await built.run()
