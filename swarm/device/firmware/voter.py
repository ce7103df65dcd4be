"""A voter's part in rollouts: soaks and goes (W6), late timers (W7), and its answers to what operators ask for.

Each timer runs by the own monotonic clock from when this boot first saw its cause: after a restart it begins anew,
late and never early. What a vote does is decided where it lands in the log.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Final

from swarm.apps.rollout.duties import Duties, GoDuty, LateDuty, ResumeWish, Wish
from swarm.apps.rollout.entries import (
    Approve,
    ChangeKeys,
    Command,
    Consent,
    Go,
    Halt,
    Late,
    Resume,
    Revoke,
    Rollback,
)
from swarm.device.firmware.policy import FirmwarePolicy
from swarm.device.firmware.step import Entries, Step
from swarm.device.firmware.view import View
from swarm.primitives.ids import DeviceId

Duty = GoDuty | LateDuty | Wish | ResumeWish

EMERGENCY_OPERATORS_MIN: Final = 2
"""Operators that must ask for release keys which too few of the old ones signed."""

_BRAKES = frozenset({"halt", "halt-class"})


class Voter:
    """The votes of one voter. Feed it the duties of each applied height, and call it again when its timers are due."""

    def __init__(self, policy: FirmwarePolicy, entries: Entries) -> None:
        """Vote by `policy`."""
        self._policy = policy
        self._entries = entries
        self._seen_ms: dict[Hashable, int] = {}
        """When this boot first saw each duty that is still one."""
        self.is_listening = False
        """A go waits only for a word of somebody: any may be the one."""
        self._voted: set[Hashable] = set()
        """Duties that were answered; asked for membership only."""

    def advance(self, view: View, duties: Duties, step: Step) -> None:
        """Cast every vote that is due; repeated calls cast nothing twice."""
        self.is_listening = False
        every: list[Duty] = [*duties.gos, *duties.lates, *duties.wishes, *duties.resumes]
        self._forget({_key(duty) for duty in every} | {_vote_key(duty) for duty in every})
        for go in duties.gos:
            self._go(view, go, step)
        for late in duties.lates:
            self._late(view, late, step)
        for wish in duties.wishes:
            self._wish(view, wish, step)
        for resume in duties.resumes:
            if _operators_of(view, resume.by) >= self._policy.operators:
                command = Resume(resume.plan, resume.generation, resume.without)
                self._vote(_key(resume), command, view, step)

    def _forget(self, present: set[Hashable]) -> None:
        for key in [key for key in self._seen_ms if key not in present]:
            del self._seen_ms[key]
        # A wish that went away and comes back is a new one.
        self._voted &= present

    def _vote(self, key: Hashable, command: Command, view: View, step: Step) -> None:
        if key in self._voted or self._entries.is_flying(key):
            return
        self._voted.add(key)
        self._entries.send(key, command, step, view.now_ms)
        step.tell("voted", entry=type(command).__name__.lower())

    # ------------------------------------------------------------------------------ go and late

    def _go(self, view: View, go: GoDuty, step: Step) -> None:
        key = _key(go)
        since = self._seen_ms.setdefault(key, view.now_ms)
        soaked = since + go.soak_ms
        if view.now_ms < soaked:
            step.wake(soaked)
            return
        if go.paused or not self._is_acceptable(view, go):
            return
        # W6: whoever was confirmed must have been heard since the soak ended; a word wakes the device by itself.
        deaf = [id for id in go.listen_to if id != view.me and view.peers_heard.get(id, -1) < soaked]
        self.is_listening |= bool(deaf)
        if not deaf:
            self._vote(_vote_key(go), Go(go.plan, go.stage, go.generation), view, step)

    def _is_acceptable(self, view: View, go: GoDuty) -> bool:
        """Answer whether so many operators want this plan that its first stage may open."""
        plan = view.rollout.plan(go.plan)
        if plan is None:
            return False
        if go.stage > 0 or self._policy.approve == "auto":
            return True
        return _operators_of(view, (plan.origin, *plan.asked_go)) >= self._policy.operators

    def _late(self, view: View, late: LateDuty, step: Step) -> None:
        key = _key(late)
        due = self._seen_ms.setdefault(key, view.now_ms) + late.deadline_ms
        if view.now_ms < due:
            step.wake(due)
            return
        self._vote(key, Late(late.plan, late.stage, late.generation, late.round), view, step)

    # ------------------------------------------------------------------------------ wishes

    def _wish(self, view: View, wish: Wish, step: Step) -> None:
        if self._follows(view, wish):
            command = _answer(view, wish)
            if command is not None:
                self._vote(_key(wish), command, view, step)

    def _follows(self, view: View, wish: Wish) -> bool:
        """Answer whether this voter's owner wants this wish followed."""
        operators = _operators_of(view, wish.by)
        if wish.asked in _BRAKES:
            return self._policy.obey_halt and operators > 0
        if wish.asked == "approve" and self._policy.approve == "auto":
            return True
        if wish.asked == "keys" and self._policy.approve == "auto":
            return True
        if wish.asked == "keys-emergency":
            # Who holds no old key may be anybody, and the new keys sign what comes next: else one stolen operator key
            # would be a release. People have to look, more than one of them.
            asked_by = max(EMERGENCY_OPERATORS_MIN, self._policy.operators)
            return self._policy.approve != "auto" and operators >= asked_by
        return operators >= self._policy.operators


def _operators_of(view: View, names: Collection[DeviceId]) -> int:
    """Return how many operators are among `names`; voters back a change of keys too."""
    members = (view.genesis.member(name) for name in dict.fromkeys(names))
    return sum(member is not None and member.role == "operator" for member in members)


def _key(duty: Duty) -> Hashable:
    match duty:
        case GoDuty():
            return "go", duty.plan, duty.stage, duty.generation
        case LateDuty():
            return "late", duty.plan, duty.stage, duty.generation, duty.round
        case Wish():
            return duty.asked, duty.subject, duty.device
        case ResumeWish():
            return "resume", duty.plan, duty.generation, duty.without


def _vote_key(duty: Duty) -> Hashable:
    # A second go of the same stage has the same soak behind it, and is a vote of its own.
    return (_key(duty), duty.again) if isinstance(duty, GoDuty) else _key(duty)


def _answer(view: View, wish: Wish) -> Command | None:
    """Return this voter's own entry for a wish, None when there is nothing to answer."""
    subject = wish.subject
    match wish.asked:
        case "approve":
            return Approve(subject)
        case "revoke":
            return Revoke(subject, "asked", ())
        case "halt":
            return Halt(subject, of_class=False, reason="asked")
        case "halt-class":
            return Halt(subject, of_class=True, reason="asked")
        case "rollback":
            return Rollback(subject, stop=False)
        case "abandon":
            return Rollback(subject, stop=True)
        case "consent":
            return Consent(subject, wish.device)
        case "keys" | "keys-emergency":
            rotation = view.rollout.state.rotations.get(subject)
            if rotation is None:
                return None
            return ChangeKeys(rotation.keys.k, rotation.keys.keys, rotation.signatures)
