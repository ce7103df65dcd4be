"""Same log, same state, byte for byte; a device that restores in the middle is no different from one that did not."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.apps.application import Application, BlockFollower, SwarmFollower
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.entries import (
    Activate,
    Approve,
    Arm,
    Command,
    Consent,
    Go,
    Halt,
    Late,
    MakePlan,
    Ready,
    Resume,
    Revoke,
    Rollback,
)
from swarm.apps.rollout.spec import PlanSpec, Step
from swarm.apps.rollout.status import STATUS
from tests.support.rollouts import RolloutLog, image

ORIGINS = ("dev-0", "dev-1", "dev-2", "dev-3", "obs-0", "obs-1", "ops")
RESULTS = (
    "started",
    "healthy",
    "confirmed",
    "reverted",
    "never_tried",
    "declined",
    "fell_back",
    "revoked_running",
)

steps = st.tuples(
    st.sampled_from(
        [
            "go",
            "go",
            "go",
            "late",
            "arm",
            "arm",
            "report",
            "report",
            "report",
            "halt",
            "resume",
            "rollback",
            "ready",
            "revoke",
            "approve",
            "consent",
            "activate",
            "plan",
            "recover",
            "convict",
            "epoch",
        ]
    ),
    st.sampled_from(ORIGINS),
    st.integers(0, 7),
)


def command(log: RolloutLog, kind: str, origin: str, choice: int) -> Command:
    plan = log.plan
    match kind:
        case "go":
            return Go(plan.id, len(plan.stages), plan.generation)
        case "late":
            stage = plan.open_stage
            number, turn = (len(plan.stages), 0) if stage is None else (stage.number, stage.round)
            return Late(plan.id, number, plan.generation, turn)
        case "arm":
            target = image(1 + choice % 2)
            incarnation = log.units[origin].incarnation if origin in log.units else 0
            return Arm(plan.id, max(0, len(plan.stages) - 1), plan.generation, incarnation, target)
        case "halt":
            return Halt(plan.id, of_class=False, reason="x")
        case "resume":
            return Resume(plan.id, plan.generation, ())
        case "rollback":
            return Rollback(plan.id, stop=choice == 7)
        case "ready":
            return Ready(plan.id, max(0, len(plan.stages) - 1))
        case "revoke":
            return Revoke(log.release_id, "x", ())
        case "approve":
            return Approve(log.release_id)
        case "consent":
            return Consent(plan.id, "dev-1")
        case "activate":
            return Activate(choice)
        case _:
            return MakePlan(log.release_id, PlanSpec(steps=(Step("observers", 1, 0),), max_fail=1))


def play(log: RolloutLog, kind: str, origin: str, choice: int) -> tuple[Any, ...]:
    if kind == "recover" and origin in log.units:
        log.recovered(origin)
        return ()
    if kind == "convict" and origin in log.units:
        return log.convicted(origin)
    if kind == "epoch":
        log.epoch += choice == 0
        return ()
    if kind == "report" and origin in log.units:
        device = log.device(origin)
        permit = 0 if device.permit is None or choice > 5 else device.permit.id
        return log.report(origin, RESULTS[choice], permit=permit, number=1 + choice % 2)
    if kind in ("report", "recover", "convict"):
        return ()
    return log.log(origin, command(log, kind, origin, choice))


def begun() -> RolloutLog:
    log = RolloutLog(4, observers=2)
    log.planned(hold_back=1, max_fail=1, steps=(Step("voters", 1, 0), Step("observers", 1, 0)))
    return log


def test_it_is_an_application_that_follows_blocks_and_its_swarm() -> None:
    assert isinstance(Rollout(), Application)
    assert isinstance(Rollout(), BlockFollower)
    assert isinstance(Rollout(), SwarmFollower)


@settings(deadline=None, max_examples=150)
@given(plan=st.lists(steps, min_size=5, max_size=60), cut=st.integers(0, 59))
def test_restored_in_the_middle_it_goes_on_the_same(plan: list[tuple[str, str, int]], cut: int) -> None:
    whole, broken = begun(), begun()
    for index, step in enumerate(plan):
        if index == cut:
            restored = Rollout()
            restored.begin_swarm(broken.genesis)
            restored.restore(broken.app.snapshot())
            assert restored.snapshot() == broken.app.snapshot()
            broken.app = restored
        assert play(whole, *step) == play(broken, *step)
        assert whole.app.snapshot() == broken.app.snapshot()
        assert [whole.duties(id) for id in ORIGINS] == [broken.duties(id) for id in ORIGINS]


@settings(deadline=None, max_examples=400)
@given(plan=st.lists(steps, min_size=20, max_size=120))
def test_whatever_stands_on_the_log_the_rules_hold(plan: list[tuple[str, str, int]]) -> None:
    """Anybody may log anything: permits stay in their limit, freezes bar, and every event is one that can be read."""
    log = begun()
    for step in plan:
        play(log, *step)
    STATUS.decode(log.app.query(b""))
    complaints = [text for text in log.rules.complaints if text[:3] in ("(2)", "(3)", "(4)")]
    assert complaints == []


@settings(deadline=None, max_examples=50)
@given(plan=st.lists(steps, min_size=5, max_size=40))
def test_a_command_without_an_event_of_a_stranger_changes_nothing(plan: list[tuple[str, str, int]]) -> None:
    log = begun()
    for step in plan:
        play(log, *step)
    log.next_block()
    before = log.app.snapshot()
    for kind in (
        "go",
        "late",
        "halt",
        "resume",
        "rollback",
        "revoke",
        "approve",
        "consent",
        "activate",
        "plan",
    ):
        assert log.log("obs-1", command(log, kind, "obs-1", 1)) == ()
    assert log.app.snapshot() == before
