"""The two threads of an agent: when turns move there, and that a behaviour that hangs stops nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from swarm.agent import threads
from swarm.agent.threads import BehaviourThread, DiskPace, WorkerThread
from swarm.behaviours.actions import AskBallot, BallotReady, SelfTested, TellOutcome
from swarm.behaviours.runner import BehaviourFault
from tests.support.agents import PATIENCE_S, Says, one_behaviour
from tests.support.vectors import OUTCOME, VIEW


def note(pace: DiskPace, *times_ms: float) -> bool:
    for took_ms in times_ms:
        pace.note(took_ms)
    return pace.is_slow


def test_a_disk_is_quick_until_enough_commits_say_otherwise() -> None:
    pace = DiskPace()
    assert pace.p99_ms == 0
    assert not note(pace, *[9.0] * 31)
    assert note(pace, 9.0)


def test_one_slow_commit_in_two_hundred_changes_nothing() -> None:
    assert not note(DiskPace(), *[1.0] * 100, 50.0, *[1.0] * 27)


def test_it_comes_back_only_well_below_the_limit() -> None:
    pace = DiskPace()
    assert note(pace, *[6.0] * 32)
    assert note(pace, *[3.0] * 256), "between the two limits it stays where it is"
    assert not note(pace, *[2.0] * 128)
    assert not note(pace, *[3.0] * 256)


async def test_a_worker_runs_in_order_and_raises_where_it_is_awaited() -> None:
    worker = WorkerThread("t")
    ran: list[int] = []
    futures = [worker.run(lambda i=i: ran.append(i)) for i in range(50)]  # type: ignore[misc]
    await asyncio.gather(*futures)
    assert ran == list(range(50))
    assert await worker.run(threading.get_ident) != threading.get_ident()

    def fail() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await worker.run(fail)
    worker.stop()


class Results:
    def __init__(self) -> None:
        self.ballots: list[BallotReady] = []
        self.faults: list[BehaviourFault] = []
        self.came = asyncio.Event()

    def on_answers(self, answers: Sequence[BallotReady | SelfTested]) -> None:
        self.ballots.extend(answer for answer in answers if isinstance(answer, BallotReady))
        self.came.set()


def thread_for(behaviour: Says, results: Results) -> BehaviourThread:
    return BehaviourThread(
        one_behaviour(behaviour), on_answers=results.on_answers, on_fault=results.faults.append
    )


async def test_a_behaviour_that_hangs_stops_neither_loop_nor_further_decisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "ACTIONS_MAX", 3)
    gate = threading.Event()
    behaviour, results = Says(None, {"value": 7}), Results()

    def before() -> None:
        gate.wait(PATIENCE_S)

    behaviour.before = before
    thread = thread_for(behaviour, results)
    thread.put([AskBallot(VIEW), TellOutcome(OUTCOME)], 0)
    thread.put([AskBallot(VIEW)], 0)
    assert results.ballots == []
    thread.put([AskBallot(VIEW), TellOutcome(OUTCOME)], 0)
    assert results.ballots == [BallotReady(VIEW.id, None)], "a full queue abstains at once"
    assert "wait already" in results.faults[0].message
    gate.set()
    async with asyncio.timeout(PATIENCE_S):
        while len(results.ballots) < 3:
            results.came.clear()
            await results.came.wait()
    assert results.ballots[1:] == [BallotReady(VIEW.id, 7)] * 2
    assert behaviour.outcomes == [OUTCOME]
    thread.put([AskBallot(VIEW)], 0)
    thread.stop()


async def test_nothing_is_heard_after_the_stop() -> None:
    gate = threading.Event()
    behaviour, results = Says(None, {"value": 7}), Results()
    finished = threading.Event()

    def before() -> None:
        gate.wait(PATIENCE_S)
        finished.set()

    behaviour.before = before
    thread = thread_for(behaviour, results)
    thread.put([AskBallot(VIEW)], 0)
    thread.stop()
    gate.set()
    assert await asyncio.to_thread(finished.wait, PATIENCE_S)
    for _ in range(10):
        await asyncio.sleep(0)
    assert results.ballots == []
