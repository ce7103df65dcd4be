"""The worlds of the rollout's model hold within the bound of a test run; the module's own command goes further."""

from __future__ import annotations

import pytest

from swarm.lab.modelcheck.rollout_model import WORLDS, Model, explore, main
from swarm.lab.modelcheck.rollout_units import Unit

BOUND = 5_000
SMALL = ("five-refuse",)


@pytest.mark.parametrize("name", sorted(set(WORLDS) - set(SMALL)))
def test_a_world_holds_within_the_bound(name: str) -> None:
    found = explore(WORLDS[name], BOUND)
    assert found.complaint == "", found.in_words()
    assert found.states == BOUND


@pytest.mark.parametrize("name", SMALL)
def test_a_small_world_holds_to_its_end(name: str) -> None:
    found = explore(WORLDS[name], 100_000)
    assert found.complaint == "", found.in_words()
    assert found.exhausted
    assert found.states > 1_000


def test_the_same_world_gives_the_same_states() -> None:
    first, second = (explore(WORLDS["four-wipes"], 1_500) for _ in range(2))
    assert (first.states, first.depth) == (second.states, second.depth)


def test_interchangeable_voters_are_one_state() -> None:
    model = Model(WORLDS["four-wipes"])
    first = model.first()
    away = Unit(up=False)
    one = first._replace(units=(Unit(), Unit(), away, Unit()))
    other = first._replace(units=(Unit(), Unit(), Unit(), away))
    assert model.canonical(one) == model.canonical(other)
    assert model.canonical(one) != model.canonical(first)


def test_the_command_prints_states_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--world", "five-refuse", "--states", "300"]) == 0
    assert "the first 300 states" in capsys.readouterr().out
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(WORLDS)
