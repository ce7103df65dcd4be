"""The rollout's rules over a whole run: several releases and plans, real devices, and the hold-back (W8) beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from swarm.apps.rollout.entries import Command, MakePlan, Propose
from swarm.apps.rollout.events import (
    Abandoned,
    Closed,
    Completed,
    Consented,
    Frozen,
    Opened,
    Permitted,
    Planned,
    Ran,
    Resumed,
    RolledBack,
    RollingBack,
    RolloutEvent,
)
from swarm.apps.rollout.manifest import decode_manifest, release_id
from swarm.apps.rollout.spec import PlanSpec
from swarm.lab.checkers.rollout import Phase, RolloutRules, Setting, Truth, uncharged
from swarm.primitives.errors import DecodeError

INVARIANTS: Final[Mapping[str, str]] = {
    "1": "rollout-armed-is-at-risk",
    "2": "rollout-risk-is-bounded",
    "3": "rollout-one-intent",
    "4": "rollout-freeze-holds",
    "5": "rollout-honest-votes",
    "6": "rollout-no-confirm-without-acceptance",
    "7": "rollout-good-stages-are-good",
    "8": "rollout-revoked-not-started",
    "9": "rollout-ends",
    "10": "rollout-belief-is-true",
    "W8": "rollout-hold-back",
}
"""Number of a rule of FIRMWARE section 10 (W8: section 4) -> its name in `result.json.invariants`."""

_NUMBERED: Final = re.compile(r"\(([0-9W]+)\) ")
_PERMIT_ALONE: Final = "6"
"""A complaint without a number is about an acceptance without a permit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a device really is: `digest` of the image that it runs, or would run after a power cycle."""

    phase: Phase
    digest: bytes


@dataclass(slots=True)
class _Plan:
    """One plan as the entries tell it."""

    release: bytes
    spec: PlanSpec
    state: str = "planned"
    released: bool = False
    kept: int = 0


class FleetRules:
    """Feeds `RolloutRules` with the entries of the log and with what each device truly runs."""

    def __init__(self, voters: tuple[str, ...], u: int, liars: Iterable[str], swarm: bytes) -> None:
        """Know who votes, how many may fail, who lies, and the swarm's id (32 bytes)."""
        self._setting = Setting(voters=voters, u=u, liars=frozenset(liars))
        self._rules = RolloutRules(self._setting)
        self._swarm = swarm
        self._digests: dict[bytes, bytes] = {}
        self._plans: dict[bytes, _Plan] = {}
        self._consented: dict[str, None] = {}
        self._running: dict[str, Running] = {}
        self._confirmed: dict[str, dict[bytes, None]] = {}
        """Images that a device was ever confirmed with in this run."""
        self._trying: dict[str, bytes] = {}
        self.believed: dict[str, bytes] = {}
        """Device -> digest that the log believes."""
        self.at_risk_max = 0

    # ------------------------------------------------------------------------------ the log

    def on_entry(
        self, id: bytes, speaker: str, command: Command, events: Sequence[tuple[int, RolloutEvent]]
    ) -> None:
        """Take one entry of the log with its (position, event), in order; `id` of its submission (32 bytes)."""
        if isinstance(command, Propose):
            self._learn_image(command)
        rules = self._rules
        if not events:
            rules.on_entry(speaker, command, ())
        for at, event in events:
            self._note(id, command, event)
            rules.setting = self._setting_for(event)
            if isinstance(event, Closed):
                self._tell_confirmed(event)
            rules.on_entry(speaker, command, ((at, event),))
            rules.setting = self._setting
            self._watch_hold_back(event)
        charged = rules.seen.at_risk(self._setting)
        self.at_risk_max = max(self.at_risk_max, len(charged))
        if events:
            for complaint in uncharged(rules.truths, self._setting, charged):
                rules.complain(complaint)

    def _learn_image(self, propose: Propose) -> None:
        try:
            manifest = decode_manifest(propose.manifest, self._swarm)
        except DecodeError:
            return
        self._digests[release_id(propose.manifest)] = manifest.image_digest

    def _note(self, id: bytes, command: Command, event: RolloutEvent) -> None:
        match event:
            case Planned(plan, release):
                spec = command.spec if isinstance(command, MakePlan) and plan == id else PlanSpec()
                self._plans[plan] = _Plan(release, spec, kept=len(self._setting.voters))
            case Consented(_, device):
                self._consented[device] = None
            case Ran(device, report):
                self.believed[device] = report.digest
            case Opened(plan) | Resumed(plan):
                self._plans[plan].state = "active"
            case Frozen(plan):
                if plan in self._plans:
                    self._plans[plan].state = "frozen"
            case RollingBack(plan):
                self._plans[plan].state = "rolling back"
            case Abandoned(plan):
                self._plans[plan].state = "abandoned"
            case RolledBack(plan):
                self._plans[plan].state = "rolled back"
            case Completed(plan):
                self._plans[plan].state = "completed"
            case _:
                pass

    def _setting_for(self, event: RolloutEvent) -> Setting:
        """Return the setting under which `event` must be right: its plan's reserve, or one voter by consent (W9)."""
        if not isinstance(event, Permitted) or event.plan not in self._plans:
            return self._setting
        wanted = self._plans[event.plan].spec.reserve
        u = self._setting.u
        reserve = int(u >= 2) if wanted is None else wanted
        if u - reserve <= 0 and event.device in self._consented:
            reserve = u - 1
        return replace(self._setting, reserve=reserve)

    def _tell_confirmed(self, event: Closed) -> None:
        digest = self._digest_of(event.plan)
        for device in event.confirmed:
            if device in self._rules.truths:
                ever = digest in self._confirmed.get(device, {})
                truth = replace(self._rules.truths[device], ever_confirmed=ever)
                self._rules.truths[device] = truth

    def _digest_of(self, plan: bytes) -> bytes:
        found = self._plans.get(plan)
        return b"" if found is None else self._digests.get(found.release, b"")

    def _watch_hold_back(self, event: RolloutEvent) -> None:
        """(W8) Until its release stage, a plan leaves `hold_back` voters on the old image, whatever happens."""
        if isinstance(event, Opened) and event.kind == "release":
            self._plans[event.plan].released = True
        if not isinstance(event, Permitted | Ran):
            return
        for id, plan in self._plans.items():
            if plan.released or plan.state not in ("active", "frozen"):
                continue
            digest = self._digest_of(id)
            charged = {c.device for c in self._rules.seen.charges if c.plan == id and c.forward}
            moved = [v for v in self._setting.voters if v in charged or self.believed.get(v) == digest]
            plan.kept = min(plan.kept, len(self._setting.voters) - len(moved))
            if plan.kept < self.hold_back_of(plan.spec):
                self._rules.complain(f"(W8) only {plan.kept} voters are held back: {', '.join(moved)} moved")

    def hold_back_of(self, spec: PlanSpec) -> int:
        """Return how many voters a plan keeps on the old image."""
        return len(self._setting.voters) - self._setting.u if spec.hold_back is None else spec.hold_back

    @property
    def held_back(self) -> tuple[int, int]:
        """(wanted, kept) of the newest plan; without one (0, all voters)."""
        if not self._plans:
            return 0, len(self._setting.voters)
        newest = list(self._plans.values())[-1]
        return self.hold_back_of(newest.spec), newest.kept

    # ------------------------------------------------------------------------------ the devices

    def on_running(self, device: str, running: Running) -> None:
        """Note what a device really is from now on."""
        before = self._running.get(device)
        self._running[device] = running
        if running.phase == "trial":
            self._trying[device] = running.digest
        tried = self._trying.get(device, b"")
        confirms = before is not None and before.phase == "trial" and running.phase == "idle"
        if confirms and running.digest == tried:
            self._confirmed.setdefault(device, {})[tried] = None
        self._rules.on_truth(
            device,
            Truth(phase=running.phase, new_image=running.digest == tried and tried != b""),
        )

    def on_start(self, device: str, *, revoked: bool, other_slot_fits: bool) -> None:
        """Note that a device started an image, and whether it had applied that image's revocation."""
        self._rules.on_start(device, revoked=revoked, other_slot_fits=other_slot_fits)

    def on_quiet_devices(self, devices: Iterable[str]) -> None:
        """(10) No report is under way: the log must believe what `devices` truly run."""
        believed = {}
        for device in devices:
            running = self._running.get(device)
            if running is None:
                continue
            new = self._rules.truths[device].new_image
            same = self.believed.get(device) == running.digest
            believed[device] = new if same else not new
        self._rules.on_quiet(believed, ())

    def on_quiet_plans(self) -> None:
        """(9) No timer is under way: every plan that began must have ended, or wait for people."""
        self._rules.on_quiet({}, [plan.state for plan in self._plans.values() if plan.state != "planned"])

    def verdicts(self) -> dict[str, str]:
        """Return name -> `held` or `violated: ...` for every invariant."""
        found: dict[str, list[str]] = {number: [] for number in INVARIANTS}
        for complaint in self._rules.complaints:
            match = _NUMBERED.match(complaint)
            found[match[1] if match else _PERMIT_ALONE].append(complaint)
        return {
            INVARIANTS[number]: "held" if not texts else f"violated: {texts[0]}{_more(texts)}"
            for number, texts in found.items()
        }


def _more(texts: list[str]) -> str:
    return f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
