"""Releases and keys on the log: proposed, approved, revoked, contradicted; plans made of them (FIRMWARE 2, 3, W12)."""

from __future__ import annotations

from swarm.apps.application import Rejected
from swarm.apps.rollout.entries import Activate, Approve, ChangeKeys, Consent, MakePlan, Propose, Revoke
from swarm.apps.rollout.events import (
    Activated,
    Approved,
    Consented,
    Contradiction,
    Frozen,
    KeysChanged,
    Planned,
    Proposed,
    Revoked,
    keys_key,
    plan_key,
    protocol_key,
    release_key,
)
from swarm.apps.rollout.gate import freeze, freeze_class, open_stage, waits_for_go
from swarm.apps.rollout.keys import KeySet, Rotation, judge_rotation, revocation_signers, rotation_id
from swarm.apps.rollout.manifest import decode_manifest, release_id, release_signers
from swarm.apps.rollout.plan import Draft, candidates, holds, moved, runs
from swarm.apps.rollout.risk import at_risk
from swarm.apps.rollout.rollback import begin_rollback, may_roll_back
from swarm.apps.rollout.spec import settle_spec
from swarm.apps.rollout.state import Here, Plan, Release, State, note
from swarm.primitives.errors import DecodeError
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import PLANS_KEPT, PLANS_WAITING_PER_ORIGIN_MAX, RELEASES_KEPT, STAGES_KEPT

# ------------------------------------------------------------------------------------------ releases


def apply_propose(here: Here, propose: Propose) -> None:
    """Take a release that k keys signed; a second one of its class and number freezes the class."""
    try:
        manifest = decode_manifest(propose.manifest, here.swarm)
    except DecodeError as error:
        raise Rejected(f"manifest: {error.reason}") from None
    state = here.state
    id = release_id(propose.manifest)
    known = state.releases.get(id)
    if known is not None and known.state != "voided":
        return
    newest = state.newest(manifest.class_id, completed=False)
    if newest is not None and manifest.number < newest.manifest.number:
        return
    if release_signers(state.keys.keys, id, propose.signatures) < state.keys.k or not _make_room(state):
        return
    twins = [
        other
        for other in state.releases.values()
        if other.manifest.class_id == manifest.class_id
        and other.manifest.number == manifest.number
        and other.id != id
        and other.state != "voided"
    ]
    state.releases[id] = Release(
        id=id, manifest=manifest, signatures=propose.signatures, contradicted=bool(twins)
    )
    here.emit(Proposed(id, manifest.class_id, manifest.number, manifest.version), release_key(id))
    if twins:
        for twin in twins:
            twin.contradicted = True
        here.emit(
            Contradiction(manifest.class_id, manifest.number, twins[0].id, id), release_key(twins[0].id)
        )
        freeze_class(here, manifest.class_id, "contradiction")


def _make_room(state: State) -> bool:
    if len(state.releases) < RELEASES_KEPT:
        return True
    for id, release in state.releases.items():
        if any(plan.release == id for plan in state.plans.values()):
            continue
        newest = state.newest(release.manifest.class_id, completed=False)
        newer = newest is not None and release.manifest.number < newest.manifest.number
        # A revocation stays known as long as somebody could be led back to the image.
        held = any(holds(device, release) for device in state.devices.values())
        if release.state == "voided" or (newer and not held and not release.completed):
            del state.releases[id]
            return True
    return False


def apply_approve(here: Here, approve: Approve) -> None:
    """Count an approval over the voters in force; an operator's is a wish."""
    release = here.state.releases.get(approve.release)
    if release is None or not may_approve(here.state, release):
        return
    if here.is_operator:
        note(release.asked_approve, here.origin)
    if here.is_voter and here.vote(release.approvals) >= here.quorum:
        release.state, release.approved_height = "approved", here.height
        here.emit(Approved(release.id), release_key(release.id))


def may_approve(state: State, release: Release) -> bool:
    """Answer whether an approval of `release` could have an effect: it waits for one, and is above what is approved."""
    newest = state.newest(release.manifest.class_id, completed=False)
    above = newest is None or release.manifest.number > newest.manifest.number
    barred = state.is_image_revoked(release.manifest.class_id, release.manifest.image_digest)
    return release.state == "proposed" and not release.contradicted and above and not barred


def apply_revoke(here: Here, revoke: Revoke) -> None:
    """Count a revocation; q of them revoke and take the image back. k release signatures alone only stop it (W12)."""
    release = here.state.releases.get(revoke.release)
    if release is None or release.state in ("revoked", "voided"):
        return
    keys = here.state.keys
    if here.is_operator:
        note(release.asked_revoke, here.origin)
    enough = here.is_voter and here.vote(release.revocations) >= here.quorum
    if not enough:
        if not release.suspended and revocation_signers(keys, release.id, revoke.signatures) >= keys.k > 0:
            release.suspended = True
            for plan in _plans_with(here, release):
                if plan.state == "completed":
                    here.emit(Frozen(plan.id, plan.class_id, plan.generation, "revoked"), plan_key(plan.id))
                freeze(here, plan, "revoked")
        return
    release.state, release.suspended = "revoked", False
    here.emit(Revoked(release.id, release.manifest.image_digest, revoke.reason), release_key(release.id))
    for plan in reversed(_plans_with(here, release)):
        if plan.started and may_roll_back(here, plan, stop=False):
            begin_rollback(here, plan)
        else:
            freeze(here, plan, "revoked")


def _plans_with(here: Here, release: Release) -> list[Plan]:
    return [plan for plan in here.state.plans.values() if plan.release == release.id]


# ------------------------------------------------------------------------------------------ keys


def apply_change_keys(here: Here, change: ChangeKeys) -> None:
    """Count who wants other release keys; in force when q voters logged the same change, whoever signed it."""
    state = here.state
    new = KeySet(state.keys.epoch + 1, change.k, change.keys)
    id = rotation_id(here.swarm, new)
    rotation = judge_rotation(here.swarm, state.keys, new, change.signatures)
    if rotation is None:
        return
    known = state.rotations.get(id)
    if known is None or (known.emergency and not rotation.emergency):
        state.rotations[id] = rotation
    state.backing[here.origin] = id
    wanted = frozenset(state.backing.values())
    state.rotations = {other: kept for other, kept in state.rotations.items() if other in wanted}
    backers = [member for member, wish in state.backing.items() if wish == id]
    if here.count(backers) >= here.quorum:
        _change_keys(here, state.rotations[id])


def _change_keys(here: Here, rotation: Rotation) -> None:
    state = here.state
    state.keys, state.rotations, state.backing = rotation.keys, {}, {}
    voided = []
    for release in state.releases.values():
        signed = release_signers(state.keys.keys, release.id, release.signatures) >= state.keys.k
        if release.state == "proposed" and not signed:
            release.state = "voided"
            voided.append(release.id)
    for class_id, of_class in list(state.classes.items()):
        if of_class.frozen_by == "contradiction":
            del state.classes[class_id]
            for release in state.releases.values():
                # An approval stands until revoked; of two that the new keys signed as well, nobody is cleared.
                if release.manifest.class_id == class_id and release.state == "approved":
                    release.contradicted = False
    here.emit(
        KeysChanged(state.keys, rotation.emergency, tuple(voided)),
        keys_key(state.keys.epoch),
    )


# ------------------------------------------------------------------------------------------ plans


def apply_plan(here: Here, make: MakePlan) -> None:
    """Let a plan wait for its first stage; raises `Rejected` for one that W1 refuses."""
    release = here.state.releases.get(make.release)
    id = here.context.submission
    if release is None or release.state in ("revoked", "voided") or release.completed:
        return
    spec = settle_spec(make.spec, here.budget)
    if id in here.state.plans or not _make_room_for_plan(here):
        return
    here.state.plans[id] = Plan(
        id=id,
        release=release.id,
        class_id=release.manifest.class_id,
        spec=spec,
        origin=here.origin,
        height=here.height,
    )
    here.emit(Planned(id, release.id), plan_key(id))


def _make_room_for_plan(here: Here) -> bool:
    plans = here.state.plans
    own = [plan for plan in plans.values() if plan.origin == here.origin and not plan.started]
    waiting = [plan for plan in own if plan.state != "abandoned"]
    if len(waiting) >= PLANS_WAITING_PER_ORIGIN_MAX:
        untouched = [plan for plan in waiting if not plan.first_go]
        if not untouched:
            return False
        del plans[untouched[0].id]
    if len(plans) < PLANS_KEPT:
        return True
    for plan in plans.values():
        if _is_forgettable(here, plan):
            del plans[plan.id]
            return True
    return False


def _is_forgettable(here: Here, plan: Plan) -> bool:
    if plan.state not in ("rolled back", "completed", "abandoned"):
        return False
    devices = here.state.devices.values()
    if any(device.permit is not None and device.permit.plan == plan.id for device in devices):
        return False
    release = here.state.releases[plan.release]
    if plan.state == "completed":
        newest = here.state.newest(plan.class_id, completed=True)
        return newest is not None and newest is not release
    return not any(runs(device, release) for device in devices)


# ------------------------------------------------------------------------------------------ consent and activation


def apply_consent(here: Here, consent: Consent) -> None:
    """Let one voter reboot where nobody may fail (W9): an operator asks, then q-1 others agree, nobody else at risk."""
    plan = here.state.plans.get(consent.plan)
    if plan is None or not may_consent(here, plan, consent.device):
        return
    if here.is_operator:
        plan.asked_consent[here.origin] = consent.device
    if not here.is_voter or here.origin == consent.device:
        return
    if consent.device not in plan.asked_consent.values():
        return
    agreed = plan.consents.setdefault(consent.device, [])
    if here.vote(agreed) < here.quorum - 1:
        return
    plan.consents, plan.asked_consent = {}, {}
    if plan.state not in ("planned", "active"):
        plan.consented = [consent.device]
    here.emit(Consented(plan.id, consent.device))
    if plan.state in ("planned", "active"):
        draft = Draft("consent", plan.step, plan.taken, 1)
        open_stage(here, plan, draft, only=consent.device)


def may_consent(here: Here, plan: Plan, device: DeviceId) -> bool:
    """Answer whether a consent for `device` could have an effect here."""
    if here.budget.u - (plan.spec.reserve or 0) > 0 or device not in here.voters:
        return False
    if any(id != device for id in at_risk(here.state, here.context.voters)):
        return False
    if plan.state in ("rolling back", "rolled back", "completed"):
        return True
    # Between two stages, and where a go could open none for it: `waits_for_go` says None to that, or observers first.
    if plan.open_stage is not None or device not in candidates(here, plan, "voters"):
        return False
    if len(plan.stages) >= STAGES_KEPT:
        return False
    draft = waits_for_go(here, plan)
    if draft is None and not _only_consent_left(here, plan):
        return False
    held = here.budget.n - (plan.spec.hold_back or 0) - len(moved(here, plan))
    return plan.released or held > 0


def _only_consent_left(here: Here, plan: Plan) -> bool:
    release = here.state.releases[plan.release]
    if plan.state not in ("planned", "active") or here.state.is_class_frozen(plan.class_id):
        return False
    active = here.state.active_plan(plan.class_id)
    return release.is_wanted and (active is None or active is plan)


def apply_activate(here: Here, activate: Activate) -> None:
    """Count who wants another protocol version; q and nearly every voter's image must speak it (section 3)."""
    state = here.state
    if not here.is_voter or activate.protocol <= state.protocol:
        return
    state.activations[here.origin] = activate.protocol
    same = [voter for voter, version in state.activations.items() if version == activate.protocol]
    deaf = [id for id in here.context.voters if not _speaks(state, id, activate.protocol)]
    spare = here.budget.u - len(at_risk(state, here.context.voters))
    if here.count(same) >= here.quorum and len(deaf) <= spare:
        state.protocol, state.activations = activate.protocol, {}
        here.emit(Activated(state.protocol), protocol_key(state.protocol))


def _speaks(state: State, id: DeviceId, protocol: int) -> bool:
    device = state.devices.get(id)
    return device is not None and any(
        release.completed
        and runs(device, release)
        and release.manifest.protocols[0] <= protocol <= release.manifest.protocols[1]
        for release in state.releases.values()
    )
