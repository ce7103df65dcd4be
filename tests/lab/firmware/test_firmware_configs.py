"""Every scenario of firmware in configs/scenarios holds what it expects, with every rule of the rollout checked."""

from __future__ import annotations

import pytest

from swarm.lab.scenario.parse import load_scenario
from swarm.lab.scenario.result import exit_code
from swarm.lab.scenario.schema import check_engine
from swarm.primitives.errors import ConfigError
from tests.support.firmware_runs import CONFIGS, play_config

FIGURES = ("fleet",)
"""Run for their figures (docs/BENCHMARKS.md), a minute each; here only what they say is checked."""

NAMES = sorted(
    name
    for path in CONFIGS.glob("firmware-*.yaml")
    if (name := path.stem.removeprefix("firmware-")) not in FIGURES
)


def test_there_is_one_for_every_way_a_rollout_can_go() -> None:
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", [*NAMES, *FIGURES])
def test_scenario_is_legal_and_refused_by_a_real_broker(name: str) -> None:
    path = CONFIGS / f"firmware-{name}.yaml"
    if not path.exists():
        pytest.skip("no such figure yet")
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    check_engine(scenario, "sim")
    with pytest.raises(ConfigError, match="firmware is not supported by engine 'mqtt'"):
        check_engine(scenario, "mqtt")


@pytest.mark.parametrize("name", NAMES)
def test_scenario_holds(name: str) -> None:
    run = play_config(name)
    assert [row for row in run.result.expectations if not row.held] == []
    assert exit_code(run.result) == 0
