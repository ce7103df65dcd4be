"""What a device does with its open permit: hold a certificate and arm, or decline; never both, never twice (W5)."""

from __future__ import annotations

from typing import Final

from swarm.apps.rollout.entries import TAIL
from swarm.apps.rollout.permit import is_frozen
from swarm.apps.rollout.state import Permit
from swarm.device.firmware.certificate import OwnEntry, PermitFacts, holds_certificate, read_permit
from swarm.device.firmware.checks import is_held
from swarm.device.firmware.operations import ArmBoot, DeclinePermit, Inspection
from swarm.device.firmware.step import Step
from swarm.device.firmware.view import View
from swarm.install.port import BootNonce, Capability, InstallError, InstallReason, Intent

OWN_ENTRIES_KEPT: Final = 32
ARM_AGAIN_MS: Final = 5_000
"""After a medium that failed while the intent was written; the same intent may be written again."""


class PermitHolder:
    """The open permit of this boot."""

    def __init__(self, t_arm_ms: int) -> None:
        """`t_arm_ms`: how old an own entry may be, and how long a permit is held without being used."""
        self._t_arm_ms = t_arm_ms
        self._own: list[OwnEntry] = []
        self._permit = 0
        self._seen_ms = 0
        self._facts: PermitFacts | None = None
        self._not_before_ms = 0
        self._declining = ""
        self._refusal = (0, "")
        self.spoiled = b""
        """A release whose seal did not hold when it was to be armed."""
        self.declined: tuple[int, str] | None = None
        """A permit that is durably declined, and why."""
        self.intent: Intent | None = None
        """What was written in this boot, under a certificate."""
        self.is_selected = False
        """The intent and the selection are durable."""

    def take_own_entry(self, signed_at_ms: int, height: int) -> None:
        """Note an own entry of this boot that is final: attestations that cover it are fresh (W5)."""
        self._own.append(OwnEntry(signed_at_ms, height))
        del self._own[:-OWN_ENTRIES_KEPT]

    def why_declined(self, permit: Permit) -> str | None:
        """Return why `permit` was durably declined, None if it was not."""
        return self.declined[1] if self.declined is not None and self.declined[0] == permit.id else None

    # ------------------------------------------------------------------------------ acting

    def next_operation(
        self, view: View, permit: Permit, inspection: Inspection, step: Step
    ) -> ArmBoot | DeclinePermit | None:
        """Return what to do with a permit that was not acted upon; None while the certificate is not complete."""
        if permit.id != self._permit:
            self._permit, self._seen_ms, self._facts = permit.id, view.now_ms, None
            step.tell("permitted", permit=permit.id, target=permit.target)
        if self.why_declined(permit) is not None:
            return None
        reason = why_not_act(view, permit, inspection)
        expires_ms = self._seen_ms + self._t_arm_ms
        if not reason and self._refusal[0] == permit.id:
            reason = self._refusal[1]
        if not reason and view.now_ms >= expires_ms:
            reason = "stale"
        if reason:
            self._declining = reason
            return DeclinePermit(permit.id)
        step.wake(expires_ms)
        if view.now_ms < self._not_before_ms:
            step.wake(self._not_before_ms)
            return None
        if not self.holds(view, permit, step):
            return None
        self.intent = self._make_intent(view, permit, inspection)
        return ArmBoot(self.intent)

    def holds(self, view: View, permit: Permit, step: Step) -> bool:
        """Answer whether the certificate to act is held now."""
        if self._facts is None:
            self._facts = read_permit(view, permit.id)
        if self._facts is None:
            # It is of this very turn: its leaf is durable in the next.
            step.wake(view.now_ms)
            return False
        fresh = self._freshest(view.now_ms)
        if fresh is None:
            return False
        plan = view.rollout.plan(permit.plan)
        reserve = 0 if plan is None else plan.spec.reserve or 0
        return holds_certificate(view, self._facts, fresh, alone=view.genesis.budget.u - reserve <= 0)

    def _freshest(self, now_ms: int) -> OwnEntry | None:
        """Return the own entry at the lowest height that is still young enough."""
        young = [own for own in self._own if now_ms - own.signed_at_ms <= self._t_arm_ms]
        return min(young, key=lambda own: own.height, default=None)

    def _make_intent(self, view: View, permit: Permit, inspection: Inspection) -> Intent:
        plan = view.rollout.plan(permit.plan)
        spec = None if plan is None else plan.spec
        many = Capability.MULTIPLE_ATTEMPTS in inspection.capabilities
        return Intent(
            release=inspection.status.spare.release,
            permit=permit.id,
            nonce=BootNonce(height=view.height, root=view.log_root()),
            attempts=spec.attempts if spec is not None and many else 1,
            trial_ms=spec.trial_ms if spec is not None else 1,
        )

    # ------------------------------------------------------------------------------ results

    def took_arm(self, intent: Intent, error: InstallError | None, step: Step, now_ms: int) -> None:
        """Take in what became of an intent."""
        if error is None:
            self.is_selected = True
            step.tell("armed", permit=intent.permit, release=intent.release)
            return
        self.is_selected = False
        step.tell("refused", operation="armboot", release=intent.release, reason=str(error.reason))
        if error.reason is InstallReason.PERMIT_DECLINED:
            self.declined = (intent.permit, "declined-before")
        elif error.reason in (InstallReason.MEDIUM, InstallReason.PERMIT_USED):
            self._not_before_ms = now_ms + ARM_AGAIN_MS
        else:
            # What is in the slot cannot be booted, and another look at it will not change that.
            self._refusal = (intent.permit, str(error.reason))
            if error.reason in (InstallReason.WRONG_DIGEST, InstallReason.NOT_SEALED):
                self.spoiled = intent.release

    def took_decline(self, permit: int, error: InstallError | None, step: Step, now_ms: int) -> None:
        """Take in that a permit is declined for good, or that it is too late for that."""
        if error is None:
            self.declined = (permit, self._declining)
            step.tell("declined", permit=permit, reason=self._declining)
        elif error.reason is not InstallReason.INTENT_WRITTEN:
            self._not_before_ms = now_ms + ARM_AGAIN_MS


def why_not_act(view: View, permit: Permit, inspection: Inspection) -> str:
    """Return why this permit is declined whatever others say, empty when nothing bars it here (section 5).

    A freeze or a revocation that is not applied here yet is no reason; the log answers `healthy` with it.
    """
    status = inspection.status
    plan = view.rollout.plan(permit.plan)
    record = view.record
    state = view.rollout.state
    if plan is None or record is None or record.incarnation != permit.incarnation:
        return "other-incarnation"
    if not is_held(status.spare, permit.target):
        return "no-image"
    if not status.settled:
        return "not-settled"
    target = state.release_with(plan.class_id, permit.target)
    if (target is not None and target.state == "revoked") or status.spare.release in status.revoked:
        return "revoked"
    if not permit.forward:
        return ""
    if is_frozen(state, plan) or target is None or not target.is_wanted:
        return "frozen"
    open_states = ("completed",) if permit.stage == TAIL else ("active",)
    return "" if plan.state in open_states else "not-open"
