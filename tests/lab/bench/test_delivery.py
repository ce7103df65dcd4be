"""`swarm bench --delivery`: the station that carries chunks, and the command as a user runs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swarm.agent.agent import Agent
from swarm.lab.bench import chunks
from swarm.lab.bench.chunks import CHUNK_BYTES, ChunkStation
from swarm.lab.bench.delivery import measure_delivery
from swarm.lab.bench.measure import SECONDS_MAX
from swarm.primitives.errors import ConfigError, InvariantError
from swarm.transport.topics import Scope
from swarm.transport.transport import Frame, Inbox, Outgoing, Transport
from tests.lab.bench.test_measure import COMMAND, PATIENCE_S, environment, processes_below
from tests.support.fleet import Fleet
from tests.support.swarms import keypair

SIZE = 5 * CHUNK_BYTES + 1


class Wire:
    """What the stations are connected to: frames arrive at once, or not at all when they are lost."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.inboxes: dict[str, Inbox] = {}
        self.agents: dict[str, Inbox] = {}
        self.sent = 0
        self.stations = {me: self._station(me) for me in ("dev-0", "dev-1")}

    def _station(self, me: str) -> ChunkStation:
        station = ChunkStation()
        self.agents[me] = Inbox()

        def connect(inbox: Inbox) -> Transport:
            self.inboxes[me] = inbox
            carrier = SimpleNamespace(publish=lambda out: self.carry(me, out), counters=self.counters)
            return cast("Transport", carrier)

        station.wrap(connect, self.agents[me])
        agent = SimpleNamespace(me=me, genesis=self.fleet.genesis, device=self.fleet[me].running)
        station.join(cast("Agent", agent), keypair(me))
        return station

    def carry(self, sender: str, out: Outgoing) -> bool:
        assert out.dest is not None
        self.sent += 1
        return self.inboxes[out.dest].offer(Frame(sender, out.scope, out.payload))

    def counters(self) -> Mapping[str, int]:
        return {"published": self.sent}


async def test_a_fetch_moves_the_image_and_leaves_the_agents_own_frames_alone() -> None:
    wire = Wire()
    server, receiver = wire.stations.values()
    running = [asyncio.create_task(station.run()) for station in (server, receiver)]
    try:
        receiver.prepare(SIZE)
        server.offer(SIZE, 3, None)
        moved, seconds = await receiver.fetch(SIZE, 3, "dev-0", 10.0)
        receiver.check(SIZE)
        assert moved == SIZE
        assert 0 < seconds < 10
        for payload in (b"garbage", b""):
            wire.inboxes["dev-1"].offer(Frame("dev-0", Scope.TO, payload))
        wire.inboxes["dev-1"].offer(Frame("dev-0", Scope.ALL, b"vote"))
        assert [frame.payload for frame in wire.agents["dev-1"].take_all(9)] == [b"garbage", b"", b"vote"]
    finally:
        for task in running:
            task.cancel()


async def test_a_release_that_nobody_offers_is_not_fetched_and_the_time_ends() -> None:
    wire = Wire()
    server, receiver = wire.stations.values()
    running = [asyncio.create_task(station.run()) for station in (server, receiver)]
    try:
        server.offer(SIZE, 3, None)
        moved, seconds = await receiver.fetch(SIZE, 4, "dev-0", 0.1)
        assert moved == 0
        assert seconds >= 0.1
    finally:
        for task in running:
            task.cancel()


async def test_the_stick_counts_what_came_before_the_order_too() -> None:
    wire = Wire()
    server, receiver = wire.stations.values()
    running = [asyncio.create_task(station.run()) for station in (server, receiver)]
    try:
        await server.send_stick(4 * CHUNK_BYTES, ("dev-1",))
        await asyncio.sleep(0.01)
        assert await receiver.take_stick(4 * CHUNK_BYTES) >= 0
        assert wire.sent == 4
        assert len(wire.agents["dev-1"]) == 0
    finally:
        for task in running:
            task.cancel()


async def test_a_wrong_image_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    server, receiver = wire.stations.values()
    running = [asyncio.create_task(station.run()) for station in (server, receiver)]
    try:
        server.offer(SIZE, 3, None)
        receiver.prepare(SIZE)
        await receiver.fetch(SIZE, 3, "dev-0", 10.0)
        monkeypatch.setattr(chunks, "image_of", lambda size: bytes(size))
        with pytest.raises(InvariantError, match="wrong image"):
            receiver.check(SIZE)
    finally:
        for task in running:
            task.cancel()


@pytest.mark.parametrize("seconds", [0.0, SECONDS_MAX + 1, float("nan")])
async def test_a_time_that_measures_nothing_is_the_users_mistake(seconds: float) -> None:
    with pytest.raises(ConfigError, match="cannot measure"):
        await measure_delivery(None, seconds=seconds)


@pytest.mark.broker
@pytest.mark.processes
@pytest.mark.slow
def test_a_tiny_run_has_every_figure_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    target = tmp_path / "bench.json"
    done = subprocess.run(
        [*COMMAND, "--delivery", "--seconds", "4", "--json", str(target)],
        env=environment(tmp_path / "temporary"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data: dict[str, Any] = json.loads(target.read_text())
    assert all(figure > 0 for figure in data["delivery"].values()), data
    assert data["delivery"]["devices"] == 4
    assert "of the same client's bulk" in done.stdout
    assert processes_below(tmp_path / "temporary") == []
    assert list((tmp_path / "temporary").iterdir()) == []
