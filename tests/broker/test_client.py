"""`swarm.connect` against real agents over a real broker: the promises of the README, kept."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import swarm
from swarm.agent.client.results import NotProvedError, SubmissionRejectedError
from swarm.apps.decisions.rules import Outcome
from swarm.apps.verify import Entry
from tests.support.commands import ROOT
from tests.support.running_swarm import RunningSwarm, running_swarm

pytestmark = [pytest.mark.broker, pytest.mark.processes]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSwarm]:
    with running_swarm(tmp_path_factory.mktemp("client")) as running:
        yield running


async def test_a_note_and_a_decision_are_proved(up: RunningSwarm) -> None:
    async with swarm.connect(up.operator) as s:
        receipt = await s.submit(b"hello")
        said = swarm.verify_proof(receipt.proof, s.genesis)
        assert isinstance(said, Entry)
        assert said.commands == (("notes", b"hello"),)

        decided = await s.decide("temperature", rule="median", scale=2, deadline="5s")
        outcome = swarm.verify_proof(decided.proof, s.genesis)
        assert outcome == decided.outcome
        assert isinstance(outcome, Outcome)
        assert outcome.kind == "number"
        assert outcome.counted == 4

        with pytest.raises(SubmissionRejectedError, match="at least one byte"):
            await s.submit(b"")
        status = await s.status()
        assert status.voters_up == 4
        assert s.trouble() is None
        assert s.outstanding == 0


async def test_many_at_once_and_the_log_that_holds_them(up: RunningSwarm) -> None:
    async with swarm.connect(up.operator) as s:
        receipts = await asyncio.gather(*(s.submit(b"%d" % number) for number in range(40)))
        assert len({receipt.position for receipt in receipts}) == 40
        got = await s.entries(receipts[0].position, 1)
        assert got.entries == (receipts[0].entry,)
        proved = await s.proof(receipts[7].position)
        assert proved.entry == receipts[7].entry


async def test_outcomes_are_followed(up: RunningSwarm) -> None:
    async with swarm.connect(up.operator) as s:
        position = (await s.submit(b"from here on")).position
        first = await s.decide("temperature", rule="median", scale=2)
        second = await s.decide("temperature", rule="median", scale=1)
        async with aclosing(s.outcomes("temperature", position=position)) as outcomes, asyncio.timeout(30):
            got = [(await anext(outcomes)).outcome, (await anext(outcomes)).outcome]
        assert got == [first.outcome, second.outcome]


async def test_from_now_on_means_from_now_on(up: RunningSwarm) -> None:
    async with swarm.connect(up.operator) as s:
        await s.decide("temperature", rule="median")

        async def next_one() -> bytes:
            async with aclosing(s.outcomes("temperature")) as outcomes:
                return (await anext(outcomes)).outcome.decision

        following = asyncio.create_task(next_one())
        await asyncio.sleep(1.0)
        decided = await s.decide("temperature", rule="median")
        assert await asyncio.wait_for(following, 20) == decided.outcome.decision


def test_the_twenty_lines_run(up: RunningSwarm) -> None:
    program = ROOT / "docs" / "examples" / "twenty_lines.py"
    assert len(program.read_text(encoding="utf-8").splitlines()) <= 25
    done = subprocess.run(
        [sys.executable, str(program), str(up.operator)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("of the log is ours")
    assert second.startswith("temperature = ")


async def test_what_was_not_proved_is_sent_again_by_the_next_run(tmp_path: Path) -> None:
    with running_swarm(tmp_path, up=("dev-0", "dev-1")) as running:
        async with swarm.connect(running.operator) as s:
            with pytest.raises(
                NotProvedError, match="no answer from dev-2, dev-3; it may still become final"
            ):
                await s.submit(b"patience", timeout=4)
            assert s.outstanding == 1
        running.stop(("dev-0", "dev-1"))
        running.start(("dev-0", "dev-1", "dev-2", "dev-3"))
        async with swarm.connect(running.operator) as s, asyncio.timeout(40):
            async with aclosing(s.follow(0)) as entries:
                _, entry = await anext(entries)
            assert isinstance(entry, Entry)
            assert entry.commands == (("notes", b"patience"),)
            while s.outstanding:
                await s.status(timeout=1)
