"""The rollout's invariants (FIRMWARE section 10), from entries, events and what devices truly did.

Written from the rules: it reads the entries and events as they stand on the log and asks the application nothing. The
set at risk, freezes and honest votes are counted here a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from swarm.apps.rollout.entries import Command, Go, Halt, Late
from swarm.apps.rollout.events import (
    Abandoned,
    Accepted,
    Closed,
    Completed,
    Consented,
    Deadline,
    Frozen,
    KeysChanged,
    Opened,
    Permitted,
    Planned,
    Proposed,
    Ran,
    Resumed,
    RolledBack,
    RollingBack,
    RolloutEvent,
)
from swarm.lab.checkers.verdict import Checker
from swarm.primitives.ids import ZERO_DIGEST

Phase = Literal["idle", "armed", "trial", "bricked"]

_ENDING: Final = ("confirmed", "reverted", "never_tried", "declined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Who votes, how many may fail or lie, who really lies, and what the plans leave to chance."""

    voters: tuple[str, ...]
    u: int
    liars: frozenset[str] = frozenset()
    reserve: int = 0

    @property
    def r(self) -> int:
        """Voters that may lie."""
        return len(self.voters) - 2 * self.u - 1

    @property
    def brakes_hold(self) -> bool:
        """Answer whether so few lie that every brake has an honest voter."""
        return len(self.liars) <= min(self.u, self.r)


class Charge(NamedTuple):
    """An open permit, as the events tell it."""

    device: str
    plan: bytes
    permit: int
    incarnation: int
    forward: bool
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What somebody who reads the log knows; immutable, so that an explorer of states can keep one in each."""

    charges: frozenset[Charge] = frozenset()
    marked: frozenset[str] = frozenset()
    """At risk for another reason until they report again: recovering or degraded."""
    convicted: frozenset[str] = frozenset()
    barred: frozenset[bytes] = frozenset()
    """Plans that are frozen or rolled back: nothing leads to their new image."""
    back: frozenset[tuple[bytes, int]] = frozenset()
    """(plan, stage) of rollbacks."""
    gos: frozenset[tuple[bytes, int, int, str]] = frozenset()
    lates: frozenset[tuple[bytes, int, int, int, str]] = frozenset()
    halts: frozenset[tuple[bytes, str]] = frozenset()
    consented: frozenset[tuple[bytes, str]] = frozenset()
    """(plan, device) that may reboot alone where nobody may fail."""
    releases: frozenset[tuple[bytes, bytes]] = frozenset()
    """(release, class)."""
    plans: frozenset[tuple[bytes, bytes]] = frozenset()
    """(plan, class)."""
    still: frozenset[tuple[bytes, str]] = frozenset()
    """(class, why): nothing of it moves forward."""

    def charge_of(self, device: str) -> Charge | None:
        """Return the open permit of `device`, if any."""
        return next((charge for charge in self.charges if charge.device == device), None)

    def is_barred(self, plan: bytes) -> bool:
        """Answer whether nothing may lead to the new image of `plan` now."""
        frozen = {class_id for class_id, _ in self.still}
        return plan in self.barred or any((plan, class_id) in self.plans for class_id in frozen)

    def at_risk(self, setting: Setting) -> frozenset[str]:
        """Return the voters at risk."""
        return frozenset(
            [charge.device for charge in self.charges if charge.device in setting.voters]
            + [device for device in self.marked | self.convicted if device in setting.voters]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a device really is, whatever it says."""

    phase: Phase
    new_image: bool
    """Which image it runs, or would run after a power cycle, once confirmed."""
    ever_confirmed: bool = False
    """It confirmed the new image at some time in this plan."""


def watch(
    seen: Seen,
    setting: Setting,
    speaker: str,
    command: Command,
    events: Sequence[tuple[int, RolloutEvent]],
) -> tuple[Seen, list[str]]:
    """Return what is known after one entry with its events (position, event), and what they violate of (2) to (5)."""
    complaints: list[str] = []
    if speaker in setting.voters and speaker not in setting.liars:
        match command:
            case Go(plan, stage, generation):
                seen = replace(seen, gos=seen.gos | {(plan, stage, generation, speaker)})
            case Late(plan, stage, generation, turn):
                seen = replace(seen, lates=seen.lates | {(plan, stage, generation, turn, speaker)})
            case Halt(subject):
                seen = replace(seen, halts=seen.halts | {(subject, speaker)})
            case _:
                pass
    for position, event in events:
        seen = _take(seen, setting, position, event, complaints)
    return seen, complaints


def _take(seen: Seen, setting: Setting, position: int, event: RolloutEvent, complaints: list[str]) -> Seen:
    match event:
        case Opened():
            return _opened(seen, setting, event, complaints)
        case Permitted():
            return _permitted(seen, setting, position, event, complaints)
        case Accepted(permit, device):
            charge = seen.charge_of(device)
            if charge is None or charge.permit != permit:
                complaints.append(f"{device} was accepted without its permit {permit}")
                return seen
            if charge.forward and seen.is_barred(charge.plan):
                complaints.append(f"(4) {device} was accepted after a freeze")
            return replace(seen, charges=seen.charges - {charge} | {charge._replace(accepted=True)})
        case Ran():
            return _ran(seen, event)
        case Deadline(plan, stage, generation, turn):
            honest = [late for late in seen.lates if late[:4] == (plan, stage, generation, turn)]
            if setting.brakes_hold and not honest:
                complaints.append(f"(5) stage {stage} met its deadline without an honest voter")
        case Frozen(plan, class_id, generation, by):
            if setting.brakes_hold and by == "votes":
                if not any(subject in (plan, class_id) for subject, _ in seen.halts):
                    complaints.append("(5) a freeze by votes without an honest voter")
            if setting.brakes_hold and by == "late":
                if not any(late[0] == plan and late[2] == generation for late in seen.lates):
                    complaints.append("(5) a freeze by lateness without an honest voter")
            if plan == ZERO_DIGEST:
                return replace(seen, still=seen.still | {(class_id, by)})
            return replace(seen, barred=seen.barred | {plan}, gos=_without(seen.gos, plan))
        case Proposed(release, class_id):
            return replace(seen, releases=seen.releases | {(release, class_id)})
        case Planned(plan, release):
            known = {(plan, class_id) for id, class_id in seen.releases if id == release}
            return replace(seen, plans=seen.plans | known)
        case KeysChanged():
            return replace(
                seen, still=frozenset(entry for entry in seen.still if entry[1] != "contradiction")
            )
        case Consented(plan, device):
            return replace(seen, consented=seen.consented | {(plan, device)})
        case Resumed(plan):
            thawed = {class_id for id, class_id in seen.plans if id == plan}
            seen = replace(seen, still=frozenset(entry for entry in seen.still if entry[0] not in thawed))
            return _forget(seen, plan)
        case Abandoned(plan) | RolledBack(plan) | Completed(plan):
            return _forget(seen, plan)
        case RollingBack(plan, stage):
            seen = _forget(seen, plan)
            return replace(seen, back=seen.back | {(plan, stage)}, barred=seen.barred | {plan})
        case _:
            pass
    return seen


def _without(
    votes: frozenset[tuple[bytes, int, int, str]], plan: bytes
) -> frozenset[tuple[bytes, int, int, str]]:
    return frozenset(vote for vote in votes if vote[0] != plan)


def _forget(seen: Seen, plan: bytes) -> Seen:
    """Votes of this plan are history: a new generation begins, or it ended."""
    return replace(
        seen,
        barred=seen.barred - {plan},
        gos=_without(seen.gos, plan),
        lates=frozenset(late for late in seen.lates if late[0] != plan),
        halts=frozenset(halt for halt in seen.halts if halt[0] != plan),
    )


def _opened(seen: Seen, setting: Setting, event: Opened, complaints: list[str]) -> Seen:
    if seen.is_barred(event.plan):
        complaints.append(f"(4) stage {event.stage} opened after a freeze")
    honest = [go for go in seen.gos if go[:3] == (event.plan, event.stage, event.generation)]
    if event.kind != "consent" and len(honest) < setting.u + 1:
        complaints.append(
            f"(5) stage {event.stage} opened by {len(honest)} honest voters, u+1 = {setting.u + 1}"
        )
    lates = frozenset(late for late in seen.lates if late[0] != event.plan or late[1] > event.stage)
    return replace(seen, gos=_without(seen.gos, event.plan), lates=lates)


def _permitted(seen: Seen, setting: Setting, position: int, event: Permitted, complaints: list[str]) -> Seen:
    forward = (event.plan, event.stage) not in seen.back
    if forward and seen.is_barred(event.plan):
        complaints.append(f"(4) {event.device} got a permit after a freeze")
    if seen.charge_of(event.device) is not None:
        complaints.append(f"(3) {event.device} got a second permit while one is open")
    if event.device in setting.voters:
        lifted = seen.at_risk(setting) | {event.device}
        limit = setting.u - setting.reserve
        if limit <= 0 and (event.plan, event.device) in seen.consented:
            limit = 1
        if len(lifted) > limit:
            complaints.append(f"(2) a permit put {len(lifted)} voters at risk: {sorted(lifted)}")
    charge = Charge(event.device, event.plan, position, event.incarnation, forward, accepted=False)
    return replace(seen, charges=seen.charges | {charge})


def _ran(seen: Seen, event: Ran) -> Seen:
    report = event.report
    charge = seen.charge_of(event.device)
    if charge is not None and (
        charge.incarnation < report.incarnation
        or (charge.permit == report.permit and report.result in _ENDING)
    ):
        seen = replace(seen, charges=seen.charges - {charge})
    marked = seen.marked | {event.device} if report.degraded else seen.marked - {event.device}
    return seen if marked == seen.marked else replace(seen, marked=marked)


# ------------------------------------------------------------------------------------------ truth


def uncharged(truths: Mapping[str, Truth], setting: Setting, at_risk: Iterable[str]) -> list[str]:
    """(1) Return the correct voters that are armed, in trial or bricked and not in the set at risk."""
    charged = frozenset(at_risk)
    return [
        f"(1) {device} is {truth.phase} and not at risk"
        for device, truth in truths.items()
        if truth.phase != "idle"
        and device in setting.voters
        and device not in setting.liars
        and device not in charged
    ]


def unconfirmed(truths: Mapping[str, Truth], setting: Setting, event: Closed) -> list[str]:
    """(7) Return the correct members that a good stage counts as confirmed and that never confirmed."""
    return [
        f"(7) stage {event.stage} closed good, {device} never confirmed"
        for device in event.confirmed
        if device in truths and device not in setting.liars and not truths[device].ever_confirmed
    ]


def disbelieved(truths: Mapping[str, Truth], setting: Setting, believed_new: Mapping[str, bool]) -> list[str]:
    """(10) Return the correct devices of which the log believes another image than they run, when all is quiet."""
    return [
        f"(10) the log believes {device} to run the {'new' if believed_new[device] else 'old'} image"
        for device, truth in truths.items()
        if device in believed_new
        and device not in setting.liars
        and truth.phase == "idle"
        and truth.new_image != believed_new[device]
    ]


def unended(state: str) -> list[str]:
    """(9) Return a complaint unless a rollout in this state has ended, or waits for people."""
    if state in ("completed", "frozen", "abandoned", "rolled back"):
        return []
    return [f"(9) all is quiet and the rollout is {state}"]


class RolloutRules(Checker):
    """Told every applied entry with its events, and every change of a device, of a run; complains as it goes."""

    def __init__(self, setting: Setting) -> None:
        """Know the swarm and who lies in it."""
        super().__init__()
        self.setting = setting
        self.seen = Seen()
        self.truths: dict[str, Truth] = {}

    def on_entry(self, speaker: str, command: Command, events: Sequence[tuple[int, RolloutEvent]]) -> None:
        """Take one entry and the (position, event) that it made."""
        self.seen, complaints = watch(self.seen, self.setting, speaker, command, events)
        for _, event in events:
            if isinstance(event, Closed):
                complaints.extend(unconfirmed(self.truths, self.setting, event))
        self._complain(complaints)

    def on_recovered(self, device: str) -> None:
        """Note a recovery record of `device`."""
        self.seen = replace(self.seen, marked=self.seen.marked | {device})

    def on_convicted(self, device: str) -> None:
        """Note a conviction of `device`; it never leaves the set at risk as long as it votes."""
        self.seen = replace(self.seen, convicted=self.seen.convicted | {device})

    def on_truth(self, device: str, truth: Truth) -> None:
        """Note what a device really is from now on; (1), and (6) when it confirms."""
        before = self.truths.get(device)
        charge = self.seen.charge_of(device)
        confirms = (
            truth.phase == "idle" and truth.new_image and before is not None and before.phase == "trial"
        )
        if confirms and device not in self.setting.liars and (charge is None or not charge.accepted):
            self.complain(f"(6) {device} confirmed without acceptance")
        self.truths[device] = truth
        self._complain(uncharged({device: truth}, self.setting, self.seen.at_risk(self.setting)))

    def on_start(self, device: str, *, revoked: bool, other_slot_fits: bool) -> None:
        """(8) Note that a correct device started an image; `revoked`: it had applied that image's revocation."""
        if revoked and other_slot_fits and device not in self.setting.liars:
            self.complain(f"(8) {device} started a revoked image although it had another")

    def on_quiet(self, believed_new: Mapping[str, bool], states: Iterable[str]) -> None:
        """Nothing more will happen: (9) and (10)."""
        self._complain(disbelieved(self.truths, self.setting, believed_new))
        for state in states:
            self._complain(unended(state))

    def _complain(self, complaints: list[str]) -> None:
        for complaint in complaints:
            self.complain(complaint)
