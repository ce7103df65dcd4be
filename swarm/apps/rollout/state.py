"""Everything that the log says about firmware at one position, and the position itself.

Plain records that encode to the snapshot as they stand: dicts keep their order through it, so that a restored device
iterates exactly as one that never stopped.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from swarm.apps.application import Context, Event
from swarm.apps.rollout.entries import ReasonCode, Result, Spare, StageNumber
from swarm.apps.rollout.events import HaltedBy, RolloutEvent, StageKind
from swarm.apps.rollout.keys import KeySet, Rotation
from swarm.apps.rollout.manifest import ClassId, Manifest, Signatures
from swarm.apps.rollout.spec import PlanSpec
from swarm.primitives.ids import DeviceId
from swarm.primitives.quorum import Budget
from swarm.wire.codec import U16, U32, U63, Bytes32, Name, encode

ReleaseState = Literal["proposed", "approved", "revoked", "voided"]
PlanState = Literal["planned", "active", "frozen", "rolling back", "rolled back", "completed", "abandoned"]
MemberState = Literal["waiting", "armed", "confirmed", "failed"]


class Release(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One release. `contradicted`: another one has its number; `suspended`: k keys asked for its revocation."""

    id: Bytes32
    manifest: Manifest
    signatures: Signatures
    state: ReleaseState = "proposed"
    contradicted: bool = False
    suspended: bool = False
    completed: bool = False
    approved_height: U63 = 0
    approvals: list[Name] = []
    revocations: list[Name] = []
    asked_approve: list[Name] = []
    """Operators that asked for an approval; likewise below."""
    asked_revoke: list[Name] = []

    @property
    def is_wanted(self) -> bool:
        """Approved and neither revoked nor in question: may be offered and permitted."""
        return self.state == "approved" and not self.contradicted and not self.suspended


class Permit(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """The one open permit of a device."""

    id: U63
    plan: Bytes32
    stage: StageNumber
    generation: U32
    incarnation: U32
    target: Bytes32
    forward: bool
    """To the plan's image; False = back to the old one."""
    accepted: bool = False
    denied: bool = False
    """Healthy, but turned down here: what it reports next is no failure of the image."""


class Device(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What the log knows of a device: its last report, its open permit, and what others found out about it."""

    id: Name
    incarnation: U32 = 0
    recovering: bool = False
    """A recovery record (R12) has no later report of the new incarnation."""
    convicted: bool = False
    reported: bool = False
    boot: U32 = 0
    step: U32 = 0
    result: Result = "started"
    reason: ReasonCode = ""
    class_id: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    slot: U16 = 0
    digest: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    number: U63 = 0
    counter: U32 = 0
    confirmed: bool = False
    degraded: bool = False
    attested: bool = False
    """The report carried an attestation; whether it verifies is for whoever has the key."""
    spare: Spare = "empty"
    spare_digest: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    height: U63 = 0
    ran_at: U63 = 0
    permit: Permit | None = None


class Member(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One device in a stage."""

    state: MemberState = "waiting"
    permit: U63 = 0
    reason: ReasonCode = ""
    height: U63 = 0


class Stage(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One stage: who was named, and how it went for each. Missed ones are named by the plan."""

    number: StageNumber
    kind: StageKind
    generation: U32
    step: U16
    opened_height: U63
    closed_height: U63 = 0
    round: U16 = 1
    """0 is the wait for the go: a late of that time must not count for the open stage."""
    members: dict[Name, Member] = {}
    missed: list[Name] = []
    ready: list[Name] = []

    @property
    def is_open(self) -> bool:
        """Answer whether the stage has not closed."""
        return self.closed_height == 0

    def with_state(self, *states: MemberState) -> list[DeviceId]:
        """Return the members in one of `states`, in the order in which they were drawn."""
        return [id for id, member in self.members.items() if member.state in states]


class Plan(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """One rollout. The tallies at the end die with the stage, the generation and the epoch (W6, W7, W15)."""

    id: Bytes32
    release: Bytes32
    class_id: ClassId
    spec: PlanSpec
    origin: Name
    height: U63
    state: PlanState = "planned"
    started: bool = False
    generation: U32 = 0
    stages: list[Stage] = []
    step: U16 = 0
    taken: U16 = 0
    """Devices of the step at hand that stages have named and not missed."""
    released: bool = False
    """The hold-back has ended."""
    halted_by: HaltedBy = ""
    first_go: U63 = 0
    """Height of the first go, 0 = none yet: the draw waits for the block after it."""
    seed: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    missed: list[Name] = []
    dropped: list[Name] = []
    """Failed, or left out by a resume: out of this plan."""
    ended: dict[Name, ReasonCode] = {}
    """In a rollback: who still runs the new image and cannot go back, and why."""
    consented: list[Name] = []
    """Voters that may get a permit without a budget (W9), one at a time, while no stage names them."""
    tail_failed: U16 = 0
    gos: list[Name] = []
    lates: list[Name] = []
    halts: list[Name] = []
    resumes: dict[Name, tuple[Name, ...]] = {}
    rollbacks: dict[Name, bool] = {}
    consents: dict[Name, list[Name]] = {}
    """Device -> who agreed."""
    asked_go: list[Name] = []
    asked_halt: list[Name] = []
    asked_rollback: dict[Name, bool] = {}
    asked_consent: dict[Name, Name] = {}
    """Operator -> device."""
    asked_resume: dict[Name, tuple[Name, ...]] = {}
    """Operator -> devices to leave out."""

    @property
    def holds_class(self) -> bool:
        """Answer whether this is the active plan of its class: begun, and not ended."""
        return self.started and self.state in ("active", "frozen", "rolling back")

    @property
    def open_stage(self) -> Stage | None:
        """The stage that is open, if any; only the last one can be."""
        return self.stages[-1] if self.stages and self.stages[-1].is_open else None

    def clear_tallies(self) -> None:
        """Forget every vote that carries a stage or a generation."""
        self.gos, self.lates, self.halts = [], [], []
        self.resumes, self.rollbacks, self.consents = {}, {}, {}
        self.asked_go, self.asked_halt = [], []
        self.asked_rollback, self.asked_consent, self.asked_resume = {}, {}, {}


class ClassState(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One class of devices: frozen as a whole by votes or by a contradiction."""

    frozen_by: HaltedBy = ""
    halts: list[Name] = []
    asked_halt: list[Name] = []


class State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """All of it."""

    keys: KeySet
    epoch: U32 = 0
    protocol: U16 = 0
    rotations: dict[Bytes32, Rotation] = {}
    backing: dict[Name, Bytes32] = {}
    """Member -> the change of keys that it wants."""
    releases: dict[Bytes32, Release] = {}
    plans: dict[Bytes32, Plan] = {}
    classes: dict[ClassId, ClassState] = {}
    devices: dict[Name, Device] = {}
    activations: dict[Name, U16] = {}

    def device(self, id: DeviceId) -> Device:
        """Return what is known of `id`, making a record on first use."""
        found = self.devices.get(id)
        if found is None:
            found = self.devices[id] = Device(id=id)
        return found

    def plans_of(self, class_id: bytes) -> list[Plan]:
        """Return the plans of one class in the order in which they were made."""
        return [plan for plan in self.plans.values() if plan.class_id == class_id]

    def active_plan(self, class_id: bytes) -> Plan | None:
        """Return the active plan of a class, if any (W14)."""
        return next((plan for plan in self.plans_of(class_id) if plan.holds_class), None)

    def is_class_frozen(self, class_id: bytes) -> bool:
        """Answer whether a whole class stands still."""
        found = self.classes.get(class_id)
        return found is not None and found.frozen_by != ""

    def release_with(self, class_id: bytes, digest: bytes) -> Release | None:
        """Return the newest release of a class with this image digest, if any; one that was approved comes first."""
        found = None
        for release in self.releases.values():
            if release.manifest.class_id == class_id and release.manifest.image_digest == digest:
                if found is None or _rank(release) > _rank(found):
                    found = release
        return found

    def is_image_revoked(self, class_id: bytes, digest: bytes) -> bool:
        """Answer whether a release of a class with this image is revoked: no other number brings the image back."""
        return any(
            release.state == "revoked"
            and release.manifest.class_id == class_id
            and release.manifest.image_digest == digest
            for release in self.releases.values()
        )

    def newest(self, class_id: bytes, *, completed: bool) -> Release | None:
        """Return the approved release of a class with the highest number, only of the completed ones or of all."""
        best = None
        for release in self.releases.values():
            if release.manifest.class_id != class_id or release.state != "approved":
                continue
            if completed and not release.completed:
                continue
            if best is None or release.manifest.number > best.manifest.number:
                best = release
        return best


def _rank(release: Release) -> tuple[bool, int]:
    return release.state in ("approved", "revoked"), release.manifest.number


class Here:
    """One position of the log: the state, who speaks, who are the voters in force, and the events made here."""

    __slots__ = ("budget", "context", "events", "state", "swarm", "voters")

    def __init__(self, state: State, context: Context, swarm: bytes) -> None:
        """Stand at `context` in the swarm with id `swarm`; votes of an earlier epoch die first (W15)."""
        self.state = state
        self.context = context
        self.swarm = swarm
        self.voters = frozenset(context.voters)
        n = len(context.voters)
        self.budget = Budget(n, (n - 1 - context.r) // 2)
        self.events: list[Event] = []
        begin_epoch(state, context.epoch)

    @property
    def height(self) -> int:
        """Height of the block."""
        return self.context.height

    @property
    def origin(self) -> DeviceId:
        """Who signed the entry."""
        return self.context.origin

    @property
    def quorum(self) -> int:
        """Voters that a step needs."""
        return self.budget.q

    @property
    def brake(self) -> int:
        """Voters that a brake needs: b = min(u, r) + 1 (FIRMWARE section 1)."""
        return min(self.budget.u, self.budget.r) + 1

    @property
    def is_voter(self) -> bool:
        """Answer whether a voter in force speaks."""
        return self.origin in self.voters

    @property
    def is_operator(self) -> bool:
        """Answer whether an operator speaks."""
        return self.context.role == "operator"

    def count(self, names: list[DeviceId]) -> int:
        """Return how many distinct voters in force are among `names`."""
        return len(self.voters.intersection(names))

    def vote(self, tally: list[DeviceId]) -> int:
        """Add the speaker to `tally`, once, and return how many voters in force are in it."""
        note(tally, self.origin)
        return self.count(tally)

    @property
    def next_position(self) -> int:
        """Log position of the next event made here."""
        return self.context.position + len(self.events)

    def emit(self, event: RolloutEvent, key: bytes | None = None) -> None:
        """Make an event, found again by `key`."""
        self.events.append(Event(encode(event), key))


def note(names: list[DeviceId], name: DeviceId) -> None:
    """Add `name` to `names`, once."""
    if name not in names:
        names.append(name)


def begin_epoch(state: State, epoch: int) -> None:
    """Let go, late, halt, resume and their like die when another epoch is in force; approvals are counted anew."""
    if epoch == state.epoch:
        return
    state.epoch = epoch
    state.activations = {}
    for plan in state.plans.values():
        plan.clear_tallies()
    for of_class in state.classes.values():
        of_class.halts, of_class.asked_halt = [], []
