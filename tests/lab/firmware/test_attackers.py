"""Every attack that a scenario may name exists, has its own file's name, and does nothing where there is no firmware."""

from __future__ import annotations

from swarm.lab.attackers.attack import ATTACKS, INSIDER_ATTACKS
from swarm.lab.scenario.attacks import INSIDER_ATTACK_NAMES, SUPPORTED_ATTACKS
from swarm.lab.scenario.parse import parse_scenario
from swarm.lab.scenario.result import HELD
from swarm.lab.sim.run import run_sim


def test_names_are_those_that_a_file_may_say() -> None:
    assert set(INSIDER_ATTACKS) == set(INSIDER_ATTACK_NAMES)
    assert set(ATTACKS) | set(INSIDER_ATTACKS) == SUPPORTED_ATTACKS["sim"]
    assert all(name == attack.name for name, attack in INSIDER_ATTACKS.items())  # type: ignore[attr-defined]


def test_without_firmware_only_the_votes_of_one_are_false() -> None:
    for name in sorted(INSIDER_ATTACKS):
        text = (
            "name: x\nduration: 6s\ndevices: {voters: 4}\n"
            f"faults: [{{at: 1s, byzantine: {{device: dev-3, attack: {name}}}}}]\n"
            "workload: [{rate: 2/s, submit: {bytes: 10}}]\n"
        )
        result = run_sim(parse_scenario(text, "test"), version="x")
        assert set(result.invariants.values()) == {HELD}, name
        assert result.committed.submissions >= 4, name
        assert result.convicted == (("dev-3",) if name == "equivocate" else ()), name
