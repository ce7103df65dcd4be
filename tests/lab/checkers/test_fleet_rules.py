"""The rules over a run: complaints go under the right name, plans and images are kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarm.apps.rollout.entries import Command, Go, MakePlan
from swarm.apps.rollout.events import (
    Completed,
    Consented,
    Opened,
    Permitted,
    Planned,
    Ran,
    RolloutEvent,
)
from swarm.apps.rollout.spec import PlanSpec
from swarm.lab.checkers.fleet import INVARIANTS, FleetRules, Running
from tests.support.rollouts import RolloutLog, make_rollout_genesis

GENESIS = make_rollout_genesis(4)
PLAN, RELEASE, NEW, OLD = b"p" * 32, b"r" * 32, b"n" * 32, b"o" * 32


def rules(**spec: Any) -> FleetRules:
    made = FleetRules(GENESIS.voter_ids, GENESIS.budget.u, (), GENESIS.id)
    say(made, "dev-0", MakePlan(RELEASE, PlanSpec(**spec)), Planned(PLAN, RELEASE))
    return made


def say(made: FleetRules, speaker: str, command: Command, *events: RolloutEvent) -> None:
    made.on_entry(PLAN, speaker, command, list(enumerate(events, 10)))


def opened(made: FleetRules, kind: str = "voters") -> None:
    go = Go(PLAN, 0, 0)
    for voter in GENESIS.voter_ids:
        say(made, voter, go)
    say(made, "dev-0", go, Opened(PLAN, 0, 0, kind, ("dev-1",)))  # type: ignore[arg-type]


def permitted(device: str) -> Permitted:
    return Permitted(PLAN, 0, 0, device, 0, NEW, ())


def violated(made: FleetRules) -> Sequence[str]:
    return [name for name, state in made.verdicts().items() if state != "held"]


def test_every_rule_has_a_name() -> None:
    assert set(INVARIANTS) == {*(str(number) for number in range(1, 11)), "W8"}
    assert violated(rules()) == []


def test_a_second_voter_at_risk_is_found_under_its_name() -> None:
    made = rules()
    opened(made)
    say(made, "dev-1", Go(PLAN, 1, 0), permitted("dev-1"))
    assert (made.at_risk_max, violated(made)) == (1, [])
    say(made, "dev-2", Go(PLAN, 1, 0), permitted("dev-2"))
    assert made.at_risk_max == 2
    assert "rollout-risk-is-bounded" in violated(made)
    assert "rollout-hold-back" in violated(made)


def test_a_reserve_is_that_of_its_plan_and_a_consent_lifts_it() -> None:
    made = rules(reserve=1)
    opened(made)
    say(made, "dev-1", Go(PLAN, 1, 0), permitted("dev-1"))
    assert "rollout-risk-is-bounded" in violated(made)
    made = rules(reserve=1)
    opened(made)
    say(made, "dev-0", Go(PLAN, 1, 0), Consented(PLAN, "dev-1"))
    say(made, "dev-1", Go(PLAN, 1, 0), permitted("dev-1"))
    assert violated(made) == []


def test_hold_back_counts_until_it_is_released() -> None:
    made = rules(hold_back=4)
    opened(made)
    say(made, "dev-1", Go(PLAN, 1, 0), permitted("dev-1"))
    assert violated(made) == ["rollout-hold-back"]
    assert made.held_back == (4, 3)
    made = rules(hold_back=4)
    opened(made, "release")
    say(made, "dev-1", Go(PLAN, 1, 0), permitted("dev-1"))
    assert violated(made) == []


def test_armed_and_not_charged_is_found_when_it_happens_and_afterwards() -> None:
    made = rules()
    made.on_running("dev-1", Running(phase="armed", digest=OLD))
    assert violated(made) == ["rollout-armed-is-at-risk"]
    made = rules()
    opened(made)
    say(made, "dev-1", Go(PLAN, 1, 0), permitted("dev-1"))
    made.on_running("dev-1", Running(phase="armed", digest=OLD))
    assert violated(made) == []
    declined = RolloutLog(4).make_report("dev-1", "declined", permit=10)
    say(made, "dev-1", declined, Ran("dev-1", declined, 0))
    assert violated(made) == ["rollout-armed-is-at-risk"]


def test_belief_and_end_are_judged_when_it_is_quiet() -> None:
    made = rules()
    opened(made)
    report = RolloutLog(4).make_report("dev-1", "started", digest=OLD)
    say(made, "dev-1", report, Ran("dev-1", report, 0))
    made.on_running("dev-1", Running(phase="idle", digest=OLD))
    made.on_quiet_devices(["dev-1", "dev-2"])
    assert violated(made) == []
    made.on_running("dev-1", Running(phase="idle", digest=NEW))
    made.on_quiet_devices(["dev-1"])
    assert violated(made) == ["rollout-belief-is-true"]
    made = rules()
    opened(made)
    made.on_quiet_plans()
    assert violated(made) == ["rollout-ends"]
    made = rules()
    opened(made)
    say(made, "dev-1", Go(PLAN, 1, 0), Completed(PLAN, RELEASE))
    made.on_quiet_plans()
    assert violated(made) == []


def test_a_revoked_image_that_was_started_is_found() -> None:
    made = rules()
    made.on_start("dev-1", revoked=True, other_slot_fits=False)
    assert violated(made) == []
    made.on_start("dev-1", revoked=True, other_slot_fits=True)
    made.on_start("dev-1", revoked=True, other_slot_fits=True)
    assert "(and 1 more)" in made.verdicts()["rollout-revoked-not-started"]
