"""The scenario that the simulator is measured with."""

from __future__ import annotations

import msgspec

from swarm.lab.bench.virtual import greenhouse, measure_simulator
from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.schema import Expect
from tests.support.commands import ROOT


def test_it_is_the_greenhouse_of_the_configs() -> None:
    ours = greenhouse()
    theirs = load_scenario(ROOT / "configs" / "scenarios" / "greenhouse.yaml")
    # What is expected of the run, and where its lines stand, changes nothing about how long it takes.
    same = msgspec.structs.replace(
        theirs, source=ours.source, expect=Expect(), behaviour_lines=ours.behaviour_lines
    )
    assert same == ours


async def test_a_short_measurement_has_figures() -> None:
    figures = await measure_simulator(0.05)
    assert figures.virtual_s_per_wall_s > 0
    assert figures.events_per_s > 0
