"""A small world for the rollout's model: who is in it, what may go wrong, and its log with every entry ever tried.

The log is the shipped application. Its states are interned: what time alone changes (heights, report numbers) is taken
out and votes are sorted, so that two ways to one situation are one state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from swarm.apps.application import BlockContext, Context
from swarm.apps.rollout.app import Rollout
from swarm.apps.rollout.duties import Duties
from swarm.apps.rollout.entries import (
    Arm,
    Command,
    Go,
    Halt,
    Late,
    Report,
    Resume,
    Revoke,
    Rollback,
    encode_command,
)
from swarm.apps.rollout.events import RolloutEvent, decode_event
from swarm.apps.rollout.keys import KeySet
from swarm.apps.rollout.manifest import FORMAT, Manifest
from swarm.apps.rollout.spec import PlanSpec, settle_spec
from swarm.apps.rollout.state import Permit, Plan, Release, State
from swarm.crypto.digest import sha256
from swarm.lab.checkers.rollout import Seen, Setting, watch
from swarm.primitives.ids import ZERO_DIGEST
from swarm.primitives.quorum import Budget

CLASS: Final = b"v" * 16 + b"c" * 16
OLD: Final = b"o" * 32
NEW: Final = b"n" * 32
RELEASE: Final = b"r" * 32
PLAN: Final = b"p" * 32
NAMES: Final = "abcdefg"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Voters a, b, c ...; the `candidates` have the class of the release, the others only vote."""

    name: str
    n: int = 4
    u: int = 1
    candidates: str = "ab"
    liars: str = ""
    liar_moves: frozenset[str] = frozenset({"go", "late", "halt", "arm", "report"})
    hold_back: int = 2
    reserve: int = 0
    retries: int = 0
    faults: int = 0
    """How many faults of the kinds below may happen, together."""
    fault_kinds: frozenset[str] = frozenset()
    """`offline`, `crash`, `wipe`, `fall_back`, `brick`; a brick happens in a trial of the new image only."""
    votes: frozenset[str] = frozenset()
    """What correct voters may wish at any time: `halt`, `resume`, `rollback`, `revoke`."""
    generations: int = 1
    """Generations that a resume may begin, at most."""
    delays: frozenset[str] = frozenset({"arm", "report"})
    """Kinds of entries that may be under way for any time. A vote that is late and still counts is one that was sent
    later, and one that counts no more is a no-op; so votes are delayed only where exactly that is in question."""
    forgets_stale: bool = True
    """Drop messages that can have no effect any more; off where a mutation makes stale ones count."""
    habits: frozenset[str] = frozenset()
    """Guards that devices drop, for the mutation tests."""

    @property
    def budget(self) -> Budget:
        """The fault budget."""
        return Budget(self.n, self.u)

    @property
    def setting(self) -> Setting:
        """The same for the checkers."""
        return Setting(
            voters=tuple(NAMES[: self.n]), u=self.u, liars=frozenset(self.liars), reserve=self.reserve
        )


class Entry(NamedTuple):
    """One entry that somebody sent: `args` by `kind`."""

    origin: str
    kind: str
    args: tuple[int, ...] = ()


RESULTS: Final = ("started", "healthy", "confirmed", "reverted", "never_tried", "declined", "fell_back")


def report_entry(
    origin: str, result: str, *, permit: int, new: bool, confirmed: bool, incarnation: int, serial: int
) -> Entry:
    """Return a report; `serial` counts from the last one that the log has."""
    args = (RESULTS.index(result), permit, int(new), int(confirmed), incarnation, serial)
    return Entry(origin, "report", args)


def _command(entry: Entry) -> Command:
    args = entry.args
    match entry.kind:
        case "go":
            return Go(PLAN, *args)
        case "late":
            return Late(PLAN, *args)
        case "halt":
            return Halt(PLAN, of_class=False, reason="")
        case "resume":
            return Resume(PLAN, args[0], ())
        case "rollback":
            return Rollback(PLAN, stop=False)
        case "revoke":
            return Revoke(RELEASE, "", ())
        case "arm":
            stage, generation, incarnation, new = args
            return Arm(PLAN, stage, generation, incarnation, NEW if new else OLD)
        case _:
            return _report(args)


def _report(args: tuple[int, ...]) -> Report:
    result, permit, new, confirmed, incarnation, serial = args
    return Report(
        permit=permit,
        incarnation=incarnation,
        boot=0,
        step=serial,
        result=RESULTS[result],
        reason="",
        class_id=CLASS,
        slot=new,
        digest=NEW if new else OLD,
        number=2 if new else 1,
        counter=0,
        confirmed=bool(confirmed),
        degraded=False,
        spare="sealed",
        spare_digest=OLD if new else NEW,
        nonce_height=0,
        nonce_root=ZERO_DIGEST,
        attestation=b"",
        previous=0,
    )


class Applied(NamedTuple):
    """What an entry did: the log after it, its events, and what that violates."""

    log: int
    events: tuple[RolloutEvent, ...]
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What devices read in one state of the log."""

    plan: str
    generation: int
    at_risk: tuple[str, ...]
    revoked: bool
    permits: Mapping[str, Permit]
    duties: Mapping[str, Duties]
    believed_new: Mapping[str, bool]


@dataclass(slots=True)
class Log:
    """All states of the log that were met, and what every entry does in each."""

    world: World
    app: Rollout = field(default_factory=Rollout)
    states: list[tuple[bytes, Seen]] = field(default_factory=list)
    _ids: dict[tuple[bytes, Seen], int] = field(default_factory=dict)
    _applied: dict[tuple[int, Entry, int], Applied] = field(default_factory=dict)
    _views: dict[int, View] = field(default_factory=dict)
    _renamed: dict[tuple[int, str], int] = field(default_factory=dict)
    _bodies: dict[Entry, tuple[Command, bytes]] = field(default_factory=dict)

    def begin(self) -> int:
        """Return the log in which an approved release has a plan and every candidate has reported."""
        self.app.state = _first_state(self.world)
        log = self._intern(Seen())
        for name in self.world.candidates:
            entry = report_entry(
                name, "started", permit=0, new=False, confirmed=True, incarnation=0, serial=1
            )
            log = self.apply(log, entry, 0).log
        return log

    def apply(self, log: int, entry: Entry, position: int) -> Applied:
        """Return what `entry` does in `log`; a permit that it gives gets the id `position`."""
        key = (log, entry, position)
        found = self._applied.get(key)
        if found is None:
            found = self._applied[key] = self._apply(log, entry, position)
        return found

    def _apply(self, log: int, entry: Entry, position: int) -> Applied:
        snapshot, seen = self.states[log]
        self.app.restore(snapshot)
        setting = self.world.setting
        context = self._context(entry.origin, position)
        self._begin_block(context)
        if entry.kind == "recover":
            self.app.on_recovered(context, entry.origin, entry.args[0])
            return Applied(self._intern(replace(seen, marked=seen.marked | {entry.origin})), (), ())
        if entry not in self._bodies:
            command = _command(entry)
            self._bodies[entry] = command, encode_command(command)
        command, body = self._bodies[entry]
        events = tuple(decode_event(event.body) for event in self.app.apply(context, body))
        seen, complaints = watch(
            seen, setting, entry.origin, command, [(position + i, event) for i, event in enumerate(events)]
        )
        return Applied(self._intern(seen), events, tuple(complaints))

    def _context(self, origin: str, position: int) -> Context:
        return Context(
            height=2,
            epoch=0,
            submission=ZERO_DIGEST,
            command=0,
            origin=origin,
            role="voter",
            voters=self.world.setting.voters,
            observers=(),
            r=self.world.budget.r,
            position=position,
        )

    def _begin_block(self, context: Context) -> None:
        self.app.begin_block(
            BlockContext(
                height=2,
                hash=sha256(self.world.name.encode()),
                epoch=0,
                voters=context.voters,
                observers=(),
                r=context.r,
            )
        )

    def _intern(self, seen: Seen) -> int:
        normalise(self.app.state)
        key = (self.app.snapshot(), seen)
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self.states)
            self.states.append(key)
        return found

    def view(self, log: int) -> View:
        """Return what devices read in `log`."""
        found = self._views.get(log)
        if found is None:
            found = self._views[log] = self._view(log)
        return found

    def _view(self, log: int) -> View:
        self.app.restore(self.states[log][0])
        self._begin_block(self._context("", 0))
        state = self.app.state
        plan = state.plans[PLAN]
        return View(
            plan=plan.state,
            generation=plan.generation,
            at_risk=self.app.at_risk(),
            revoked=state.releases[RELEASE].state == "revoked",
            permits={d.id: d.permit for d in state.devices.values() if d.permit is not None},
            duties={name: self.app.duties(name) for name in self.world.setting.voters},
            believed_new={d.id: d.digest == NEW for d in state.devices.values() if d.reported},
        )

    def rename(self, log: int, names: str) -> int:
        """Return `log` with the voters a, b, c ... called `names`; only those that never report may change."""
        key = (log, names)
        found = self._renamed.get(key)
        if found is None:
            snapshot, seen = self.states[log]
            self.app.restore(snapshot)
            new = dict(zip(NAMES, names, strict=False))
            _rename(self.app.state, new)
            found = self._renamed[key] = self._intern(_renamed(seen, new))
        return found


def _first_state(world: World) -> State:
    manifest = Manifest(
        format=FORMAT,
        swarm=ZERO_DIGEST,
        vendor=CLASS[:16],
        class_uuid=CLASS[16:],
        number=2,
        version="2",
        counter=0,
        oldest=0,
        file_bytes=4096,
        file_hash=ZERO_DIGEST,
        image_digest=NEW,
        chunk_bytes=4096,
        chunk_count=1,
        chunk_root=ZERO_DIGEST,
        use_before=0,
        protocols=(1, 1),
        stores=(1, 1),
        needs=(),
        notes=b"",
    )
    spec = PlanSpec(hold_back=world.hold_back, reserve=world.reserve, retries=world.retries)
    release = Release(id=RELEASE, manifest=manifest, signatures=(), state="approved")
    plan = Plan(
        id=PLAN,
        release=RELEASE,
        class_id=CLASS,
        spec=settle_spec(spec, world.budget),
        origin="a",
        height=1,
    )
    return State(KeySet(0, 1, (b"k" * 32,)), releases={RELEASE: release}, plans={PLAN: plan})


def normalise(state: State) -> None:
    """Take out of the state what only tells when and in which order things happened."""
    for release in state.releases.values():
        release.revocations.sort()
    for device in state.devices.values():
        device.height, device.ran_at, device.boot, device.step = 1, 0, 0, 0
        device.result, device.reason, device.slot = "started", "", 0
    for plan in state.plans.values():
        plan.first_go = min(plan.first_go, 1)
        plan.halted_by = ""
        for names in (plan.gos, plan.lates, plan.halts, plan.missed, plan.dropped):
            names.sort()
        plan.resumes = dict(sorted(plan.resumes.items()))
        plan.rollbacks = dict(sorted(plan.rollbacks.items()))
        plan.ended = dict.fromkeys(sorted(plan.ended), "")
        for stage in plan.stages:
            stage.opened_height, stage.closed_height = 1, min(stage.closed_height, 1)
            stage.missed.sort()
            for member in stage.members.values():
                member.height, member.reason = 1, ""
                if member.state != "armed":
                    member.permit = 0


def _rename(state: State, new: Mapping[str, str]) -> None:
    for release in state.releases.values():
        release.revocations = [new[name] for name in release.revocations]
    for plan in state.plans.values():
        plan.gos = [new[name] for name in plan.gos]
        plan.lates = [new[name] for name in plan.lates]
        plan.halts = [new[name] for name in plan.halts]
        plan.resumes = {new[name]: value for name, value in plan.resumes.items()}
        plan.rollbacks = {new[name]: value for name, value in plan.rollbacks.items()}


def _renamed(seen: Seen, new: Mapping[str, str]) -> Seen:
    return replace(
        seen,
        gos=frozenset((*vote[:3], new[vote[3]]) for vote in seen.gos),
        lates=frozenset((*vote[:4], new[vote[4]]) for vote in seen.lates),
        halts=frozenset((subject, new[name]) for subject, name in seen.halts),
    )
