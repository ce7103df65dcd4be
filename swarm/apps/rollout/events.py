"""The events of `rollout@1`, and the keys under which they are found again."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from swarm.apps.rollout.entries import Names, Reason, ReasonCode, Report, StageNumber
from swarm.apps.rollout.keys import KeySet
from swarm.apps.rollout.manifest import ClassId, Number
from swarm.crypto.digest import tagged_sha256
from swarm.primitives.ids import DeviceId
from swarm.primitives.limits import EVENT_BYTES_MAX
from swarm.wire.codec import U16, U32, U63, Bytes32, Codec, Name, encode

StageKind = Literal["voters", "observers", "consent", "release", "end", "rollback"]
"""`release` ends the hold-back, `end` completes: both without members. `rollback`: whoever runs the new image."""

Refusal = Literal[
    "not-open",
    "frozen",
    "not-approved",
    "revoked",
    "expired",
    "not-a-member",
    "other-incarnation",
    "permit-open",
    "unsettled",
    "target",
    "needs",
    "barrier",
    "at-risk",
]
"""Why an `arm` got no permit here."""

HaltedBy = Annotated[str, msgspec.Meta(max_length=300)]
"""`votes`, `failed:<ids>`, `late`, `contradiction`, `revoked` or `convicted:<id>`."""


class Proposed(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A release is known."""

    release: Bytes32
    class_id: ClassId
    number: Number
    version: str


class Contradiction(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Two releases of one class and number, both signed by k keys: the class is frozen."""

    class_id: ClassId
    number: Number
    first: Bytes32
    second: Bytes32


class Approved(msgspec.Struct, tag=3, array_like=True, forbid_unknown_fields=True, frozen=True):
    """q voters approved a release."""

    release: Bytes32


class KeysChanged(msgspec.Struct, tag=4, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Other release keys are in force; the ids are of the releases that this voided."""

    keys: KeySet
    emergency: bool
    voided: tuple[Bytes32, ...]


class Planned(msgspec.Struct, tag=5, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A plan waits for its first stage; its id is that of the submission."""

    plan: Bytes32
    release: Bytes32


class Opened(msgspec.Struct, tag=6, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A stage is open for these members, or opened and closed where it has none."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    kind: StageKind
    members: Names


class Permitted(msgspec.Struct, tag=7, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A device may boot `target`; the permit's id is this event's position in the log."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    device: Name
    incarnation: U32
    target: Bytes32
    at_risk: Names
    """The other voters at risk here: their attestations do not count for the certificate to act (W5)."""


class Refused(msgspec.Struct, tag=8, array_like=True, forbid_unknown_fields=True, frozen=True):
    """An `arm` got no permit here; ask again when the reason has gone."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    device: Name
    incarnation: U32
    reason: Refusal


class Accepted(msgspec.Struct, tag=9, array_like=True, forbid_unknown_fields=True, frozen=True):
    """The device may confirm what it runs under this permit."""

    permit: U63
    device: Name


class Denied(msgspec.Struct, tag=10, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Event `rejected` of the rules: a healthy device must revert, for this reason."""

    permit: U63
    device: Name
    reason: ReasonCode


class Deadline(msgspec.Struct, tag=11, array_like=True, forbid_unknown_fields=True, frozen=True):
    """b voters found a stage late: who failed by silence, who is missed, and who takes their places."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    round: U16
    failed: Names
    missed: Names
    added: Names


class Closed(msgspec.Struct, tag=12, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A stage closed good."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    confirmed: Names
    failed: Names


class Frozen(msgspec.Struct, tag=13, array_like=True, forbid_unknown_fields=True, frozen=True):
    """No go, no permit to the new image, no acceptance from here; `plan` is 32 zero bytes for a whole class."""

    plan: Bytes32
    class_id: ClassId
    generation: U32
    by: HaltedBy


class Resumed(msgspec.Struct, tag=14, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A frozen plan goes on in a new generation."""

    plan: Bytes32
    generation: U32
    dropped: Names


class RollingBack(msgspec.Struct, tag=15, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Whoever runs the new image may ask for a permit to the old one, in this stage and generation."""

    plan: Bytes32
    stage: StageNumber
    generation: U32


class Abandoned(msgspec.Struct, tag=16, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A frozen plan is given up; nothing moves."""

    plan: Bytes32


class RolledBack(msgspec.Struct, tag=17, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A rollback ended; the stragglers (the first 512) keep their right to ask."""

    plan: Bytes32
    stragglers: Names


class Revoked(msgspec.Struct, tag=18, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A release must never run again where another image can."""

    release: Bytes32
    digest: Bytes32
    reason: Reason


class Completed(msgspec.Struct, tag=19, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A rollout reached everybody it could: counters may be raised, old slots overwritten."""

    plan: Bytes32
    release: Bytes32


class Ran(msgspec.Struct, tag=20, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What ran when: a report as accepted, and the position of the device's event before it (0 = none)."""

    device: Name
    report: Report
    before: U63


class Activated(msgspec.Struct, tag=21, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Another protocol version is spoken from here on."""

    protocol: U16


class Consented(msgspec.Struct, tag=22, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One voter may reboot although nobody else may fail; of a running plan an `opened` follows."""

    plan: Bytes32
    device: Name


RolloutEvent = (
    Proposed
    | Contradiction
    | Approved
    | KeysChanged
    | Planned
    | Opened
    | Permitted
    | Refused
    | Accepted
    | Denied
    | Deadline
    | Closed
    | Frozen
    | Resumed
    | RollingBack
    | Abandoned
    | RolledBack
    | Revoked
    | Completed
    | Ran
    | Activated
    | Consented
)

_EVENT: Final[Codec[RolloutEvent]] = Codec(RolloutEvent, bytes_max=EVENT_BYTES_MAX)


def decode_event(body: bytes) -> RolloutEvent:
    """Return the event of `rollout` in `body` (without the router's tag), or raise `DecodeError`."""
    return _EVENT.decode(body)


def permit_key(plan: bytes, stage: int, generation: int, device: DeviceId, incarnation: int) -> bytes:
    """Return the key (32 bytes) of the newest answer, `permit` or `refused`, to an `arm` with these fields."""
    return tagged_sha256("swarm/fw/1 permit", encode((plan, stage, generation, device, incarnation)))


def stage_key(plan: bytes, stage: int, generation: int) -> bytes:
    """Return the key of the newest event of one stage: `opened`, `deadline`, `closed` good, or `rolling back`."""
    return tagged_sha256("swarm/fw/1 stage", encode((plan, stage, generation)))


def report_key(device: DeviceId, incarnation: int, boot: int, step: int) -> bytes:
    """Return the key of the event `ran` of one report."""
    return tagged_sha256("swarm/fw/1 ran", encode((device, incarnation, boot, step)))


def verdict_key(device: DeviceId, permit: int) -> bytes:
    """Return the key of the newest `accepted` or `rejected` of one permit."""
    return tagged_sha256("swarm/fw/1 verdict", encode((device, permit)))


def plan_key(plan: bytes) -> bytes:
    """Return the key of the newest event that says how a plan stands: from `planned` to `rolled back`.

    Not the plan's id itself, which finds the submission.
    """
    return tagged_sha256("swarm/fw/1 plan", plan)


def release_key(release: bytes) -> bytes:
    """Return the key of the newest event about a release: `proposed`, `contradiction`, `approved`, `revoked`."""
    return tagged_sha256("swarm/fw/1 release", release)


def keys_key(epoch: int) -> bytes:
    """Return the key of the event `keys changed` that began this key epoch."""
    return tagged_sha256("swarm/fw/1 keys", encode(epoch))


def protocol_key(protocol: int) -> bytes:
    """Return the key of the event `activated`."""
    return tagged_sha256("swarm/fw/1 protocol", encode(protocol))


def class_key(class_id: bytes) -> bytes:
    """Return the key of the newest freeze of a whole class."""
    return tagged_sha256("swarm/fw/1 class", class_id)
