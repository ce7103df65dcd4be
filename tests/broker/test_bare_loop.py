"""The measuring stick measures, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.lab.bench import bare_loop
from swarm.lab.bench.bare_loop import run_bare_loop
from swarm.primitives.errors import ConfigError, TransportError
from tests.support.brokers import free_port

pytestmark = [pytest.mark.broker, pytest.mark.processes]


def children() -> list[str]:
    """Return the ids of our living child processes."""
    return (Path("/proc/self/task") / str(os.getpid()) / "children").read_text().split()


def test_a_tiny_run_gives_figures_that_fit_each_other(broker_url: str) -> None:
    before = children()
    result = run_bare_loop(broker_url, devices=4, commits=20, seconds=20)
    assert children() == before
    assert 0 < result.p50_ms <= result.p99_ms
    # One block is in flight at a time, so the rate cannot beat the time of a block.
    assert result.blocks_per_s <= 2 * 1000 / result.p50_ms
    assert result.submissions_per_s > result.blocks_per_s


def test_one_device_alone_needs_nobody(broker_url: str) -> None:
    assert run_bare_loop(broker_url, devices=1, commits=5, seconds=10).p50_ms > 0


def test_an_absent_broker_is_an_error_and_leaves_no_worker() -> None:
    before = children()
    with pytest.raises(TransportError, match="a worker of the bare loop failed"):
        run_bare_loop(f"mqtt://127.0.0.1:{free_port()}", devices=2, commits=1, seconds=1)
    assert children() == before


def test_no_block_in_time_is_an_error_and_not_a_division_by_zero(broker_url: str) -> None:
    with pytest.raises(TransportError, match="no block"):
        run_bare_loop(broker_url, devices=2, commits=5, seconds=0.0001)


@pytest.mark.parametrize(
    ("devices", "commits", "seconds"),
    [(0, 1, 1.0), (bare_loop.DEVICES_MAX + 1, 1, 1.0), (4, 0, 1.0), (4, 1, 0.0)],
)
def test_nothing_to_measure_is_the_users_mistake(devices: int, commits: int, seconds: float) -> None:
    with pytest.raises(ConfigError):
        run_bare_loop("mqtt://127.0.0.1:1", devices=devices, commits=commits, seconds=seconds)
