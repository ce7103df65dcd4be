"""Virtual time: ordered by time, then by insertion, so that ties are the same in every run."""

from __future__ import annotations

import pytest

from swarm.lab.sim.scheduler import Scheduler
from swarm.primitives.errors import InvariantError


def test_order_is_time_then_insertion() -> None:
    scheduler, seen = Scheduler(), list[str]()
    for name, at in (("c", 20), ("a", 10), ("d", 20), ("b", 10)):
        scheduler.at(at, lambda name=name: seen.append(name))  # type: ignore[misc]
    scheduler.run_until(20)
    assert seen == ["a", "b", "c", "d"]
    assert scheduler.now_us == 20


def test_what_is_planned_while_running_happens_in_the_same_run() -> None:
    scheduler, seen = Scheduler(), list[int]()
    scheduler.at(5, lambda: scheduler.after(0, lambda: seen.append(scheduler.now_us)))
    scheduler.at(6, lambda: seen.append(scheduler.now_us))
    scheduler.run_until(100)
    assert seen == [5, 6]


def test_nothing_after_the_end_happens_yet() -> None:
    scheduler, seen = Scheduler(), list[int]()
    scheduler.at(11, lambda: seen.append(1))
    scheduler.run_until(10)
    assert seen == []
    scheduler.run_until(11)
    assert seen == [1]


def test_the_past_is_closed() -> None:
    scheduler = Scheduler()
    scheduler.run_until(10)
    with pytest.raises(InvariantError, match="past"):
        scheduler.at(9, lambda: None)
