"""How releases, plans and devices stand, for people: one record of one device's own view, a claim like every status."""

from __future__ import annotations

from typing import Final

import msgspec

from swarm.apps.rollout.plan import ids
from swarm.apps.rollout.risk import at_risk
from swarm.apps.rollout.state import Here
from swarm.primitives.limits import SNAPSHOT_BYTES_MAX
from swarm.wire.codec import Codec


class ReleaseStatus(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One release; `approvals` of the voters in force."""

    id: bytes
    class_id: bytes
    number: int
    version: str
    state: str
    contradicted: bool
    suspended: bool
    completed: bool
    approved_height: int
    approvals: int


class MemberStatus(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One member of a stage: its outcome, and the log position of its permit (0 = none)."""

    device: str
    state: str
    permit: int
    reason: str
    height: int


class StageStatus(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One stage; `closed_height` 0 = open."""

    number: int
    kind: str
    opened_height: int
    closed_height: int
    members: tuple[MemberStatus, ...]
    missed: tuple[str, ...]


class PlanStatus(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One plan; `ended` = in a rollback, who cannot go back and why."""

    id: bytes
    release: bytes
    state: str
    generation: int
    halted_by: str
    hold_back: int
    reserve: int
    stages: tuple[StageStatus, ...]
    missed: tuple[str, ...]
    dropped: tuple[str, ...]
    ended: tuple[tuple[str, str], ...]


class DeviceStatus(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What the log believes of one device; `attested` = it sent an attestation, which others must verify."""

    id: str
    slot: int
    digest: bytes
    number: int
    version: str
    counter: int
    confirmed: bool
    result: str
    reason: str
    height: int
    attested: bool
    permit: int


class Status(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """All of it at one height."""

    height: int
    key_epoch: int
    protocol: int
    releases: tuple[ReleaseStatus, ...]
    plans: tuple[PlanStatus, ...]
    devices: tuple[DeviceStatus, ...]
    at_risk: tuple[str, ...]
    at_risk_limit: int
    frozen_classes: tuple[tuple[bytes, str], ...]


STATUS: Final[Codec[Status]] = Codec(Status, bytes_max=SNAPSHOT_BYTES_MAX)


def status_of(here: Here) -> Status:
    """Return how everything stands at this position."""
    state = here.state
    return Status(
        height=here.height,
        key_epoch=state.keys.epoch,
        protocol=state.protocol,
        releases=_releases(here),
        plans=_plans(here),
        devices=_devices(here),
        at_risk=at_risk(state, here.context.voters),
        at_risk_limit=here.budget.u,
        frozen_classes=tuple((id, entry.frozen_by) for id, entry in state.classes.items() if entry.frozen_by),
    )


def _releases(here: Here) -> tuple[ReleaseStatus, ...]:
    return tuple(
        ReleaseStatus(
            id=release.id,
            class_id=release.manifest.class_id,
            number=release.manifest.number,
            version=release.manifest.version,
            state=release.state,
            contradicted=release.contradicted,
            suspended=release.suspended,
            completed=release.completed,
            approved_height=release.approved_height,
            approvals=here.count(release.approvals),
        )
        for release in here.state.releases.values()
    )


def _plans(here: Here) -> tuple[PlanStatus, ...]:
    return tuple(
        PlanStatus(
            id=plan.id,
            release=plan.release,
            state=plan.state,
            generation=plan.generation,
            halted_by=plan.halted_by,
            hold_back=plan.spec.hold_back or 0,
            reserve=plan.spec.reserve or 0,
            stages=tuple(
                StageStatus(
                    number=stage.number,
                    kind=stage.kind,
                    opened_height=stage.opened_height,
                    closed_height=stage.closed_height,
                    members=tuple(
                        MemberStatus(id, member.state, member.permit, member.reason, member.height)
                        for id, member in stage.members.items()
                    ),
                    missed=tuple(stage.missed),
                )
                for stage in plan.stages
            ),
            missed=ids(plan.missed),
            dropped=ids(plan.dropped),
            ended=tuple(plan.ended.items()),
        )
        for plan in here.state.plans.values()
    )


def _devices(here: Here) -> tuple[DeviceStatus, ...]:
    found = []
    for device in here.state.devices.values():
        release = here.state.release_with(device.class_id, device.digest)
        found.append(
            DeviceStatus(
                id=device.id,
                slot=device.slot,
                digest=device.digest,
                number=device.number,
                version="" if release is None else release.manifest.version,
                counter=device.counter,
                confirmed=device.confirmed,
                result=device.result,
                reason=device.reason,
                height=device.height,
                attested=device.attested,
                permit=0 if device.permit is None else device.permit.id,
            )
        )
    return tuple(found)
