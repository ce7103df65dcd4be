"""Random faults for a while, then peace: no fork, nothing lost, everything submitted is final, and then silence.

Both modes of a simulation at once: safety while everything fails, liveness after it. Each failure is replayed by its
seed: `pytest "tests/simulation/test_random_faults.py::test_seed[17]"`. More seeds: `SWARM_SEEDS=1000 pytest ...`.
"""

from __future__ import annotations

import os

import pytest

from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.workload import WorkItem
from swarm.lab.sim.world import World
from swarm.primitives.limits import HEARTBEAT_MS
from swarm.primitives.version import VERSION
from tests.support.random_scenario import DURATION_MS, WORK_ENDS_MS, random_scenario

SEEDS = int(os.environ.get("SWARM_SEEDS", "20"))
QUIET_FROM_MS = DURATION_MS - 12_000


class PeacefulEnd(World):
    """A world whose workload ends, so that the swarm can come to rest."""

    def _work(self, item: WorkItem) -> None:
        if item.at_ms < WORK_ENDS_MS:
            super()._work(item)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_seed(seed: int) -> None:
    print(f"seed {seed}, version {VERSION}")
    world = PeacefulEnd(parse_scenario(random_scenario(seed), f"seed {seed}"))
    world.run_until(QUIET_FROM_MS)
    before = world.collector.traffic.published
    world.run_until(DURATION_MS)

    result = world.collector.result(world.final_states(), version=VERSION, wall_s=0, trace_digest=None)
    assert set(result.invariants.values()) == {"held"}, result.invariants
    up = [node.device for node in world.nodes.values() if node.device is not None]
    assert len({device.ledger.height for device in up}) == 1
    assert len({device.ledger.frontier.root() for device in up}) == 1
    assert [device.outstanding for device in up] == [0] * len(up)
    assert not any(device.replica.state.work or device.replica.state.pool.pending for device in up)
    assert len({device.replica.state.checkpoint_height for device in up}) == 1
    beats = len(up) * ((DURATION_MS - QUIET_FROM_MS) * 10 // (HEARTBEAT_MS * 9) + 1)
    assert world.collector.traffic.published - before <= beats
