"""Four real agents over a real broker: they agree, outlive the broker and a kill, and count what strangers send."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import aiomqtt
import pytest

from swarm.agent.agent import Agent
from swarm.agent.build import build_agent
from swarm.agent.config import load_agent_config
from swarm.agent.presence import PresenceState, read_presence
from swarm.apps.decisions.commands import open_command
from swarm.primitives.errors import StoreError
from swarm.primitives.limits import FRAME_BYTES_MAX
from swarm.storage.store import StoredBlock
from swarm.transport.topics import topic_all, topic_beat, topic_status, topic_to
from swarm.transport.transport import Link
from swarm.transport.url import parse_broker
from swarm.wire.genesis import Genesis
from swarm.wire.messages import SubmissionItem, encode_frame
from swarm.wire.statements import Kind, SignedStatement
from tests.support.agents import PATIENCE_S, Heard, running, write_device
from tests.support.brokers import RestartableBroker
from tests.support.commands import ROOT, command_line
from tests.support.swarms import make_genesis, make_submission, sign_statement

pytestmark = pytest.mark.broker

GENESIS = make_genesis(4)
IDS = tuple(f"dev-{i}" for i in range(4))
OPEN = open_command(subject="temperature", rule="median", scale=2, deadline_ms=20_000)


@dataclass
class Swarm:
    """The folders of a swarm and those of its agents that run in this process."""

    files: dict[str, Path]
    agents: dict[str, Agent]
    heard: dict[str, Heard]

    async def until_all_heard(self) -> None:
        for listener in self.heard.values():
            await listener.until_happened("heard", times=3)

    async def until_same_height(self) -> list[tuple[int, bytes]]:
        """Wait until all devices have applied what the furthest of them has; return (height, root) of each."""
        await until(lambda: len({a.device.ledger.height for a in self.agents.values()}) == 1)
        ledgers = [a.device.ledger for a in self.agents.values()]
        return [(ledger.height, ledger.frontier.root()) for ledger in ledgers]


def build(path: Path, heard: Heard) -> Agent:
    return build_agent(
        load_agent_config(path),
        source=str(path),
        random=lambda: 0.1 * random.random(),
        on_event=heard.on_event,
        on_link=heard.on_link,
    )


async def until(ready: Callable[[], bool]) -> None:
    """Look again and again, for what no event tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not ready():  # noqa: ASYNC110  -- another process or the broker changes it
            await asyncio.sleep(0.01)


def write_swarm(tmp_path: Path, url: str, genesis: Genesis = GENESIS) -> dict[str, Path]:
    return {id: write_device(tmp_path / "swarm", genesis, id, url, mean=20.0 + i) for i, id in enumerate(IDS)}


@asynccontextmanager
async def swarm_of(files: dict[str, Path], *ids: str) -> AsyncIterator[Swarm]:
    heard = {id: Heard() for id in ids}
    agents = {id: build(files[id], heard[id]) for id in ids}
    async with running(*agents.values()) as tasks:
        yield Swarm(files, agents, heard)
        for task in tasks:
            assert not task.done() or task.exception() is None


@contextmanager
def agent_process(path: Path) -> Iterator[Popen[str]]:
    """Run `swarm agent` in a process of its own; it is killed at the end of the block if it still runs."""
    process = Popen(command_line("agent", path), cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def until_line(process: Popen[str], words: str) -> None:
    """Read the process's stdout until a line holds `words`."""
    stdout = process.stdout
    assert stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while True:
            line = await asyncio.to_thread(stdout.readline)
            assert line, "the agent ended"
            if words in line:
                return


def chain_of(agent: Agent) -> list[bytes]:
    blocks: list[StoredBlock] = list(agent._store.blocks_after(0))
    return [block.hash for block in blocks]


# ------------------------------------------------------------------------------------------ agreement


async def test_four_agents_agree_on_what_one_of_them_opens(tmp_path: Path, broker_url: str) -> None:
    async with swarm_of(write_swarm(tmp_path, broker_url), *IDS) as swarm:
        await swarm.until_all_heard()
        for number in range(3):
            tag = swarm.agents[IDS[number]].submit("decisions", OPEN)
            await swarm.heard[IDS[number]].until_committed(tag)
        for listener in swarm.heard.values():
            await listener.until_happened("closed", times=3)
        outcomes = [listener.outcomes() for listener in swarm.heard.values()]
        assert outcomes.count(outcomes[0]) == 4
        assert {(o.value, o.margin) for o in outcomes[0]} == {(2100, 1)}
        assert len({*await swarm.until_same_height()}) == 1
        chains = [chain_of(agent) for agent in swarm.agents.values()]
        assert chains.count(chains[0]) == 4


async def test_presence_is_signed_retained_and_ends_with_a_farewell(tmp_path: Path, broker_url: str) -> None:
    files = write_swarm(tmp_path, broker_url)
    async with swarm_of(files, "dev-0", "dev-1") as swarm:
        presence = swarm.agents["dev-0"].presence
        await until(lambda: [claim.device for claim in presence.claims()] == ["dev-1"])
    url = parse_broker(broker_url)
    async with aiomqtt.Client(url.host, url.port) as client:
        await client.subscribe(topic_status(GENESIS.swarm, "dev-1"), qos=1)
        async with asyncio.timeout(PATIENCE_S):
            message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    claim = read_presence(message.payload, GENESIS, "dev-1")
    assert (claim.state, claim.boot) == (PresenceState.OFFLINE, 1)


# ------------------------------------------------------------------------------------------ faults


async def test_a_broker_restart_in_the_middle_loses_nothing(
    tmp_path: Path, broker: RestartableBroker
) -> None:
    async with swarm_of(write_swarm(tmp_path, broker.url), *IDS) as swarm:
        await swarm.until_all_heard()
        agent, heard = swarm.agents["dev-0"], swarm.heard["dev-0"]
        tags = [agent.submit("notes", b"before %d" % i) for i in range(20)]
        await heard.until_committed(tags[0])
        tags += [agent.submit("notes", b"on the way %d" % i) for i in range(20)]
        await asyncio.to_thread(broker.kill)
        for listener in swarm.heard.values():
            await listener.until_link(Link.LOST)
        tags += [agent.submit("notes", b"while it is away %d" % i) for i in range(20)]
        await asyncio.to_thread(broker.start)
        for listener in swarm.heard.values():
            await listener.until_link(Link.CONNECTED, times=2)
        await heard.until_committed(*tags)
        await heard.until_committed(agent.submit("notes", b"after"))
        assert heard.all("lost") == []
        assert [state.link for state in heard.links] == [Link.CONNECTED, Link.LOST, Link.CONNECTED]
        assert len({*await swarm.until_same_height()}) == 1


@pytest.mark.processes
async def test_a_killed_agent_goes_on_with_its_store(tmp_path: Path, broker_url: str) -> None:
    files = write_swarm(tmp_path, broker_url)
    async with swarm_of(files, "dev-0", "dev-1") as swarm:
        # Two of four are no quorum: nothing commits without the process.
        agent, heard = swarm.agents["dev-0"], swarm.heard["dev-0"]
        for text in (b"first", b"after the kill"):
            with agent_process(files["dev-2"]) as process:
                await until_line(process, "quorum up")
                await heard.until_committed(*(agent.submit("notes", text) for _ in range(5)))
                with pytest.raises(StoreError, match=f"pid {process.pid}"):
                    build(files["dev-2"], Heard())
                process.kill()
        third = Heard()
        restarted = build(files["dev-2"], third)
        assert restarted.device.boot == 3
        assert restarted.device.ledger.height >= 1
        restarted._store.close()


@pytest.mark.processes
async def test_a_second_agent_is_refused_and_sigterm_ends_the_first_with_zero(
    tmp_path: Path, broker_url: str
) -> None:
    files = write_swarm(tmp_path, broker_url)
    with agent_process(files["dev-0"]) as first:
        await until_line(first, "connected to")
        with agent_process(files["dev-0"]) as second:
            out, err = await asyncio.to_thread(second.communicate, None, PATIENCE_S)
        assert second.returncode == 2
        assert out == ""
        assert err.startswith("swarm: error: another process (pid ")
        assert err.count("\n") == 1
        first.terminate()
        _, err = await asyncio.to_thread(first.communicate, None, PATIENCE_S)
        assert (first.returncode, err) == (0, "")


# ------------------------------------------------------------------------------------------ strangers


VIEWS_AHEAD = 3
"""Within the window of R0, and not over before the frames arrive."""


def hostile_frames(view: int) -> list[tuple[str, bytes]]:
    """Return (topic, payload) of what somebody with access to the broker, but without keys, may send to dev-0.

    `view` is one in which votes still count: older ones are dropped before their signature is looked at.
    """
    name = GENESIS.swarm
    forged = SignedStatement(
        kind=Kind.NOTARIZE, epoch=0, number=view, digest=b"\x07" * 32, voter=1, signature=bytes(64)
    )
    stolen = SignedStatement(
        kind=Kind.SKIP, epoch=0, number=view, digest=bytes(32), voter=1,
        signature=sign_statement(GENESIS, "dev-1", Kind.SKIP, view + 1, bytes(32)),
    )  # fmt: skip
    stranger = make_submission(GENESIS, "dev-9", 1, ("notes", b"let me in"))
    topics = [topic_all(name, "dev-1"), topic_to(name, "dev-1", "dev-0"), topic_beat(name, "dev-1")]
    payloads = [
        b"",
        b"garbage",
        bytes(1000),
        encode_frame((forged,)),
        encode_frame((stolen,)),
        encode_frame((SubmissionItem(raw=stranger.raw),)),
        encode_frame((SubmissionItem(raw=b"no submission"),)),
    ]
    frames = [(topic, payload) for topic in topics for payload in payloads]
    frames += [
        (topic_all(name, "dev-9"), b"a sender that is no member"),
        (topic_status(name, "dev-1"), b"{}"),
    ]
    return frames


async def test_what_strangers_send_is_only_counted(tmp_path: Path, broker_url: str) -> None:
    url = parse_broker(broker_url)
    async with swarm_of(write_swarm(tmp_path, broker_url), *IDS) as swarm, aiomqtt.Client(
        url.host, url.port
    ) as attacker, aiomqtt.Client(url.host, url.port) as recorder:  # fmt: skip
        await recorder.subscribe([(topic_all(GENESIS.swarm, id), 1) for id in IDS[1:]])
        await recorder.subscribe([(topic_beat(GENESIS.swarm, id), 0) for id in IDS[1:]])
        await swarm.until_all_heard()
        agent, heard = swarm.agents["dev-0"], swarm.heard["dev-0"]
        await heard.until_committed(agent.submit("notes", b"something to record"))
        for topic, payload in hostile_frames(agent.device.replica.state.cur + VIEWS_AHEAD):
            await attacker.publish(topic, payload, qos=1)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(5):
                replayed = await anext(aiter(recorder.messages))
                assert isinstance(replayed.payload, bytes)
                await attacker.publish(str(replayed.topic), replayed.payload, qos=1)
                await attacker.publish(topic_to(GENESIS.swarm, "dev-3", "dev-0"), replayed.payload, qos=1)
        await heard.until_committed(agent.submit("notes", b"still here"))
        await until(lambda: agent.presence.dropped == {"malformed": 1})
        dropped = agent.device.dropped
        assert dropped["malformed"] >= 12
        assert dropped["bad-signature"] >= 3
        assert dropped["unknown-origin"] >= 3
        assert "unknown-sender" not in dropped, "nobody listens to those who are no members"
        assert heard.all("evidence") == []
        assert len({*await swarm.until_same_height()}) == 1


async def test_an_oversized_frame_is_counted_by_whoever_receives_it(
    tmp_path: Path, broker: RestartableBroker
) -> None:
    url = parse_broker(broker.url)
    async with swarm_of(write_swarm(tmp_path, broker.url), *IDS) as swarm:
        await swarm.until_all_heard()
        agent, heard = swarm.agents["dev-0"], swarm.heard["dev-0"]
        # The embedded broker throws its sender out instead, which is as good.
        try:
            async with aiomqtt.Client(url.host, url.port, timeout=2) as attacker:
                await attacker.publish(topic_all(GENESIS.swarm, "dev-1"), bytes(FRAME_BYTES_MAX + 1), qos=1)
        except aiomqtt.MqttError:
            pass
        else:
            await until(lambda: agent.transport.counters()["in_too_large"] == 1)
        await heard.until_committed(agent.submit("notes", b"still here"))
