"""The own update of one device: fetch, seal, ask, arm, try, confirm or go back, and say so (FIRMWARE sections 5 and 6).

Pure and convergent: at each step it compares what the media say with what the log says and orders the one operation
that is missing. Nothing is remembered over a crash but by the back end and the log, so a start anywhere goes on.
"""

from __future__ import annotations

from typing import Final

from swarm.apps.rollout.duties import Duties, Task
from swarm.apps.rollout.entries import Ready
from swarm.apps.rollout.state import Permit
from swarm.behaviours.actions import SelfTested
from swarm.device.firmware.checks import install_plan, is_held, why_not_back, why_not_fetch
from swarm.device.firmware.desk import Desk
from swarm.device.firmware.download import Download
from swarm.device.firmware.operations import (
    Activate,
    ArmBoot,
    Attest,
    Confirm,
    DeclinePermit,
    Discard,
    Inspection,
    InstallDone,
    Operation,
    RaiseCounter,
    Reboot,
    Revert,
    RevokeRelease,
    Withdraw,
)
from swarm.device.firmware.permits import PermitHolder
from swarm.device.firmware.policy import Firmware
from swarm.device.firmware.reports import (
    Due,
    due_of_permit,
    due_of_release,
    due_of_start,
    has_spoken,
    make_report,
    reason_code,
)
from swarm.device.firmware.step import Entries, Step
from swarm.device.firmware.trial import SelfCheck, Trial
from swarm.device.firmware.view import View
from swarm.install.port import Attestation, BootNonce, Capability, Outcome, Restart, SlotState
from swarm.wire.codec import encode

_REPORT: Final = "report"


class Updater:
    """The state machine of one device in one boot. `advance` fills a `Step`; results come in by the `take` methods."""

    def __init__(
        self, firmware: Firmware, entries: Entries, *, boot: int, nonce: BootNonce, seed: bytes
    ) -> None:
        """Begin the boot with number `boot`; `nonce` is the last head that was applied before it."""
        self._firmware = firmware
        self._entries = entries
        self._boot = boot
        self._nonce = nonce
        self.desk = Desk()
        self.download = Download(seed)
        self.check = SelfCheck()
        self.permits = PermitHolder(firmware.t_arm_ms)
        self._trial = Trial(boot=boot, first_height=nonce.height)
        self._steps = 0
        self._attestation: bytes | None = None
        self._failed: dict[Operation, int] = {}
        """Revocations and counters that the back end refused, and when to try again."""
        self._told: set[tuple[bytes, int, str]] = set()
        """Plans, generations and reasons of tasks that were declined in words."""
        self.has_ended = False
        """A restart was ordered: nothing happens any more."""

    @property
    def is_in_trial(self) -> bool | None:
        """Whether the running image is under trial; None while nobody knows."""
        inspection = self.desk.inspection
        if inspection is None:
            return False if self.desk.has_failed else None
        return inspection.outcome.outcome is Outcome.TRIAL

    # ------------------------------------------------------------------------------ inputs

    def take_test(self, result: SelfTested, step: Step, now_ms: int) -> None:
        """Take in what the self test said."""
        self.check.take(result, step, now_ms)

    def take_install(self, done: InstallDone, step: Step, now_ms: int) -> bool:
        """Take in what an operation gave; False when it is none of this machine's."""
        if not self.desk.take(done, step, now_ms):
            return False
        if self.download.take(done, self.desk, step, now_ms):
            return True
        match done.operation:
            case Attest():
                self._attestation = _attestation_bytes(done.answer)
            case ArmBoot(intent=intent):
                self.permits.took_arm(intent, done.error, step, now_ms)
                self.desk.forget()
            case DeclinePermit(permit=permit):
                self.permits.took_decline(permit, done.error, step, now_ms)
                self.desk.forget()
            case Activate() | Revert():
                self._take_restart(done, step)
            case Confirm() | Withdraw() | Discard() | RaiseCounter() | RevokeRelease():
                self._take_order(done, step, now_ms)
            case _:
                pass
        return True

    def _take_restart(self, done: InstallDone, step: Step) -> None:
        self.desk.forget()
        if isinstance(done.answer, Restart):
            self.has_ended = True
            step.tell("rebooting", after=type(done.operation).__name__.lower())
            step.actions.append(Reboot(done.answer))
        elif done.error is not None:
            step.tell(
                "refused", operation=type(done.operation).__name__.lower(), reason=str(done.error.reason)
            )

    def _take_order(self, done: InstallDone, step: Step, now_ms: int) -> None:
        operation = done.operation
        self.desk.forget()
        name = type(operation).__name__.lower()
        if done.error is not None:
            step.tell("refused", operation=name, reason=str(done.error.reason))
            self._failed[operation] = now_ms + RETRY_MS
            return
        step.tell(_DONE[name])
        if isinstance(operation, Confirm):
            self.check.tell_again()
        if isinstance(operation, Discard):
            self.permits.spoiled = b""

    # ------------------------------------------------------------------------------ the step

    def advance(self, view: View, duties: Duties, step: Step, *, is_mute: bool) -> None:
        """Order what is missing and say what is due; calling it again without news does nothing."""
        if self.has_ended:
            return
        self.download.advance(self.desk, step, view.now_ms)
        inspection = self.desk.look(step, view.now_ms)
        if inspection is None:
            self._say_unreadable(view, step)
            return
        self.check.advance(step, view.now_ms)
        operation = self._next_operation(view, duties, inspection, step, is_mute=is_mute)
        if operation is not None and view.now_ms < self._failed.get(operation, 0):
            step.wake(self._failed[operation])
            operation = None
        if operation is not None:
            self.desk.order(operation, step)
            return
        due = self._next_report(view, duties, inspection)
        if due is not None:
            self._report(view, inspection, due, step)
        elif inspection.status.settled and duties.permit is None:
            self._work(view, duties, inspection, step)

    def _next_operation(
        self, view: View, duties: Duties, inspection: Inspection, step: Step, *, is_mute: bool
    ) -> Operation | None:
        """Return what the media lack now: first what only grows, then what ends a trial, then what begins one."""
        if self._attestation is None:
            if Capability.MEASURED_BOOT in inspection.capabilities:
                return Attest(self._nonce.root)
            self._attestation = b""
        revoked = self._revocation(view, inspection)
        if revoked is not None and view.now_ms >= self._failed.get(revoked, 0):
            return revoked
        match inspection.outcome.outcome:
            case Outcome.TRIAL:
                return self._trial.next_operation(
                    view, duties.permit, inspection, self.check, is_mute=is_mute
                )
            case Outcome.ARMED:
                return self._armed(view, duties.permit, inspection, step)
            case _:
                return self._idle(view, duties.permit, inspection, step)

    def _revocation(self, view: View, inspection: Inspection) -> RevokeRelease | None:
        """Return the first revocation of the log that the boot records lack (W12)."""
        for release in view.rollout.state.releases.values():
            if release.state == "revoked" and release.manifest.class_id == self._firmware.class_id:
                if release.id not in inspection.status.revoked:
                    return RevokeRelease(release.id)
        return None

    def _armed(
        self, view: View, permit: Permit | None, inspection: Inspection, step: Step
    ) -> Operation | None:
        """Go on with an intent that this boot wrote; take back one of an earlier boot, or one that is barred now."""
        intent = self.permits.intent
        if intent is None or permit is None or not intent.permit == inspection.outcome.permit == permit.id:
            return Withdraw()
        if _barred_since(view, permit):
            return Withdraw()
        if self.permits.is_selected:
            return Activate()
        return ArmBoot(intent) if self.permits.holds(view, permit, step) else Withdraw()

    def _idle(
        self, view: View, permit: Permit | None, inspection: Inspection, step: Step
    ) -> Operation | None:
        status = inspection.status
        if permit is not None:
            if inspection.outcome.permit == permit.id:
                return None
            return self.permits.next_operation(view, permit, inspection, step)
        if not status.settled:
            return None
        spare = status.spare
        unwanted = (*status.revoked, self.permits.spoiled)
        is_dead = spare.state in (SlotState.STAGED, SlotState.FAILED) and spare.release in unwanted
        if is_dead and spare.release:
            return Discard()
        return self._counter(view, inspection)

    def _counter(self, view: View, inspection: Inspection) -> RaiseCounter | None:
        """Return the counter to raise: that of the running image, once its rollout is completed and not before (W13)."""
        status = inspection.status
        release = view.rollout.release(status.running.release)
        if release is None or not release.completed or release.state != "approved":
            return None
        counter = status.running.counter
        return RaiseCounter(counter) if counter > status.counter else None

    # ------------------------------------------------------------------------------ reports

    def _next_report(self, view: View, duties: Duties, inspection: Inspection) -> Due | None:
        permit = duties.permit
        if inspection.outcome.outcome is Outcome.TRIAL:
            return self._trial.next_report(view, permit, inspection, self.check)
        if permit is not None:
            declined = self.permits.why_declined(permit)
            due = due_of_permit(permit, inspection, declined=declined)
            if due is not None:
                return due
        due = due_of_start(view, inspection, self._boot)
        if due is None:
            due = due_of_release(view, inspection, spoiled=self.permits.spoiled)
        record = view.record
        if due is None and record is not None and has_spoken(record, self._boot):
            if record.degraded != self._is_degraded and inspection.status.settled:
                return Due("started", 0, reason_code(self.check.failure))
        return due

    def _say_unreadable(self, view: View, step: Step) -> None:
        """Say that this device may not come back from a restart: its media could be read before, and cannot now (W2)."""
        inspection, record = self.desk.inspection, view.record
        if not self.desk.has_failed or inspection is None or record is None or record.degraded:
            return
        if inspection.status.settled and has_spoken(record, self._boot):
            self._report(view, inspection, Due("started", 0, "unreadable"), step)

    @property
    def _is_degraded(self) -> bool:
        return bool(self.check.failure) or self.desk.has_failed

    def _report(self, view: View, inspection: Inspection, due: Due, step: Step) -> None:
        key = (_REPORT, due)
        if self._entries.is_flying_as(_REPORT) or not self._entries.may_send(key, step, view.now_ms):
            return
        self._steps += 1
        report = make_report(
            view,
            inspection,
            due,
            class_id=self._firmware.class_id,
            number=(self._boot, self._steps),
            nonce=self._nonce,
            degraded=self._is_degraded,
            attestation=self._attestation or b"",
        )
        self._entries.send(key, report, step, view.now_ms)
        step.tell("reported", result=due.result, permit=due.permit, reason=due.reason)

    # ------------------------------------------------------------------------------ towards a permit

    def _work(self, view: View, duties: Duties, inspection: Inspection, step: Step) -> None:
        """Do what the log asks of a settled device; the report of its start has gone before, or this were not reached."""
        task = duties.task
        if task is None or (self.download.release and self.download.release != task.release):
            self.download.stop()
        if task is None:
            return
        if task.way == "back":
            if not why_not_back(inspection, task.arm.target, spoiled=self.permits.spoiled):
                self._ask(view, task, step)
            return
        spare = inspection.status.spare
        if is_held(spare, task.arm.target) and spare.release == task.release:
            fell_back = inspection.outcome.outcome is Outcome.FELL_BACK and spare.state is SlotState.FAILED
            if task.way == "tail" and fell_back:
                # Nobody asked for this start but the device itself: it would come round to the same end for ever.
                self._refuse_task(view, inspection, task, "fell-back", step)
            else:
                self._ask(view, task, step)
            return
        reason = why_not_fetch(view, inspection, task, self._firmware.class_id)
        reason = reason or self.download.refused.get(task.release, "")
        release = view.rollout.release(task.release)
        trouble = reason or self.download.trouble.get(task.release, "")
        if trouble:
            self._refuse_task(view, inspection, task, trouble, step)
        if release is not None and not reason:
            self.download.want(install_plan(release.manifest), inspection, step)
            self.download.advance(self.desk, step, view.now_ms)

    def _refuse_task(self, view: View, inspection: Inspection, task: Task, reason: str, step: Step) -> None:
        """Say once to each generation of a plan why this device cannot follow it; its running image is untouched."""
        said = (task.plan, task.arm.generation, reason)
        if said in self._told or self._entries.is_flying_as(_REPORT):
            return
        self._told.add(said)
        self._report(view, inspection, Due("declined", 0, reason_code(reason)), step)

    def _ask(self, view: View, task: Task, step: Step) -> None:
        arm = task.arm
        if task.wants_ready:
            key = ("ready", arm.plan, arm.stage)
            if self._entries.may_send(key, step, view.now_ms):
                self._entries.send(key, Ready(arm.plan, arm.stage), step, view.now_ms)
                step.tell("ready", plan=arm.plan, stage=arm.stage)
        elif task.refusal is None:
            if self._entries.may_send(("arm", arm), step, view.now_ms):
                self._entries.send(("arm", arm), arm, step, view.now_ms)
                step.tell("asked", plan=arm.plan, stage=arm.stage)


RETRY_MS: Final = 5_000
"""After an order that the back end refused."""

_DONE: Final = {
    "confirm": "confirmed",
    "withdraw": "withdrawn",
    "discard": "discarded",
    "raisecounter": "counter-raised",
    "revokerelease": "revocation-written",
}


def _barred_since(view: View, permit: Permit) -> bool:
    """Answer whether a freeze or a revocation was applied here after the intent was written; a courtesy (section 5)."""
    plan = view.rollout.plan(permit.plan)
    if plan is None:
        return True
    target = view.rollout.state.release_with(plan.class_id, permit.target)
    if target is not None and target.state == "revoked":
        return True
    return permit.forward and plan.state not in ("active", "completed")


def _attestation_bytes(answer: object) -> bytes:
    """Return what a report carries: nothing where the device only says so itself."""
    if not isinstance(answer, Attestation) or not answer.signature:
        return b""
    return encode((answer.kind, answer.slot, answer.digest, answer.nonce, answer.signature))
