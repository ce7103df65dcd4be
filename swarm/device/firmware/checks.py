"""What a device checks by itself before it asks for a chunk, and before it arms (FIRMWARE section 5)."""

from __future__ import annotations

from typing import Final

from swarm.apps.rollout.duties import Task
from swarm.apps.rollout.manifest import Manifest
from swarm.apps.rollout.plan import is_settled, may_follow, needs_met
from swarm.device.firmware.operations import Inspection
from swarm.device.firmware.view import View
from swarm.install.port import InstallPlan, SlotState, SlotStatus

STORE_FORMAT: Final = 1
"""The store's format of this program; a new image must read it, because a rollback must find its votes (W13)."""

PROTOCOL_FIRST: Final = 1
"""The protocol version of every swarm until an `activate` says another; an image that does not speak it is mute."""


def install_plan(manifest: Manifest) -> InstallPlan:
    """Return what a back end is told of a release on the log."""
    return InstallPlan(
        release=manifest.release,
        number=manifest.number,
        version=manifest.version,
        counter=manifest.counter,
        vendor=manifest.vendor,
        device_class=manifest.class_uuid,
        file_bytes=manifest.file_bytes,
        file_digest=manifest.file_hash,
        image_digest=manifest.image_digest,
        chunk_bytes=manifest.chunk_bytes,
        chunk_count=manifest.chunk_count,
        chunk_root=manifest.chunk_root,
    )


def is_held(spare: SlotStatus, digest: bytes) -> bool:
    """Answer whether the other slot holds this image sealed; a failed one may be tried again under a new permit."""
    return spare.digest == digest and spare.state not in (SlotState.EMPTY, SlotState.TRIAL)


def why_not_fetch(view: View, inspection: Inspection, task: Task, class_id: bytes) -> str:
    """Return the reason code why this device does not touch its other slot for `task`, empty when it may.

    The log named the device and counted signatures and approvals; this looks again at everything that the device can
    know better: what it runs, what fits, and that its running image is confirmed and completed.
    """
    release = view.rollout.release(task.release)
    record = view.record
    status = inspection.status
    if release is None or record is None:
        return "unknown-release"
    manifest = release.manifest
    protocol = max(PROTOCOL_FIRST, view.rollout.state.protocol)
    for wrong, reason in (
        (release.state == "revoked" or release.id in status.revoked, "revoked"),
        (not release.is_wanted, "not-approved"),
        (manifest.class_id != class_id, "wrong-class"),
        (not status.settled, "not-settled"),
        (not is_settled(view.rollout.state, record), "not-completed"),
        (manifest.number <= status.running.number, "old-number"),
        (not may_follow(record, release), "wrong-number"),
        (manifest.counter < status.counter, "old-counter"),
        (manifest.file_bytes > status.spare_bytes, "oversized"),
        (not manifest.stores[0] <= STORE_FORMAT <= manifest.stores[1], "store-format"),
        (not manifest.protocols[0] <= protocol <= manifest.protocols[1], "protocol"),
        (0 < manifest.use_before < view.height, "expired"),
        (not needs_met(view.rollout.state, release), "needs"),
    ):
        if wrong:
            return reason
    return ""


def why_not_back(inspection: Inspection, target: bytes, *, spoiled: bytes = b"") -> str:
    """Return the reason code why this device cannot go back to `target`, empty when it can (W11).

    `spoiled` = a release whose seal was found not to hold.
    """
    status = inspection.status
    spare = status.spare
    if not is_held(spare, target) or spare.state is SlotState.FAILED:
        return "no-image"
    if spoiled and spare.release == spoiled:
        return "wrong-digest"
    if spare.counter < status.counter:
        return "old-counter"
    return "revoked" if spare.release in status.revoked else ""
