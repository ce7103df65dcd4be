"""What a device says of itself (W4): belief, the end of its permit, acceptance, and failures after the fact."""

from __future__ import annotations

from typing import Final

from swarm.apps.rollout.entries import TAIL, Report
from swarm.apps.rollout.events import Accepted, Denied, Frozen, Ran, plan_key, report_key, verdict_key
from swarm.apps.rollout.gate import end_member, freeze, wait_again
from swarm.apps.rollout.permit import accepts, is_tail_frozen
from swarm.apps.rollout.plan import runs
from swarm.apps.rollout.rollback import judge_rollback
from swarm.apps.rollout.state import Device, Here, Permit, Plan, Stage
from swarm.primitives.ids import DeviceId

ENDING: Final = ("confirmed", "reverted", "never_tried", "declined")
"""Results that end the permit which the report names."""


def apply_report(here: Here, report: Report) -> None:
    """Take a report of the speaker: every one whose number is above its last counts, whatever permit it names."""
    if here.is_operator:
        return
    device = here.state.device(here.origin)
    if not is_news(device, report):
        return
    permit = device.permit
    believe(here, device, report)
    if permit is not None:
        # First: a new incarnation ends it whatever it says, `healthy` included.
        if ends_permit(permit, report):
            end_permit(here, device, permit, report)
        elif is_about(permit, report) and report.result == "healthy":
            judge_health(here, device, permit)
    look_back(here, device)
    for plan in here.state.plans_of(device.class_id):
        if plan.state != "rolling back":
            continue
        release = here.state.releases[plan.release]
        if report.permit == 0 and report.result in ("declined", "revoked_running") and runs(device, release):
            plan.ended[device.id] = report.reason or report.result.replace("_", "-")
        judge_rollback(here, plan)


def is_news(device: Device, report: Report) -> bool:
    """Answer whether a report is of the incarnation in force and above the last one of that device."""
    if report.incarnation != device.incarnation:
        return False
    if not device.reported or device.recovering:
        return True
    return report.serial > (device.incarnation, device.boot, device.step)


def is_about(permit: Permit, report: Report) -> bool:
    """Answer whether `report` names the open permit."""
    return report.permit == permit.id


def ends_permit(permit: Permit, report: Report) -> bool:
    """Answer whether `report` ends the open permit: by name, or because a later incarnation speaks."""
    return permit.incarnation < report.incarnation or (is_about(permit, report) and report.result in ENDING)


def believe(here: Here, device: Device, report: Report) -> None:
    """Set what the log believes the device runs, and say so in an event `ran` that names the one before it."""
    position = here.next_position
    here.emit(
        Ran(device.id, report, device.ran_at),
        report_key(device.id, report.incarnation, report.boot, report.step),
    )
    device.ran_at = position
    device.reported, device.recovering = True, False
    device.boot, device.step = report.boot, report.step
    device.result, device.reason = report.result, report.reason
    device.class_id, device.slot, device.digest = report.class_id, report.slot, report.digest
    device.number, device.counter = report.number, report.counter
    device.confirmed, device.degraded = report.confirmed, report.degraded
    device.attested = bool(report.attestation)
    device.spare, device.spare_digest = report.spare, report.spare_digest
    device.height = here.height


def judge_health(here: Here, device: Device, permit: Permit) -> None:
    """Answer `healthy`: `accepted` if nothing bars it at this position, else `rejected`; given once, it stands."""
    if permit.accepted:
        return
    plan = here.state.plans[permit.plan]
    reason = "image" if device.digest != permit.target else accepts(here, plan, device, permit)
    # Turned down by the freeze alone is no failure of the image; another image than the permitted one is.
    permit.accepted, permit.denied = not reason, bool(reason) and reason != "image"
    key = verdict_key(device.id, permit.id)
    here.emit(Denied(permit.id, device.id, reason) if reason else Accepted(permit.id, device.id), key)


def end_permit(here: Here, device: Device, permit: Permit, report: Report) -> None:
    """Take the permit away; its member is confirmed, failed, or may ask again."""
    device.permit = None
    plan = here.state.plans[permit.plan]
    wiped = permit.incarnation < report.incarnation
    there = device.digest == permit.target and device.confirmed
    if not permit.forward:
        if not there and not wiped and report.result in ("confirmed", "reverted"):
            plan.ended[device.id] = report.reason or "reverted"
        return
    stage = None if permit.stage == TAIL else plan.stages[permit.stage]
    if report.result == "confirmed" or wiped:
        reason = report.reason if permit.accepted else "not-accepted"
        _end_forward(here, plan, stage, device.id, failed=not (there and permit.accepted), reason=reason)
    elif report.result == "reverted" and not permit.denied:
        _end_forward(here, plan, stage, device.id, failed=True, reason=report.reason)
    elif stage is not None:
        wait_again(stage, device.id)


def _end_forward(
    here: Here, plan: Plan, stage: Stage | None, device: DeviceId, *, failed: bool, reason: str
) -> None:
    if stage is not None:
        end_member(here, plan, stage, device, failed=failed, reason=reason)
    elif failed and plan.state == "completed" and not is_tail_frozen(plan):
        plan.tail_failed += 1
        if is_tail_frozen(plan):
            by = f"failed:{device}"
            here.emit(Frozen(plan.id, plan.class_id, plan.generation, by), plan_key(plan.id))


def look_back(here: Here, device: Device) -> None:
    """Fail a device that was confirmed in a running plan and now says that it runs another image."""
    for plan in here.state.plans_of(device.class_id):
        if plan.state not in ("active", "frozen") or runs(device, here.state.releases[plan.release]):
            continue
        for stage in plan.stages:
            member = stage.members.get(device.id)
            if member is not None and member.state == "confirmed":
                end_member(here, plan, stage, device.id, failed=True, reason=device.reason or "fell-back")


def recover_device(here: Here, id: DeviceId, incarnation: int) -> None:
    """Note a recovery record (R12): at risk until the new incarnation reports; older permits wait for that report."""
    device = here.state.device(id)
    if incarnation > device.incarnation:
        device.incarnation, device.recovering = incarnation, True
        device.boot, device.step = 0, 0


def convict_device(here: Here, id: DeviceId) -> None:
    """Note a conviction: at risk as long as it votes; a plan in whose open stage it is stands still (W10)."""
    device = here.state.device(id)
    if device.convicted:
        return
    device.convicted = True
    for plan in here.state.plans.values():
        if plan.open_stage is not None and id in plan.open_stage.members:
            freeze(here, plan, f"convicted:{id}")
