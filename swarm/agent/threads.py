"""The two threads that an agent may have besides its event loop: one for turns on a slow disk, one for behaviours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from swarm.behaviours.actions import Action, AskBallot, BallotReady, SelfTest, SelfTested
from swarm.behaviours.loader import Behaviours
from swarm.behaviours.runner import ActionResults, BehaviourFault, run_actions
from swarm.primitives.limits import ACTIONS_MAX

T = TypeVar("T")

SLOW_SYNC_MS: Final = 5.0
"""A 99th percentile of synced commits above it moves the turns into a thread (ARCHITECTURE, "One message")."""

QUICK_SYNC_MS: Final = 2.5
"""Below it they come back. Half, so that a disk at the limit does not change sides all the time."""

SYNCS_KEPT: Final = 128
_SYNCS_NEEDED: Final = 32
_SYNCS_BETWEEN: Final = 16

SLOW_ACTIONS_S: Final = 1.0
"""Actions of one turn that take longer are worth a line in the log."""

SELF_TEST_HUNG: Final = "self-test-hung"
"""The reason code of a self test that the behaviours could not be asked for: they have not answered for long."""

_LOG: Final = logging.getLogger(__name__)


class DiskPace:
    """Whether the disk is slow: the 99th percentile of the last 128 synced commits, with hysteresis."""

    def __init__(self) -> None:
        """Take the disk for a quick one until 32 commits say otherwise."""
        self._took_ms: deque[float] = deque(maxlen=SYNCS_KEPT)
        self._notes = 0
        self.is_slow = False

    def note(self, took_ms: float) -> None:
        """Take in how long one synced commit took."""
        self._took_ms.append(took_ms)
        self._notes += 1
        if self._notes % _SYNCS_BETWEEN == 0 and len(self._took_ms) >= _SYNCS_NEEDED:
            p99 = self.p99_ms
            self.is_slow = p99 > (QUICK_SYNC_MS if self.is_slow else SLOW_SYNC_MS)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the commits kept; 0 without any."""
        ordered = sorted(self._took_ms)
        return ordered[(len(ordered) * 99 - 1) // 100] if ordered else 0.0


class WorkerThread:
    """Runs one call after another in one thread of its own, started when first needed.

    The thread is a daemon: a call that never returns must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        """Prepare; `name` is what debuggers and `top -H` show."""
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Queue `call` and return the future of its result, for the running event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                # Only a call that did not fail gets here, so `result` is a T, None included.
                future.set_result(cast("T", result))

        def work() -> None:
            result: T | None = None
            failed: BaseException | None = None
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001  -- it is raised where the future is awaited
                failed = error
            # The loop may have ended while the call went on.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failed)

        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(work)
        return future

    def stop(self) -> None:
        """End the thread after what is queued, without waiting for it."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _serve(self) -> None:
        while (work := self._calls.get()) is not None:
            work()


class BehaviourThread:
    """Runs the actions of turns in the order of the turns, outside the event loop.

    A behaviour is somebody else's code that reads sensors: one that waits for its sensor must stop neither votes
    nor keep-alive. All of them share one thread, always the same one, so that a plug-in needs no locks; what that
    costs is one hop of a thread a ballot. The queue is bounded: when a behaviour hangs, further questions are
    answered by abstaining at once, and outcomes are not told.
    """

    def __init__(
        self,
        behaviours: Behaviours,
        *,
        on_answers: Callable[[Sequence[BallotReady | SelfTested]], None],
        on_fault: Callable[[BehaviourFault], None],
    ) -> None:
        """Hear the results through the two functions, called in the event loop."""
        self._behaviours = behaviours
        self._on_answers = on_answers
        self._on_fault = on_fault
        self._worker = WorkerThread("swarm-behaviours")
        self._waiting = 0
        self._stopped = False

    def put(self, actions: Sequence[Action], now_ms: int) -> None:
        """Queue the actions of one turn."""
        if not self._behaviours.loaded:
            # Nobody to ask: abstaining needs no thread.
            self._take(run_actions(self._behaviours, actions, now_ms))
            return
        if self._waiting + len(actions) > ACTIONS_MAX:
            self._refuse(actions)
            return
        self._waiting += len(actions)
        loop = asyncio.get_running_loop()
        began_s = loop.time()

        def finished(future: asyncio.Future[ActionResults]) -> None:
            self._waiting -= len(actions)
            took_s = loop.time() - began_s
            if took_s > SLOW_ACTIONS_S:
                _LOG.warning("behaviours took %.1f s for %d actions", took_s, len(actions))
            if not future.cancelled():
                self._take(future.result())

        self._worker.run(lambda: run_actions(self._behaviours, actions, now_ms)).add_done_callback(finished)

    def stop(self) -> None:
        """Hear nothing any more; a behaviour that still runs is left to the end of the process."""
        self._stopped = True
        self._worker.stop()

    def _take(self, results: ActionResults) -> None:
        if self._stopped:
            return
        for fault in results.faults:
            self._on_fault(fault)
        if results.ballots or results.tests:
            self._on_answers((*results.ballots, *results.tests))

    def _refuse(self, actions: Sequence[Action]) -> None:
        self._on_fault(
            BehaviourFault(
                kind="all", subject="", message=f"{self._waiting} actions wait already; abstaining"
            )
        )
        answers: list[BallotReady | SelfTested] = []
        for action in actions:
            if isinstance(action, AskBallot):
                answers.append(BallotReady(action.decision.id, None))
            elif isinstance(action, SelfTest):
                # Behaviours that hang are not well.
                answers.append(SelfTested(action.tag, SELF_TEST_HUNG))
        if answers:
            self._on_answers(answers)
