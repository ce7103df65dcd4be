"""A whole swarm that really runs: an embedded broker, and the agents of a folder made by `swarm init` in one process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from swarm.transport.broker import EmbeddedBroker
from tests.support.commands import ROOT, swarm

_AGENTS = """
import asyncio, random, sys
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config

async def main():
    agents = [build_agent(load_agent_config(f), source=f, random=random.random) for f in sys.argv[1:]]
    running = [asyncio.create_task(agent.run()) for agent in agents]
    print("up", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for agent in agents:
        agent.stop()
    await asyncio.gather(*running)

asyncio.run(main())
"""
"""Ends when its standard input does, so it cannot outlive the test."""


@dataclass
class RunningSwarm:
    """Folder, broker, and the processes that run agents."""

    folder: Path
    url: str
    _processes: dict[tuple[str, ...], subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def operator(self) -> Path:
        return self.folder / "operator" / "operator.yaml"

    @property
    def genesis(self) -> Path:
        return self.folder / "genesis.json"

    def start(self, devices: Sequence[str]) -> None:
        """Start agents in a process of their own."""
        files = [str(self.folder / device / "agent.yaml") for device in devices]
        process = subprocess.Popen(
            [sys.executable, "-c", _AGENTS, *files],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes[tuple(devices)] = process
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"

    def stop(self, devices: Sequence[str]) -> None:
        """End the process that runs exactly these agents."""
        process = self._processes.pop(tuple(devices))
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def stop_all(self) -> None:
        for devices in list(self._processes):
            self.stop(devices)


@contextmanager
def running_swarm(
    folder: Path, *, voters: int = 4, up: Sequence[str] | None = None
) -> Iterator[RunningSwarm]:
    """Make a swarm in `folder` and run the agents `up` (default: all) over a broker of its own."""
    with EmbeddedBroker() as broker:
        target = folder / "swarm"
        done = swarm("init", target, "--devices", voters, "--broker", broker.url)
        assert done.code == 0, done.err
        running = RunningSwarm(target, broker.url)
        devices = [f"dev-{index}" for index in range(voters)] if up is None else list(up)
        try:
            if devices:
                running.start(devices)
            yield running
        finally:
            running.stop_all()
