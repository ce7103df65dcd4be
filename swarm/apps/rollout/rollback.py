"""The way back (W11), giving up, revocations that start it (W12), and consents (W9)."""

from __future__ import annotations

from swarm.apps.rollout.entries import Rollback
from swarm.apps.rollout.events import (
    Abandoned,
    Deadline,
    RolledBack,
    RollingBack,
    plan_key,
    stage_key,
)
from swarm.apps.rollout.plan import ids, runs
from swarm.apps.rollout.state import Here, Plan, Stage
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import STAGES_KEPT


def apply_rollback(here: Here, rollback: Rollback) -> None:
    """Count a voter that wants the image taken back, or the frozen plan given up; q equal wishes do it."""
    plan = here.state.plans.get(rollback.plan)
    if plan is None or not may_roll_back(here, plan, stop=rollback.stop):
        return
    if here.is_operator:
        plan.asked_rollback[here.origin] = rollback.stop
    if not here.is_voter:
        return
    plan.rollbacks[here.origin] = rollback.stop
    same = [voter for voter, stop in plan.rollbacks.items() if stop == rollback.stop]
    if here.count(same) < here.quorum:
        return
    if rollback.stop:
        plan.state = "abandoned"
        plan.clear_tallies()
        here.emit(Abandoned(plan.id), plan_key(plan.id))
    else:
        begin_rollback(here, plan)


def may_roll_back(here: Here, plan: Plan, *, stop: bool) -> bool:
    """Answer whether q voters could give `plan` up (`stop`: only a frozen one), or take its image back, here."""
    if stop:
        return plan.state == "frozen"
    if plan.state in ("rolling back", "rolled back") or len(plan.stages) > STAGES_KEPT:
        return False
    active = here.state.active_plan(plan.class_id)
    # One plan moves a class at a time; another one that is active must be taken back first.
    return active is None or active is plan


def begin_rollback(here: Here, plan: Plan) -> None:
    """Open the way back for whoever runs the new image; older goes, arms and lates are no-ops from here."""
    if plan.open_stage is not None:
        plan.open_stage.closed_height = here.height
    plan.state, plan.started = "rolling back", True
    plan.generation += 1
    plan.clear_tallies()
    plan.consented, plan.ended = [], {}
    here.state.releases[plan.release].completed = False
    number = len(plan.stages)
    plan.stages.append(
        Stage(
            number=number,
            kind="rollback",
            generation=plan.generation,
            step=plan.step,
            opened_height=here.height,
        )
    )
    here.emit(RollingBack(plan.id, number, plan.generation), plan_key(plan.id))
    judge_rollback(here, plan)


def still_new(here: Here, plan: Plan) -> list[DeviceId]:
    """Return the devices that run the new image, or hold a permit of this plan, and may yet go back."""
    release = here.state.releases[plan.release]
    return [
        device.id
        for device in here.state.devices.values()
        if device.id not in plan.ended
        and (runs(device, release) or (device.permit is not None and device.permit.plan == plan.id))
    ]


def judge_rollback(here: Here, plan: Plan) -> None:
    """End the rollback when every device that ran the new image has ended (W11)."""
    if plan.state == "rolling back" and not still_new(here, plan):
        end_rollback(here, plan, [])


def close_rollback(here: Here, plan: Plan, stage: Stage) -> None:
    """End the rollback at its deadline; who has not answered is a straggler."""
    silent = still_new(here, plan)
    here.emit(
        Deadline(plan.id, stage.number, plan.generation, stage.round, (), ids(silent), ()),
        stage_key(plan.id, stage.number, plan.generation),
    )
    end_rollback(here, plan, silent)


def end_rollback(here: Here, plan: Plan, silent: list[DeviceId]) -> None:
    """End the rollback; the stragglers keep their right to ask for a permit to the old image."""
    plan.state = "rolled back"
    plan.stages[-1].closed_height = here.height
    plan.clear_tallies()
    release = here.state.releases[plan.release]
    devices = here.state.devices
    stragglers = [id for id in plan.ended if id in devices and runs(devices[id], release)]
    here.emit(RolledBack(plan.id, ids([*stragglers, *silent])), plan_key(plan.id))
