"""Every scenario of firmware in configs/scenarios holds what it expects, with every rule of the rollout checked."""

from __future__ import annotations

import pytest

from swarm.lab.scenario.result import exit_code
from tests.support.firmware_runs import CONFIGS, play_config

NAMES = sorted(path.stem.removeprefix("firmware-") for path in CONFIGS.glob("firmware-*.yaml"))


def test_there_is_one_for_every_way_a_rollout_can_go() -> None:
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_scenario_holds(name: str) -> None:
    run = play_config(name)
    assert [row for row in run.result.expectations if not row.held] == []
    assert exit_code(run.result) == 0
