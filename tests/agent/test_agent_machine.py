"""An agent under a launcher: it beats while it advances, ends when it is told to restart or when nobody watches it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from swarm.agent import machine as machine_room
from swarm.agent.agent import Agent
from swarm.agent.machine import Machine
from swarm.agent.presence import sign_presence
from swarm.apps.router import Router
from swarm.crypto.signing import verify
from swarm.device.device import Device, DeviceConfig
from swarm.device.firmware.installer import Installer
from swarm.device.firmware.operations import Inspect, InstallDone, Operation, Reboot
from swarm.device.firmware.policy import Firmware
from swarm.device.turn import OutFrame, Turn
from swarm.install.lifeline import Lifeline
from swarm.install.port import Restart
from swarm.transport.topics import Scope
from tests.support.agents import PATIENCE_S, Heard, Hub, HubTransport, memory_store, running
from tests.support.install import CLASS, VENDOR, model_rig
from tests.support.rollouts import make_rollout_genesis
from tests.support.swarms import keypair

GENESIS = make_rollout_genesis(observers=3)


def updatable(hub: Hub, id: str, heard: Heard, machine: Machine) -> Agent:
    """Return an agent with firmware at the hub."""
    store = memory_store(GENESIS, id)
    device = Device(
        DeviceConfig(genesis=GENESIS, me=id, keypair=keypair(id)),
        store,
        Router(GENESIS.apps),
        verify,
        time.monotonic_ns() // 1_000_000,
        firmware=Firmware(class_id=VENDOR + CLASS),
    )
    presence = sign_presence(GENESIS.id, id, keypair(id), device.boot)
    return Agent(
        device=device,
        store=store,
        genesis=GENESIS,
        me=id,
        make_transport=lambda inbox, on_state: HubTransport(hub, id, inbox, on_state, presence),
        machine=machine,
        on_event=heard.on_event,
        on_link=heard.on_link,
    )


class Pipe:
    """A lifeline and its other end."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.lifeline = Lifeline(self.write_end, "/d", "a")
        self.is_open = True

    def hang_up(self) -> None:
        if self.is_open:
            os.close(self.read_end)
            self.is_open = False

    def heard(self) -> bytes:
        os.set_blocking(self.read_end, False)
        try:
            return os.read(self.read_end, 65_536)
        except BlockingIOError:
            return b""


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    monkeypatch.setattr(machine_room, "BEAT_MS", 20)
    made = Pipe()
    yield made
    made.hang_up()
    made.lifeline.close()


async def test_agents_report_what_they_run_through_their_own_threads(pipe: Pipe) -> None:
    hub, heard, others = Hub(), Heard(), Heard()
    ids = GENESIS.voter_ids
    first = Machine(Installer(model_rig().start()), pipe.lifeline)
    agents = [
        updatable(hub, id, heard if id == ids[0] else others, first if id == ids[0] else Machine())
        for id in ids
    ]
    async with running(*agents):
        await heard.until(lambda: any(data["what"] == "reported" for data in heard.all("firmware")))
        rollout = agents[1].device.ledger.router.rollout
        assert rollout is not None
        await others.until(lambda: bool(rollout.state.devices))
        assert list(rollout.state.devices) == [ids[0]], "the others were started by hand"
        assert rollout.state.devices[ids[0]].number == 1
    assert b"+" in pipe.heard(), "its self test passed"


async def test_an_idle_agent_beats_and_one_that_stands_still_does_not(pipe: Pipe) -> None:
    heard = Heard()
    agent = updatable(Hub(), "dev-0", heard, Machine(None, pipe.lifeline))
    async with running(agent):
        async with asyncio.timeout(PATIENCE_S):
            beats = b""
            while beats.count(b".") < 5:
                beats += pipe.heard()
                await asyncio.sleep(0.01)
        pipe.heard()
        time.sleep(0.2)  # noqa: ASYNC251  -- the loop must stand still
        assert pipe.heard() == b""


async def test_an_agent_without_its_launcher_ends(pipe: Pipe) -> None:
    agent = updatable(Hub(), "dev-0", Heard(), Machine(None, pipe.lifeline))
    pipe.hang_up()
    async with asyncio.timeout(PATIENCE_S):
        await agent.run()
    assert agent.exit_code == 0


async def test_a_restart_ends_the_agent_in_order_with_its_code() -> None:
    heard = Heard()
    agent = updatable(Hub(), "dev-0", heard, Machine())

    def restart(turn: Turn) -> Turn:
        return replace(turn, actions=(*turn.actions, Reboot(Restart(exit_code=75))))

    agent.change_turn = restart
    async with asyncio.timeout(PATIENCE_S):
        await agent.run()
    assert agent.exit_code == 75


class Broken(Installer):
    def run(self, operation: Operation, tag: int) -> InstallDone:
        if operation == Inspect():
            raise RuntimeError("a bug in a back end")
        return super().run(operation, tag)


async def test_a_bug_in_a_back_end_ends_the_agent() -> None:
    agent = updatable(Hub(), "dev-0", Heard(), Machine(Broken(model_rig().start())))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RuntimeError, match="a bug in a back end"):
            await agent.run()


async def test_an_observer_listens_to_whom_it_asks() -> None:
    agent = updatable(Hub(), "obs-0", Heard(), Machine())
    asked = ["ops", "obs-1", "dev-2", "ops"]
    told: list[tuple[str, ...]] = []
    agent.transport.listen_to = lambda members: told.append(tuple(members))  # type: ignore[method-assign]

    def ask(turn: Turn) -> Turn:
        frames = tuple(OutFrame(Scope.TO, to, b"question") for to in asked)
        asked.clear()
        agent.stop()
        return replace(turn, frames=frames)

    agent.change_turn = ask
    async with asyncio.timeout(PATIENCE_S):
        await agent.run()
    assert "ops" in told[0]
    assert {"ops", "obs-1"} <= set(told[-1])
    assert set(GENESIS.voter_ids) <= set(told[-1])
    assert len(told) == 2, "nothing changes for a voter, or for one that is asked again"
