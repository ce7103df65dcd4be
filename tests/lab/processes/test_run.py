"""Whole runs over a real broker, a few seconds each: they agree through crashes, partitions and a silent attacker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import verify_proof
from swarm.lab.checkers.one_vote import OneVotePerView
from swarm.lab.processes.run import run_mqtt
from swarm.lab.scenario.output import OutputFolder
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.progress import OnProgress, Progress, ignore_progress
from swarm.lab.scenario.result import Result, exit_code
from swarm.primitives.errors import ConfigError, TransportError
from swarm.wire.genesis import parse_genesis
from tests.support.brokers import MosquittoBroker, free_port
from tests.support.processes import children_of

pytestmark = [pytest.mark.processes, pytest.mark.broker, pytest.mark.usefixtures("nothing_left")]

VERSION = "0-test"


def run(
    tmp_path: Path,
    *,
    duration: str = "3s",
    faults: str = "",
    behaviour: str = "{kind: thermostat, mean: 21.0, noise: 0.4}",
    broker: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Result:
    text = f"""
name: trial
seed: 3
duration: {duration}
devices: {{voters: 4, behaviour: {behaviour}}}
network: {{latency: {{median: 2ms, p99: 8ms}}}}
{"faults:" if faults else ""}{faults}
workload:
  - {{every: 250ms, decide: {{subject: temperature, rule: median, scale: 2, deadline: 2s}}}}
expect:
  committed_min: 4
  convicted: []
"""
    scenario = parse_scenario(text, str(tmp_path / "trial.yaml"))
    output = OutputFolder(tmp_path / "out")
    try:
        return run_mqtt(scenario, version=VERSION, output=output, on_progress=on_progress, broker=broker)
    finally:
        output.close()


def events_of(tmp_path: Path, kind: str) -> list[dict[str, Any]]:
    lines = (tmp_path / "out" / "trace" / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def check_good(result: Result) -> None:
    assert exit_code(result) == 0, (result.expectations, result.invariants)
    assert result.agreement
    heights = [row.height for row in result.devices.values() if row.up]
    assert min(heights) > 0


def test_a_short_run_agrees_and_its_proofs_stand_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes: dict[str, int] = {}

    def count(_checker: object, voter: str, *_vote: object) -> None:
        votes[voter] = votes.get(voter, 0) + 1

    monkeypatch.setattr(OneVotePerView, "on_statement", count)
    seen: list[Progress] = []
    result = run(tmp_path, on_progress=seen.append)
    check_good(result)
    # The listener hears every voter's proposals and votes, some three in each view.
    assert sorted(votes) == ["dev-0", "dev-1", "dev-2", "dev-3"]
    assert min(votes.values()) > result.committed.blocks
    assert result.engine == "mqtt"
    assert result.trace_digest is None
    assert [row.up for row in result.devices.values()] == [True] * 4
    assert result.messages.published > result.committed.submissions
    assert result.messages.bytes_published > 50 * result.messages.published
    # Four devices hear what three others publish; requests and answers have one receiver.
    assert result.messages.delivered > 2 * result.messages.published
    assert result.commit_ms.count >= result.committed.submissions
    assert {progress.phase for progress in seen} >= {"starting", "running"}
    assert max(device.height for device in seen[-1].devices) > 0
    assert [at.at_ms for at in seen] == sorted(at.at_ms for at in seen)

    genesis = parse_genesis((tmp_path / "out" / "genesis.json").read_text())
    proved = [row for row in result.decisions if row.proof is not None]
    assert len(proved) >= 5
    for row in proved:
        outcome = verify_proof((tmp_path / "out" / str(row.proof)).read_bytes(), genesis)
        assert isinstance(outcome, Outcome)
        assert outcome.value is not None
        assert outcome.value / 100 == row.outcome
    assert not list((tmp_path / "out" / "trace").glob("*.log")), "a device complained"


def test_a_killed_device_comes_back_with_its_store_and_another_stays_down(tmp_path: Path) -> None:
    faults = """
  - {at: 1500ms, crash: [dev-1]}
  - {at: 2500ms, restart: [dev-1]}
  - {at: 5s, crash: [dev-2]}"""
    result = run(tmp_path, duration="6s", faults=faults)
    check_good(result)
    starts = [event for event in events_of(tmp_path, "started") if event["device"] == "dev-1"]
    assert [event["data"]["boot"] for event in starts] == [1, 2]
    assert starts[1]["at_ms"] > 2_500
    assert 0 < starts[1]["data"]["height"] < result.devices["dev-1"].height
    times = [event["at_ms"] for event in events_of(tmp_path, "finalized") if event["device"] == "dev-1"]
    assert [at for at in times if 1_600 < at < 2_500] == [], "it was dead"
    assert {device for device, row in result.devices.items() if not row.up} == {"dev-2"}
    assert 0 < result.devices["dev-2"].height <= result.devices["dev-0"].height
    assert result.caught_up_ms is not None


def test_halves_decide_nothing_and_go_on_after_the_partition(tmp_path: Path) -> None:
    faults = "\n  - {at: 1500ms, partition: [[dev-0, dev-1], [dev-2, dev-3]]}\n  - {at: 3s, heal: all}"
    result = run(tmp_path, duration="6s", faults=faults)
    check_good(result)
    assert result.messages.dropped > 0
    times = [event["at_ms"] for event in events_of(tmp_path, "finalized")]
    assert [at for at in times if 1_700 < at < 3_000] == []
    assert [at for at in times if at < 1_500]
    assert [at for at in times if at > 3_000]


def test_a_silent_attacker_costs_its_turns_and_nothing_else(tmp_path: Path) -> None:
    attack = "{at: 0s, byzantine: {device: dev-3, attack: silent}}"
    result = run(tmp_path, duration="4s", faults=f"\n  - {attack}")
    check_good(result)
    assert result.devices["dev-3"].byzantine
    assert result.views.skipped > 0
    assert all("dev-3" not in row.ballots for row in result.decisions[2:])


def test_a_foreign_broker_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    broker = MosquittoBroker(tmp_path).start()
    try:
        check_good(run(tmp_path, broker=broker.url))
        genesis = parse_genesis((tmp_path / "out" / "genesis.json").read_text())
        assert genesis.swarm.startswith("trial-"), "two runs on one broker must not meet"
        assert asyncio.run(retained_on(broker.port)) == []
    finally:
        broker.stop()


async def retained_on(port: int) -> list[str]:
    """Return the topics of all retained messages: a broker sends them before anything published later."""
    topics: list[str] = []
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("#", qos=1)
        await client.publish("the-end", b"", qos=1)
        async with asyncio.timeout(5):
            async for message in client.messages:
                if message.topic.value == "the-end":
                    break
                topics.append(message.topic.value)
    return topics


async def test_a_notebook_has_a_loop_of_its_own(tmp_path: Path) -> None:
    asyncio.get_running_loop()
    check_good(run(tmp_path, duration="2s"))


def test_a_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(TransportError, match=f"no broker at mqtt://127.0.0.1:{port}"):
        run(tmp_path, broker=f"mqtt://127.0.0.1:{port}")


def test_a_behaviour_that_cannot_be_built_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dev-\d: behaviours\[0\]\.kind: .*nosuchmodule"):
        run(tmp_path, behaviour="{kind: 'nosuchmodule:Thing'}")


def test_a_worker_killed_from_outside_ends_the_run_in_words(tmp_path: Path) -> None:
    began = time.monotonic()

    def kill_one(progress: Progress) -> None:
        if progress.phase == "running":
            workers = [pid for pid in children_of(os.getpid()) if b"processes.worker" in command_of(pid)]
            os.kill(workers[0], signal.SIGKILL)

    with pytest.raises(ConfigError, match="the process of dev-0 was killed from outside, by signal 9"):
        run(tmp_path, duration="60s", on_progress=kill_one)
    assert time.monotonic() - began < 30


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
