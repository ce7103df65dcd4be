"""From a plan to its next stage: who may be named, how many, in which order (W1, W8, W9, W13)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from swarm.apps.rollout.events import StageKind
from swarm.apps.rollout.spec import Kind, Step
from swarm.apps.rollout.state import Device, Here, Plan, Release, State
from swarm.crypto.digest import sha256
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import STAGE_MEMBERS_MAX, STAGES_KEPT

REST: Final = (Step("voters", 0, 1000), Step("observers", 0, 1000))
"""What follows the steps of every plan: whoever is left."""

FIRST_OBSERVERS_PERCENT: Final = 5
"""Share of the observers that a stage names before one honest voter is confirmed for sure (W8)."""


class Draft(NamedTuple):
    """What the next stage would be; `size` members are drawn when it opens."""

    kind: StageKind
    step: int
    taken: int
    """Devices that earlier stages of that step have taken."""
    size: int
    blocked: bool = False
    """No go opens it: too few voters are confirmed to end the hold-back, or no more stages fit. Its deadline runs."""


def runs(device: Device, release: Release) -> bool:
    """Answer whether the log believes that `device` runs the image of `release`."""
    return (
        device.reported
        and device.class_id == release.manifest.class_id
        and device.digest == release.manifest.image_digest
    )


def holds(device: Device, release: Release) -> bool:
    """Answer whether the image of `release` is in one of the two slots of `device`, as it last said."""
    held = (device.digest, device.spare_digest)
    return device.class_id == release.manifest.class_id and release.manifest.image_digest in held


def is_settled(state: State, device: Device) -> bool:
    """Answer whether a device may touch its other slot: confirmed, and no rollback may want the image there (W13).

    Every release with the image that runs is asked: a proposal with the same image must not hide a plan.
    """
    if not device.reported or not device.confirmed or device.recovering or device.permit is not None:
        return False
    for plan in state.plans.values():
        running = state.releases[plan.release]
        if not plan.started or plan.state == "rolled back" or not runs(device, running):
            continue
        if not running.completed and running.state != "revoked":
            return False
    return True


def may_follow(device: Device, release: Release) -> bool:
    """Answer whether `release` is a step up for what the device says it runs."""
    manifest = release.manifest
    return (
        device.class_id == manifest.class_id
        and manifest.oldest <= device.number < manifest.number
        and device.counter <= manifest.counter
    )


def needs_met(state: State, release: Release) -> bool:
    """Answer whether the newest completed release of every class in `needs` is new enough."""
    for need in release.manifest.needs:
        newest = state.newest(need.vendor + need.class_uuid, completed=True)
        if newest is None or newest.manifest.number < need.number:
            return False
    return True


def is_candidate(state: State, plan: Plan, release: Release, device: Device) -> bool:
    """Answer whether a stage of `plan` may name `device` (W1)."""
    return (
        may_follow(device, release)
        and is_settled(state, device)
        and device.id not in plan.missed
        and device.id not in plan.dropped
    )


def candidates(here: Here, plan: Plan, kind: Kind) -> list[DeviceId]:
    """Return who of one kind a stage of `plan` may name, in the order of their ids."""
    release = here.state.releases[plan.release]
    members = here.context.voters if kind == "voters" else here.context.observers
    devices = here.state.devices
    return [id for id in members if id in devices and is_candidate(here.state, plan, release, devices[id])]


def draw(plan: Plan, names: list[DeviceId], size: int) -> list[DeviceId]:
    """Return `size` of `names` in the order that the plan's seed gives.

    A leader can bias the seed by what it puts into its block, so no rule rests on who is drawn.
    """
    ordered = sorted(names, key=lambda name: sha256(plan.seed, plan.id, name.encode()))
    return ordered[:size]


def _size_of(here: Here, plan: Plan, step: Step) -> int:
    if step.count:
        return step.count
    release = here.state.releases[plan.release]
    members = here.context.voters if step.kind == "voters" else here.context.observers
    devices = here.state.devices
    total = sum(id in devices and devices[id].class_id == release.manifest.class_id for id in members)
    return (total * step.permille + 999) // 1000


def moved(here: Here, plan: Plan) -> list[DeviceId]:
    """Return the voters that run the new image or may boot it at any moment: they hold nothing back."""
    release = here.state.releases[plan.release]
    found = []
    for id in here.context.voters:
        device = here.state.devices.get(id)
        if device is None:
            continue
        permit = device.permit
        if runs(device, release) or (
            permit is not None and permit.forward and permit.target == release.manifest.image_digest
        ):
            found.append(id)
    return found


def confirmed_voters(here: Here, plan: Plan) -> int:
    """Return how many voters are confirmed with the new image."""
    release = here.state.releases[plan.release]
    devices = here.state.devices
    return sum(
        id in devices and runs(devices[id], release) and devices[id].confirmed for id in here.context.voters
    )


def draft_stage(here: Here, plan: Plan) -> Draft | None:
    """Return what the next stage of `plan` is, or None while only a consent can go on (W9).

    A plan whose table of stages is full waits for a go that cannot come, and freezes at its deadline.
    """
    if len(plan.stages) >= STAGES_KEPT:
        return Draft("end", plan.step, plan.taken, 0, blocked=True)
    steps = (*plan.spec.steps, *REST)
    free = here.budget.u - (plan.spec.reserve or 0)
    waits_for_consent = False
    taken = plan.taken
    for index in range(min(plan.step, len(plan.spec.steps)), len(steps)):
        step = steps[index]
        names = candidates(here, plan, step.kind)
        # The rest is whoever is left, also who became a candidate after its kind was done.
        rest = index >= len(plan.spec.steps)
        size = len(names) if rest else min(_size_of(here, plan, step) - taken, len(names))
        taken, before = 0, taken
        if size <= 0:
            continue
        if step.kind == "observers":
            return Draft("observers", index, before, min(size, _observers_at_once(here, plan)))
        room = here.budget.n - (plan.spec.hold_back or 0) - len(moved(here, plan))
        if not plan.released and room <= 0:
            enough = confirmed_voters(here, plan) >= here.budget.n - (plan.spec.hold_back or 0)
            return Draft("release", index, before, 0, blocked=not enough)
        if free <= 0:
            waits_for_consent = True
            continue
        return Draft("voters", index, before, min(size, free, size if plan.released else room))
    return None if waits_for_consent else Draft("end", len(steps), 0, 0)


def _observers_at_once(here: Here, plan: Plan) -> int:
    # One of r+1 confirmed voters is honest, whoever was drawn; before that a lying canary may have said all is well.
    if confirmed_voters(here, plan) > here.budget.r:
        return STAGE_MEMBERS_MAX
    release = here.state.releases[plan.release]
    devices = here.state.devices
    total = sum(
        id in devices and devices[id].class_id == release.manifest.class_id for id in here.context.observers
    )
    return min(max(1, total * FIRST_OBSERVERS_PERCENT // 100), STAGE_MEMBERS_MAX)


def has_pause(plan: Plan, draft: Draft) -> bool:
    """Answer whether an operator must ask for this stage: a step before it, since the last one, was to pause."""
    done = plan.step if plan.stages else 0
    return any(done <= pause < draft.step for pause in plan.spec.pause_after)


def ids(names: Collection[DeviceId]) -> tuple[DeviceId, ...]:
    """Return the first names that fit an event."""
    return tuple(names)[:STAGE_MEMBERS_MAX]
