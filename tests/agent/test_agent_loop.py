"""The agent's loop over an in-memory bus: decisions, failures, the end, and what must never hold it up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from swarm.agent.agent import Agent
from swarm.agent.presence import sign_presence
from swarm.apps.decisions.commands import open_command
from swarm.device.turn import Submit, Turn
from swarm.primitives.errors import InvariantError, StoreError
from swarm.primitives.limits import COMMANDS_WAITING_MAX, TURN_INPUTS_MAX
from swarm.storage.memory import MemoryStore
from swarm.storage.store import Batch
from swarm.transport.topics import Scope
from swarm.transport.transport import ConnectionState, Frame, Link
from tests.support.agents import (
    PATIENCE_S,
    Heard,
    Hub,
    HubTransport,
    Says,
    hub_agent,
    memory_store,
    one_behaviour,
    running,
)
from tests.support.swarms import keypair, make_genesis

GENESIS = make_genesis(4)
OPEN = open_command(subject="temperature", rule="median", scale=2, deadline_ms=10_000)
VALUES = (2090, 2104, 2110, 9999)


def four(hub: Hub) -> tuple[list[Agent], list[Heard], list[Says]]:
    heard = [Heard() for _ in range(4)]
    behaviours = [Says(None, {"value": value}) for value in VALUES]
    agents = [
        hub_agent(hub, GENESIS, f"dev-{i}", heard[i], behaviours=one_behaviour(behaviours[i]))
        for i in range(4)
    ]
    return agents, heard, behaviours


async def test_four_agents_decide_and_tell_their_behaviours() -> None:
    agents, heard, behaviours = four(Hub())
    async with running(*agents):
        tag = agents[1].submit("decisions", OPEN)
        for listener in heard:
            await listener.until_happened("closed")
        await heard[1].until_committed(tag)
        for behaviour in behaviours:
            # They act in a thread of their own, after the event.
            assert await asyncio.to_thread(behaviour.told.wait, PATIENCE_S)
    outcomes = [listener.outcomes()[0] for listener in heard]
    assert outcomes.count(outcomes[0]) == 4
    assert (outcomes[0].value, outcomes[0].margin) == (2104, 1)
    assert [behaviour.outcomes for behaviour in behaviours] == [[outcomes[0]]] * 4


async def test_each_voter_is_heard_of_once_and_soon() -> None:
    agents, heard, _ = four(Hub())
    async with running(*agents):
        for i, listener in enumerate(heard):
            await listener.until_happened("heard", times=3)
            assert sorted(str(data["device"]) for data in listener.all("heard")) == [
                f"dev-{j}" for j in range(4) if j != i
            ]


async def test_an_agent_alone_abstains_where_nobody_answers_and_its_timer_beats() -> None:
    hub, heard = Hub(), Heard()
    genesis = make_genesis(1)
    agent = hub_agent(hub, genesis, "dev-0", heard, heartbeat_ms=30)
    async with running(agent):
        agent.submit("decisions", OPEN)
        (data,) = await heard.until_happened("closed")
        await hub.until_broadcasts("dev-0", Scope.BEAT, 4)
    assert heard.outcomes()[0].kind == "undecided"
    assert data["height"] == heard.outcomes()[0].closed_height


async def test_turns_go_to_one_thread_while_the_disk_is_slow_and_come_back() -> None:
    hub, heard = Hub(), Heard()
    agent = hub_agent(hub, make_genesis(1), "dev-0", heard)
    seen: list[int] = []
    turn = agent.device.turn

    def spied(inputs: list[Submit], now_ms: int) -> Turn:
        seen.append(threading.get_ident())
        return turn(inputs, now_ms)

    agent.device.turn = spied  # type: ignore[method-assign,assignment]
    main = threading.get_ident()
    async with running(agent):
        await heard.until_committed(agent.submit("notes", b"inline"))
        assert set(seen) == {main}
        agent.pace.is_slow = True
        seen.clear()
        await heard.until_committed(agent.submit("notes", b"in a thread"))
        assert main not in seen
        assert len(set(seen)) == 1
        agent.pace.is_slow = False
        seen.clear()
        await heard.until_committed(agent.submit("notes", b"inline again"))
        assert set(seen) == {main}


class FailingStore(MemoryStore):
    """A disk that fails when it is told to."""

    fail = False

    def commit(self, batch: Batch) -> None:
        if self.fail:
            raise StoreError("cannot write: no space left", hint="make space, then start again")
        super().commit(batch)


async def test_a_failed_disk_stops_the_agent_and_nothing_of_the_turn_leaves() -> None:
    hub, heard = Hub(), Heard()
    genesis = make_genesis(1)
    store = FailingStore(swarm_id=genesis.id, device="dev-0", key_public=keypair("dev-0").public)
    agent = hub_agent(hub, genesis, "dev-0", heard, store=store)
    async with running(agent) as (task,):
        await heard.until_committed(agent.submit("notes", b"a"))
        store.fail = True
        hub.published.clear()
        agent.submit("notes", b"b")
        with pytest.raises(StoreError, match="no space left"):
            await asyncio.wait_for(task, PATIENCE_S)
    assert hub.broadcasts("dev-0", Scope.ALL) == []
    with pytest.raises(StoreError):
        store.load()


async def test_a_bug_stops_the_agent_and_is_raised_as_one() -> None:
    agent = hub_agent(Hub(), make_genesis(1), "dev-0", Heard())

    def broken(_inputs: object, _now_ms: int) -> Turn:
        raise InvariantError("two and two")

    agent.device.turn = broken  # type: ignore[method-assign,assignment]
    async with running(agent) as (task,):
        with pytest.raises(InvariantError, match="two and two"):
            await asyncio.wait_for(task, PATIENCE_S)


async def test_a_transport_that_gives_up_is_a_bug_that_stops_the_agent() -> None:
    for failure in (None, InvariantError("run is called once")):
        heard = Heard()
        agent = hub_agent(Hub(), make_genesis(1), "dev-0", heard)
        assert isinstance(agent.transport, HubTransport)
        agent.transport.failure = failure
        async with running(agent) as (task,):
            await heard.until_link(Link.CONNECTED)
            agent.transport.fail.set()
            with pytest.raises(InvariantError):
                await asyncio.wait_for(task, PATIENCE_S)


async def test_what_was_submitted_before_the_stop_is_still_signed() -> None:
    hub, heard = Hub(), Heard()
    genesis = make_genesis(1)
    store = memory_store(genesis, "dev-0")
    agent = hub_agent(hub, genesis, "dev-0", heard, store=store)
    async with running(agent) as (task,):
        await heard.until_happened("started")
        agent.submit("notes", b"last words")
        agent.stop()
        agent.stop()
        await asyncio.wait_for(task, PATIENCE_S)
    again = store.reopen().load()
    assert again.sequence == 1


async def test_a_cancelled_agent_closes_its_store() -> None:
    genesis = make_genesis(1)
    store = memory_store(genesis, "dev-0")
    heard = Heard()
    agent = hub_agent(Hub(), genesis, "dev-0", heard, store=store)
    async with running(agent) as (task,):
        await heard.until_happened("started")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(StoreError):
        store.load()


async def test_too_many_commands_are_busy_at_once_and_the_rest_is_committed() -> None:
    heard = Heard()
    agent = hub_agent(Hub(), make_genesis(1), "dev-0", heard)
    async with running(agent):
        tags = [agent.submit("notes", b"n%d" % i) for i in range(COMMANDS_WAITING_MAX + 2)]
        assert [data["tag"] for data in heard.all("busy")] == tags[-2:]
        await heard.until_committed(*tags[:-2])


async def test_own_commands_leave_room_for_the_frames_of_others() -> None:
    hub, heard = Hub(), Heard()
    agent = hub_agent(hub, GENESIS, "dev-0", heard)
    taken: list[list[object]] = []
    turn = agent.device.turn

    def spied(inputs: list[object], now_ms: int) -> Turn:
        taken.append(list(inputs))
        return turn(inputs, now_ms)  # type: ignore[arg-type]

    agent.device.turn = spied  # type: ignore[method-assign,assignment]
    async with running(agent):
        await heard.until_link(Link.CONNECTED)
        for i in range(TURN_INPUTS_MAX):
            agent.submit("notes", b"n%d" % i)
            hub.inboxes["dev-0"].offer(Frame("dev-1", Scope.ALL, b"garbage"))
        await heard.until_happened("submitted", times=TURN_INPUTS_MAX // 64)
    full = next(inputs for inputs in taken if len(inputs) == TURN_INPUTS_MAX)
    assert sum(isinstance(one, Submit) for one in full) == TURN_INPUTS_MAX // 2
    assert max(len(inputs) for inputs in taken) == TURN_INPUTS_MAX


async def test_bad_frames_are_counted_and_commits_go_on() -> None:
    hub = Hub()
    agents, heard, _ = four(hub)
    async with running(*agents):
        for listener in heard:
            await listener.until_link(Link.CONNECTED)
        for payload in (b"", b"garbage", b"\xc1" * 100):
            for scope in (Scope.ALL, Scope.TO, Scope.BEAT, Scope.STATUS):
                hub.inboxes["dev-0"].offer(Frame("dev-1", scope, payload))
                hub.inboxes["dev-0"].offer(Frame("stranger", scope, payload))
        await heard[0].until_committed(agents[0].submit("notes", b"still here"))
    dropped = agents[0].device.dropped
    assert dropped["unknown-sender"] == 9
    assert dropped["malformed"] == 9
    assert agents[0].presence.dropped == {"malformed": 6}


async def test_the_births_of_others_are_answered_with_a_beat_but_not_with_a_flood() -> None:
    hub, heard = Hub(), Heard()
    agent = hub_agent(hub, GENESIS, "dev-0", heard)
    async with running(agent):
        await heard.until_link(Link.CONNECTED)
        await hub.until_broadcasts("dev-0", Scope.BEAT, 1)
        for _ in range(50):
            for id in ("dev-1", "dev-2"):
                birth = sign_presence(GENESIS.id, id, keypair(id), 1).birth
                hub.inboxes["dev-0"].offer(Frame(id, Scope.STATUS, birth))
        await hub.until_broadcasts("dev-0", Scope.BEAT, 2)
    assert [claim.device for claim in agent.presence.claims()] == ["dev-1", "dev-2"]
    assert len(hub.broadcasts("dev-0", Scope.BEAT)) == 2


async def test_a_reconnection_is_followed_by_a_beat() -> None:
    hub, heard = Hub(), Heard()
    agent = hub_agent(hub, GENESIS, "dev-0", heard)
    assert isinstance(agent.transport, HubTransport)
    async with running(agent):
        await heard.until_link(Link.CONNECTED)
        for beats in (1, 2, 3):
            await hub.until_broadcasts("dev-0", Scope.BEAT, beats)
            agent.transport.on_state(ConnectionState(Link.LOST))
            agent.transport.on_state(ConnectionState(Link.CONNECTED))


async def test_a_timer_that_rings_too_early_makes_no_turn() -> None:
    """The time of the next turn is moved away by nearly every turn; the timer of the first one is left alone."""
    agent = hub_agent(Hub(), make_genesis(1), "dev-0", Heard())
    now_ms = agent._now_ms()
    agent._waiting.clear()
    agent._wake_at([now_ms + 20, None])
    armed = agent._timer
    agent._wake_at([now_ms + 120])
    assert agent._timer is armed
    await asyncio.sleep(0.06)
    assert not agent._waiting.is_set()
    async with asyncio.timeout(5):
        await agent._waiting.wait()
    assert agent._now_ms() >= now_ms + 120
    agent._wake_at([agent._now_ms() + 5_000])
    agent._wake_at([agent._now_ms() + 1])
    agent._waiting.clear()
    async with asyncio.timeout(2):
        await agent._waiting.wait()
    agent._waiting.clear()
    agent._wake_at([agent._now_ms() + 1])
    agent._wake_at([None])
    await asyncio.sleep(0.02)
    assert not agent._waiting.is_set()
    agent._store.close()
    agent._behaviours.stop()
    agent._disk.stop()
    agent._machine.stop()
