"""What a device has to say of itself on the log, and when it has said it (FIRMWARE sections 4 and 6, W4).

Every question is answered by comparing the media with the log: a report whose effect the log does not show is due
again, after a crash as after a loss, and one whose effect is there is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from swarm.apps.rollout.entries import Report, Result, Spare
from swarm.apps.rollout.permit import way_back
from swarm.apps.rollout.state import Device as Record
from swarm.apps.rollout.state import Permit, Plan, Release
from swarm.device.firmware.checks import why_not_back
from swarm.device.firmware.operations import Inspection
from swarm.device.firmware.view import View
from swarm.install.port import BootNonce, Outcome, SlotState, SlotStatus
from swarm.primitives.ids import ZERO_DIGEST

_SPARE: Final[dict[SlotState, Spare]] = {
    SlotState.EMPTY: "empty",
    SlotState.FETCHING: "partial",
    SlotState.FAILED: "failed",
}
_ENDED: Final[dict[Outcome, Result]] = {
    Outcome.REVERTED: "reverted",
    Outcome.NEVER_TRIED: "never_tried",
    Outcome.CONFIRMED: "confirmed",
    # The confirmation's report was lost, and the image with it: the permit ends as a failure.
    Outcome.FELL_BACK: "reverted",
}
_CODE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class Due:
    """A report that is due."""

    result: Result
    permit: int = 0
    reason: str = ""


def reason_code(text: str) -> str:
    """Return `text` as a reason code of the log: at most 32 of a-z, 0-9 and hyphens."""
    return "".join(c if c in _CODE_CHARACTERS else "-" for c in text.lower())[:32]


def due_of_start(view: View, inspection: Inspection, boot: int) -> Due | None:
    """Return the report that this start owes: one of every start in a settled slot; None when it has been given."""
    record = view.record
    if not inspection.status.settled or (record is not None and has_spoken(record, boot)):
        return None
    outcome = inspection.outcome
    running = inspection.status.running
    if outcome.outcome is Outcome.FELL_BACK and record is not None and record.reported:
        if record.digest != running.digest:
            return Due("fell_back", 0, reason_code(outcome.reason))
    return Due("started")


def due_of_permit(permit: Permit, inspection: Inspection, *, declined: str | None) -> Due | None:
    """Return the report that ends an open permit, None while nothing ended it on this device.

    It stays due for as long as the log shows the permit open: whatever was lost, the budget comes back.
    """
    outcome = inspection.outcome
    if outcome.permit == permit.id:
        result = _ENDED.get(outcome.outcome)
        return None if result is None else Due(result, permit.id, reason_code(outcome.reason))
    return None if declined is None else Due("declined", permit.id, reason_code(declined))


def due_of_release(view: View, inspection: Inspection, *, spoiled: bytes) -> Due | None:
    """Return what must be said of the image that runs: it is revoked or taken back, and there is no other to boot.

    A new start has reported `started` before, so it says it again.
    """
    record = view.record
    running = inspection.status.running
    if record is None or not record.reported or record.digest != running.digest:
        return None
    release = view.rollout.state.release_with(record.class_id, running.digest)
    if release is None or not inspection.status.settled:
        return None
    reason = _why_stuck(view, record, release, inspection, spoiled)
    if not reason:
        return None
    if release.state == "revoked":
        said = record.result == "revoked_running"
        return None if said else Due("revoked_running", 0, reason_code(reason))
    if any(view.me not in plan.ended for plan in _taken_back(view, release)):
        return Due("declined", 0, reason_code(reason))
    return None


def _taken_back(view: View, release: Release) -> list[Plan]:
    plans = view.rollout.state.plans.values()
    return [plan for plan in plans if plan.release == release.id and plan.state == "rolling back"]


def _why_stuck(view: View, record: Record, release: Release, inspection: Inspection, spoiled: bytes) -> str:
    """Return why a device that should leave `release` cannot, empty when it can or need not."""
    if release.state != "revoked" and not _taken_back(view, release):
        return ""
    target = way_back(view.rollout.state, record, release)
    return why_not_back(inspection, target, spoiled=spoiled) if target else "no-image"


def has_spoken(record: Record, boot: int) -> bool:
    """Answer whether a report of this boot is in the log."""
    return record.reported and not record.recovering and record.boot == boot


def make_report(
    view: View,
    inspection: Inspection,
    due: Due,
    *,
    class_id: bytes,
    number: tuple[int, int],
    nonce: BootNonce,
    degraded: bool,
    attestation: bytes,
) -> Report:
    """Return the report; `number` = (boot, step), which grow over every crash."""
    status = inspection.status
    running, spare = status.running, status.spare
    record = view.record
    names = [name for name, _ in status.slots]
    return Report(
        permit=due.permit,
        incarnation=0 if record is None else record.incarnation,
        boot=number[0],
        step=number[1],
        result=due.result,
        reason=due.reason,
        class_id=class_id,
        slot=names.index(status.booted),
        digest=running.digest or ZERO_DIGEST,
        number=running.number,
        counter=status.counter,
        confirmed=running.state is SlotState.CONFIRMED,
        degraded=degraded,
        spare=spare_word(spare),
        spare_digest=spare.digest or ZERO_DIGEST,
        nonce_height=nonce.height,
        nonce_root=nonce.root,
        attestation=attestation,
        previous=0 if record is None else record.ran_at,
    )


def spare_word(spare: SlotStatus) -> Spare:
    """Return the log's word for the other slot; one with a whole image is sealed, also while another is fetched."""
    if spare.state is SlotState.FETCHING and spare.digest:
        return "sealed"
    return _SPARE.get(spare.state, "sealed")
