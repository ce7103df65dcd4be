"""The permit (W3, W9, W11, W14): the one question whether a device may boot another image, asked at one position."""

from __future__ import annotations

from swarm.apps.rollout.entries import TAIL, Arm
from swarm.apps.rollout.events import Permitted, Refusal, Refused, permit_key
from swarm.apps.rollout.plan import ids, is_settled, may_follow, needs_met, runs
from swarm.apps.rollout.risk import at_risk, leaves_room
from swarm.apps.rollout.state import Device, Here, Permit, Plan, Release, State
from swarm.primitives.ids import ZERO_DIGEST


def apply_arm(here: Here, arm: Arm) -> None:
    """Answer an `arm` of the speaker: `permit`, `refused`, or nothing when it is about another time.

    Unknown plans, ended generations and stages that are not the last one are no-ops: such an entry was late.
    """
    plan = here.state.plans.get(arm.plan)
    if plan is None or arm.generation != plan.generation or not _is_current(plan, arm.stage):
        return
    device = here.state.device(here.origin)
    refusal = refusal_of(here, plan, device, arm)
    key = permit_key(plan.id, arm.stage, arm.generation, device.id, arm.incarnation)
    if refusal is not None:
        here.emit(Refused(plan.id, arm.stage, arm.generation, device.id, arm.incarnation, refusal), key)
        return
    others = tuple(id for id in at_risk(here.state, here.context.voters) if id != device.id)
    forward = is_forward(plan, arm.stage)
    device.permit = Permit(
        id=here.next_position,
        plan=plan.id,
        stage=arm.stage,
        generation=arm.generation,
        incarnation=arm.incarnation,
        target=arm.target,
        forward=forward,
    )
    if not forward:
        plan.ended.pop(device.id, None)
    elif arm.stage != TAIL:
        member = plan.stages[arm.stage].members[device.id]
        member.state, member.permit, member.height = "armed", device.permit.id, here.height
    here.emit(
        Permitted(plan.id, arm.stage, arm.generation, device.id, arm.incarnation, arm.target, ids(others)),
        key,
    )


def is_forward(plan: Plan, stage: int) -> bool:
    """Answer whether a permit of this stage leads to the plan's image; in a rollback it leads back."""
    return stage == TAIL or plan.stages[stage].kind != "rollback"


def _is_current(plan: Plan, stage: int) -> bool:
    return stage == TAIL or stage == len(plan.stages) - 1


def refusal_of(here: Here, plan: Plan, device: Device, arm: Arm) -> Refusal | None:
    """Return why `device` gets no permit by `arm` here, or None: it gets one."""
    release = here.state.releases[plan.release]
    if arm.incarnation != device.incarnation:
        return "other-incarnation"
    if device.permit is not None:
        return "permit-open"
    if not is_forward(plan, arm.stage):
        refusal = _refusal_back(here, plan, device, release, arm.target)
    elif arm.stage == TAIL:
        refusal = _refusal_tail(here.state, plan, device, release)
    else:
        refusal = _refusal_stage(here.state, plan, device, arm.stage)
    if refusal is None and is_forward(plan, arm.stage):
        refusal = _refusal_forward(here, device, release, arm.target)
    if refusal is None and not leaves_room(here, plan, device.id):
        return "at-risk"
    return refusal


def _refusal_stage(state: State, plan: Plan, device: Device, number: int) -> Refusal | None:
    stage = plan.stages[number]
    if is_frozen(state, plan):
        return "frozen"
    if plan.state != "active" or not stage.is_open:
        return "not-open"
    member = stage.members.get(device.id)
    if member is None or member.state != "waiting":
        return "not-a-member"
    if plan.spec.barrier and any(id not in stage.ready for id in stage.members):
        return "barrier"
    return None


def _refusal_tail(state: State, plan: Plan, device: Device, release: Release) -> Refusal | None:
    if plan.state != "completed" or tail_release(state, device) is not release:
        return "not-open"
    if device.id in plan.dropped:
        return "not-a-member"
    if is_frozen(state, plan) or is_tail_frozen(plan):
        return "frozen"
    return None


def _refusal_forward(here: Here, device: Device, release: Release, target: bytes) -> Refusal | None:
    manifest = release.manifest
    if here.state.is_image_revoked(manifest.class_id, manifest.image_digest):
        return "revoked"
    if release.contradicted or release.suspended:
        return "frozen"
    if release.state != "approved":
        return "not-approved"
    if manifest.use_before and here.height > manifest.use_before:
        return "expired"
    if not is_settled(here.state, device) or not may_follow(device, release):
        return "unsettled"
    if target != manifest.image_digest:
        return "target"
    return None if needs_met(here.state, release) else "needs"


def _refusal_back(here: Here, plan: Plan, device: Device, release: Release, target: bytes) -> Refusal | None:
    """W11: neither a freeze nor a revocation of the new image bars the way back."""
    if not is_way_back(here.state, plan) or not runs(device, release):
        return "not-open"
    if not device.confirmed or device.recovering:
        return "unsettled"
    return None if may_go_back(here.state, device, release, target) else "target"


def is_way_back(state: State, plan: Plan) -> bool:
    """Answer whether `plan` takes its image back; not any more once another plan of the same release has begun."""
    if plan.state not in ("rolling back", "rolled back"):
        return False
    others = [other for other in state.plans.values() if other.release == plan.release and other.started]
    return all(other.state in ("rolling back", "rolled back") for other in others)


def may_go_back(state: State, device: Device, release: Release, target: bytes) -> bool:
    """Answer whether `target` is the older image in the device's other slot, as it last said, and may run there.

    Only what a quorum has judged counts: a mere proposal with the same image, which k stolen keys can make, must not
    bar the way back. An image of which no release was ever approved is what the device came with.
    """
    if device.spare != "sealed" or target != device.spare_digest:
        return False
    if target in (ZERO_DIGEST, release.manifest.image_digest):
        return False
    judged = [
        known
        for known in state.releases.values()
        if known.manifest.class_id == device.class_id
        and known.manifest.image_digest == target
        and known.state == "approved"
    ]
    if state.is_image_revoked(device.class_id, target):
        return False
    return not judged or any(
        known.manifest.number < release.manifest.number and known.manifest.counter >= device.counter
        for known in judged
    )


def way_back(state: State, device: Device, release: Release) -> bytes:
    """Return the digest to which the device may go back from `release`, or b"": there is none."""
    return device.spare_digest if may_go_back(state, device, release, device.spare_digest) else b""


def is_frozen(state: State, plan: Plan) -> bool:
    """Answer whether a plan stands still, by itself or with its class."""
    return plan.state == "frozen" or state.is_class_frozen(plan.class_id)


def is_tail_frozen(plan: Plan) -> bool:
    """Answer whether latecomers wait: more of them failed than the plan retries (W14)."""
    return plan.tail_failed > plan.spec.retries


def tail_release(state: State, device: Device) -> Release | None:
    """Return the newest completed release that the device may follow: never one in between, except as `oldest` demands."""
    best = None
    for release in state.releases.values():
        if release.completed and release.state == "approved" and may_follow(device, release):
            if best is None or release.manifest.number > best.manifest.number:
                best = release
    return best


def accepts(here: Here, plan: Plan, device: Device, permit: Permit) -> str:
    """Return "" when a healthy device may confirm here (W4), else why it must revert."""
    if not permit.forward:
        if plan.state not in ("rolling back", "rolled back"):
            return "not-open"
        return "revoked" if here.state.is_image_revoked(device.class_id, permit.target) else ""
    release = here.state.releases[plan.release]
    if release.state == "revoked":
        return "revoked"
    if is_frozen(here.state, plan) or not release.is_wanted:
        return "frozen"
    if permit.stage == TAIL:
        if plan.state != "completed":
            return "not-open"
        return "frozen" if is_tail_frozen(plan) else ""
    if plan.state != "active":
        return "not-open"
    member = plan.stages[permit.stage].members.get(device.id)
    return "" if member is not None and member.state == "armed" else "dropped"
