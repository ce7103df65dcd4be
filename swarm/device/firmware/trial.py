"""The self test of every start, and what an image in trial does: say that it is healthy, confirm, or go back.

Self test (FIRMWARE section 6): the process is up, the store was opened whole under its lock, the behaviours are well;
and before a trial is confirmed also: the log was seen to advance, own votes were sent, others attested the same state,
and the own `healthy` is accepted in the log that this device replayed itself.
"""

from __future__ import annotations

from typing import Final

from swarm.apps.rollout.state import Permit
from swarm.behaviours.actions import SelfTest, SelfTested
from swarm.device.firmware.certificate import others_agree
from swarm.device.firmware.operations import Confirm, Healthy, Inspection, Revert
from swarm.device.firmware.reports import Due, has_spoken
from swarm.device.firmware.step import Step
from swarm.device.firmware.view import View

TEST_AGAIN_MS: Final = 60_000
"""A confirmed image whose self test failed is asked again; a trial is not."""


class SelfCheck:
    """Asks the behaviours once a start, and again later where a confirmed image is not well."""

    def __init__(self) -> None:
        """Nothing was asked in this boot."""
        self._tag = 0
        self._is_asked = False
        self._again_at_ms: int | None = None
        self._told = False
        self.result: SelfTested | None = None

    @property
    def is_passed(self) -> bool:
        """Whether the last answer was that all is well."""
        return self.result is not None and not self.result.reason

    @property
    def failure(self) -> str:
        """The reason code of a self test that failed, else empty."""
        return "" if self.result is None else self.result.reason

    def take(self, result: SelfTested, step: Step, now_ms: int) -> None:
        """Take in an answer."""
        if not self._is_asked or result.tag != self._tag:
            return
        self._is_asked = False
        self.result = result
        self._again_at_ms = now_ms + TEST_AGAIN_MS if result.reason else None
        step.tell("self-test", passed=not result.reason, reason=result.reason, detail=result.detail)

    def tell_again(self) -> None:
        """Whoever watches this process must hear of its health once more: the trial ended well."""
        self._told = False

    def advance(self, step: Step, now_ms: int) -> None:
        """Ask when it is time, and tell the watcher that all is well."""
        is_due = self.result is None or (self._again_at_ms is not None and now_ms >= self._again_at_ms)
        if is_due and not self._is_asked:
            self._tag += 1
            self._is_asked, self._again_at_ms = True, None
            step.actions.append(SelfTest(self._tag))
        if self._again_at_ms is not None:
            step.wake(self._again_at_ms)
        if self.is_passed and not self._told:
            self._told = True
            step.actions.append(Healthy())


class Trial:
    """What the image under trial does next."""

    def __init__(self, *, boot: int, first_height: int) -> None:
        """`first_height` = what was applied before this boot."""
        self._boot = boot
        self._first_height = first_height
        self._accepted_height: int | None = None

    def next_operation(
        self, view: View, permit: Permit | None, inspection: Inspection, check: SelfCheck, *, is_mute: bool
    ) -> Confirm | Revert | None:
        """Return what ends the trial now, None while it goes on."""
        outcome = inspection.outcome
        release = view.rollout.release(outcome.release)
        record = view.record
        if release is not None and release.state == "revoked":
            return Revert("revoked")
        if check.failure:
            return Revert(check.failure)
        if permit is None or permit.id != outcome.permit:
            # The log that this device has is older than its own intent only where the store is another one.
            behind = outcome.nonce is not None and view.height < outcome.nonce.height
            return None if behind else Revert("no-permit")
        if record is not None and record.incarnation != permit.incarnation:
            return Revert("wiped")
        if permit.accepted:
            return self._confirm(view, check, is_mute=is_mute)
        return Revert("rejected") if permit.denied or self._has_said(view) else None

    def next_report(
        self, view: View, permit: Permit | None, inspection: Inspection, check: SelfCheck
    ) -> Due | None:
        """Return `healthy`, once a start: an accepted one is said again too, so that this start sees the log advance."""
        if permit is None or permit.id != inspection.outcome.permit or not check.is_passed:
            return None
        return None if self._has_said(view) else Due("healthy", permit.id)

    def _has_said(self, view: View) -> bool:
        record = view.record
        return record is not None and has_spoken(record, self._boot) and record.result == "healthy"

    def _confirm(self, view: View, check: SelfCheck, *, is_mute: bool) -> Confirm | None:
        if self._accepted_height is None:
            self._accepted_height = view.height
        advanced = view.height > self._first_height
        voted = is_mute or not view.is_voter or view.has_voted
        agreed = others_agree(view, self._accepted_height)
        return Confirm() if check.is_passed and advanced and voted and agreed else None
