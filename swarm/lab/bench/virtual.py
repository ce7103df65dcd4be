"""How fast the simulator is: the greenhouse, real signatures, one process and so one core."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from swarm.lab.bench.figures import SimulatorFigures
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.schema import Scenario
from swarm.lab.sim.world import World

GREENHOUSE: Final = """
name: greenhouse
description: four controllers agree on the temperature while one lies and one is killed and comes back
seed: 7
duration: 30s
devices:
  voters: 4
  behaviour: {kind: thermostat, mean: 21.0, noise: 0.4}
  each: {dev-3: {behaviour: {kind: thermostat, lie: 40.0}}}
faults: [{at: 12s, crash: [dev-1]}, {at: 18s, restart: [dev-1]}]
workload: [{every: 500ms, decide: {subject: temperature, rule: median, scale: 2, deadline: 3s}}]
"""
"""What `configs/scenarios/greenhouse.yaml` runs; an installed package does not have that file."""

_SLICE_MS: Final = 100


def greenhouse() -> Scenario:
    """Return the scenario that is measured."""
    return parse_scenario(GREENHOUSE, "swarm bench")


async def measure_simulator(seconds: float) -> SimulatorFigures:
    """Run the scenario from its beginning, to its end or for `seconds`, whichever is first."""
    world = World(greenhouse())
    began = time.perf_counter()
    while (took_s := time.perf_counter() - began) < seconds or world.now_ms == 0:
        if world.now_ms >= world.scenario.duration_ms:
            break
        world.run_until(world.now_ms + _SLICE_MS)
        await asyncio.sleep(0)
    took_s = time.perf_counter() - began
    return SimulatorFigures(
        virtual_s_per_wall_s=world.now_ms / 1000 / took_s, events_per_s=world.scheduler.steps / took_s
    )
