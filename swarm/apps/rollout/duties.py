"""What a device finds on the log to do: its own update, and as a voter its votes and timers.

Read-only answers at the applied height. Whether to follow a wish, whether a soak has run and who was heard, is the
device's own business (W5, W6); what the log allows is decided again where its entry lands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm.apps.rollout.entries import TAIL, Arm
from swarm.apps.rollout.events import Refusal, StageKind
from swarm.apps.rollout.gate import waits_for_go
from swarm.apps.rollout.permit import is_forward, is_way_back, refusal_of, tail_release, way_back
from swarm.apps.rollout.plan import has_pause, runs
from swarm.apps.rollout.releases import may_approve, may_consent
from swarm.apps.rollout.rollback import may_roll_back
from swarm.apps.rollout.state import Device, Here, Permit, Plan
from swarm.primitives.ids import DeviceId

Way = Literal["stage", "tail", "back"]
Asked = Literal[
    "approve", "revoke", "halt", "halt-class", "rollback", "abandon", "consent", "keys", "keys-emergency"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The image that this device is asked to run, and the `arm` that asks for its permit.

    `refusal` = what the arm would get now: send it when it is None. `back`: the image is in the other slot already.
    """

    way: Way
    plan: bytes
    release: bytes
    arm: Arm
    refusal: Refusal | None
    wants_ready: bool
    """The stage has a barrier, and this device has not yet said that it holds the sealed image."""
    trial_ms: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoDuty:
    """A stage that waits for this voter's go. `again`: it voted, and only the draw was not known yet."""

    plan: bytes
    stage: int
    generation: int
    kind: StageKind
    soak_ms: int
    """Wait so long since the stage before was first seen closed good."""
    listen_to: tuple[DeviceId, ...]
    """Confirmed devices of which something valid must be heard after the soak (W6)."""
    paused: bool
    """No operator has asked for this stage yet, and the plan wants that."""
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDuty:
    """What this voter must call late when it has seen it for `deadline_ms`: one timer per (plan ... round)."""

    plan: bytes
    stage: int
    generation: int
    round: int
    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What operators, or other voters where `by` names them, asked for and this voter has not logged itself."""

    asked: Asked
    subject: bytes
    """Release, plan, class or rotation."""
    device: DeviceId
    """Of a consent; else empty."""
    by: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeWish:
    """What operators asked for and this voter has not logged itself: let a frozen plan go on without some devices."""

    plan: bytes
    generation: int
    without: tuple[DeviceId, ...]
    by: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """All of it for one device."""

    task: Task | None
    permit: Permit | None
    gos: tuple[GoDuty, ...] = ()
    lates: tuple[LateDuty, ...] = ()
    wishes: tuple[Wish, ...] = ()
    resumes: tuple[ResumeWish, ...] = ()


def duties_of(here: Here, id: DeviceId) -> Duties:
    """Return what `id` has to do at this position."""
    device = here.state.devices.get(id)
    task = None if device is None else _task_of(here, device)
    permit = None if device is None else device.permit
    if id not in here.voters:
        return Duties(task=task, permit=permit)
    plans = tuple(here.state.plans.values())
    gos = tuple(go for plan in plans if (go := _go_of(here, plan, id)) is not None)
    lates = tuple(late for plan in plans if (late := _late_of(here, plan, id)) is not None)
    return Duties(
        task=task,
        permit=permit,
        gos=gos,
        lates=lates,
        wishes=tuple(_wishes(here, id)),
        resumes=tuple(_resume_wishes(plans, id)),
    )


# ------------------------------------------------------------------------------------------ the device's own update


def _task_of(here: Here, device: Device) -> Task | None:
    state = here.state
    plans = state.plans_of(device.class_id)
    for plan in plans:
        release = state.releases[plan.release]
        stage = plan.open_stage
        member = None if stage is None else stage.members.get(device.id)
        if stage is not None and member is not None and member.state in ("waiting", "armed"):
            return _task(here, plan, device, stage.number, release.manifest.image_digest, "stage")
    for plan in reversed(plans):
        if is_way_back(state, plan) and runs(device, state.releases[plan.release]):
            target = way_back(state, device, state.releases[plan.release])
            if target:
                return _task(here, plan, device, len(plan.stages) - 1, target, "back")
    newest = tail_release(state, device)
    if newest is None:
        return None
    for plan in reversed(plans):
        if plan.release == newest.id and plan.state == "completed":
            if device.id in plan.dropped:
                return None
            return _task(here, plan, device, TAIL, newest.manifest.image_digest, "tail")
    return None


def _task(here: Here, plan: Plan, device: Device, stage: int, target: bytes, way: Way) -> Task:
    arm = Arm(plan.id, stage, plan.generation, device.incarnation, target)
    barrier = is_forward(plan, stage) and stage != TAIL and plan.spec.barrier
    return Task(
        way=way,
        plan=plan.id,
        release=plan.release,
        arm=arm,
        refusal=refusal_of(here, plan, device, arm),
        wants_ready=barrier and device.id not in plan.stages[stage].ready,
        trial_ms=plan.spec.trial_ms,
        attempts=plan.spec.attempts,
    )


# ------------------------------------------------------------------------------------------ votes and timers


def _go_of(here: Here, plan: Plan, id: DeviceId) -> GoDuty | None:
    draft = waits_for_go(here, plan)
    if draft is None or draft.blocked:
        return None
    again = id in plan.gos
    # Where all goes of a quorum stand in the block of the first, there is no draw before the next block: go again.
    if again and here.count(plan.gos) < here.quorum:
        return None
    present = (*here.context.voters, *here.context.observers)
    confirmed = [
        member for stage in plan.stages for member in stage.with_state("confirmed") if member in present
    ]
    return GoDuty(
        plan=plan.id,
        stage=len(plan.stages),
        generation=plan.generation,
        kind=draft.kind,
        soak_ms=plan.spec.soak_ms if plan.stages else 0,
        listen_to=tuple(sorted(confirmed)),
        paused=has_pause(plan, draft) and not plan.asked_go,
        again=again,
    )


def _late_of(here: Here, plan: Plan, id: DeviceId) -> LateDuty | None:
    stage = plan.open_stage
    if id in plan.lates:
        return None
    if stage is None:
        if waits_for_go(here, plan) is None:
            return None
        number, round_ = len(plan.stages), 0
    elif plan.state in ("active", "rolling back"):
        number, round_ = stage.number, stage.round
    else:
        return None
    # A wait for a go begins with the soak, so its deadline comes after it.
    wait_ms = plan.spec.soak_ms if stage is None else 0
    return LateDuty(
        plan=plan.id,
        stage=number,
        generation=plan.generation,
        round=round_,
        deadline_ms=plan.spec.deadline_ms + wait_ms,
    )


def _wishes(here: Here, id: DeviceId) -> list[Wish]:
    # Only what could have an effect here: a voter that follows a wish in vain would follow it for ever.
    found: list[Wish] = []

    def wish(
        asked: Asked, subject: bytes, by: list[DeviceId], done: list[DeviceId], device: str = ""
    ) -> None:
        if by and id not in done:
            found.append(Wish(asked=asked, subject=subject, device=device, by=tuple(by)))

    for release in here.state.releases.values():
        # Without an operator too: `approve: auto` needs nobody's wish.
        if may_approve(here.state, release) and id not in release.approvals:
            by = tuple(release.asked_approve)
            found.append(Wish(asked="approve", subject=release.id, device="", by=by))
        if release.state not in ("revoked", "voided"):
            wish("revoke", release.id, release.asked_revoke, release.revocations)
    for class_id, of_class in here.state.classes.items():
        if not of_class.frozen_by:
            wish("halt-class", class_id, of_class.asked_halt, of_class.halts)
    for plan in here.state.plans.values():
        if plan.state in ("planned", "active"):
            wish("halt", plan.id, plan.asked_halt, plan.halts)
        for stop in (False, True):
            asked = [operator for operator, wanted in plan.asked_rollback.items() if wanted == stop]
            done = [voter for voter, wanted in plan.rollbacks.items() if wanted == stop]
            if may_roll_back(here, plan, stop=stop):
                wish("abandon" if stop else "rollback", plan.id, asked, done)
        for device in sorted(set(plan.asked_consent.values())):
            asked = [operator for operator, named in plan.asked_consent.items() if named == device]
            if device != id and may_consent(here, plan, device):
                wish("consent", plan.id, asked, plan.consents.get(device, []), device)
    for rotation_id, rotation in here.state.rotations.items():
        backers = [member for member, wanted in here.state.backing.items() if wanted == rotation_id]
        wish("keys-emergency" if rotation.emergency else "keys", rotation_id, backers, backers)
    return found


def _resume_wishes(plans: tuple[Plan, ...], id: DeviceId) -> list[ResumeWish]:
    found = []
    for plan in plans:
        # Wishes die with the generation, so those that are there are about this one.
        for without in sorted(set(plan.asked_resume.values())):
            if plan.resumes.get(id) != without:
                by = tuple(who for who, wanted in plan.asked_resume.items() if wanted == without)
                found.append(ResumeWish(plan=plan.id, generation=plan.generation, without=without, by=by))
    return found
