"""The commands of `rollout@1`: what voters, operators and devices log (FIRMWARE section 3)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from swarm.apps.rollout.keys import PublicKeys
from swarm.apps.rollout.manifest import ClassId, Signatures
from swarm.apps.rollout.spec import PlanSpec
from swarm.primitives.limits import (
    COMMAND_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    ROLLOUT_REASON_MAX,
    STAGE_MEMBERS_MAX,
)
from swarm.wire.codec import U16, U32, U63, Bytes32, Codec, Name, encode

TAIL: Final = 2**16 - 1
"""The stage number of an `arm` outside of any stage: a latecomer's, for the newest completed release (W14)."""

StageNumber = U16
Reason = Annotated[str, msgspec.Meta(max_length=ROLLOUT_REASON_MAX)]
ReasonCode = Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[a-z0-9-]*\Z")]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=STAGE_MEMBERS_MAX)]

Result = Literal[
    "started",
    "healthy",
    "confirmed",
    "reverted",
    "never_tried",
    "declined",
    "fell_back",
    "revoked_running",
]
"""What a report is about. `started`: a start in a settled slot; the others as FIRMWARE sections 4 to 6 say."""

Spare = Literal["empty", "partial", "sealed", "failed"]


class Propose(msgspec.Struct, tag=1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Put a release on the log: its manifest's bytes and signatures by release keys."""

    manifest: Annotated[bytes, msgspec.Meta(max_length=MANIFEST_BYTES_MAX)]
    signatures: Signatures


class Approve(msgspec.Struct, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A voter approves a release; an operator asks for it."""

    release: Bytes32


class ChangeKeys(msgspec.Struct, tag=3, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Change the release keys. A voter that logs the same change approves it, an operator asks for it."""

    k: U16
    keys: PublicKeys
    signatures: Signatures


class MakePlan(msgspec.Struct, tag=4, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Plan a rollout; the plan's id is the id of the submission that holds this command."""

    release: Bytes32
    spec: PlanSpec


class Go(msgspec.Struct, tag=5, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A voter finds the next stage due; an operator answers a pause."""

    plan: Bytes32
    stage: StageNumber
    generation: U32


class Ready(msgspec.Struct, tag=6, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A member holds the sealed image; counts for the barrier only."""

    plan: Bytes32
    stage: StageNumber


class Arm(msgspec.Struct, tag=7, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A device asks for a permit to boot the image with digest `target` from its spare slot."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    incarnation: U32
    target: Bytes32


class Report(msgspec.Struct, tag=8, array_like=True, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a device says of itself (FIRMWARE section 6); its number is (incarnation, boot, step)."""

    permit: U63
    """Id of the permit that it is about; 0 = none."""
    incarnation: U32
    boot: U32
    step: U32
    result: Result
    reason: ReasonCode
    class_id: ClassId
    slot: U16
    """The booted slot."""
    digest: Bytes32
    """Digest of the running image."""
    number: U63
    """Its release number; 0 = none is known."""
    counter: U32
    """The security counter in force on the device."""
    confirmed: bool
    degraded: bool
    spare: Spare
    spare_digest: Bytes32
    """Digest of the image in the other slot, 32 zero bytes when there is no whole one."""
    nonce_height: U63
    nonce_root: Bytes32
    """Height and log root of the last head that was applied before this boot."""
    attestation: Annotated[bytes, msgspec.Meta(max_length=512)]
    previous: U63
    """Log position of this device's previous report, 0 = none: what the device claims."""

    @property
    def serial(self) -> tuple[int, int, int]:
        """The number that grows from report to report."""
        return self.incarnation, self.boot, self.step


class Late(msgspec.Struct, tag=9, array_like=True, forbid_unknown_fields=True, frozen=True):
    """By my own monotonic clock this stage is open for too long in this round; round 0 = it waits for its go."""

    plan: Bytes32
    stage: StageNumber
    generation: U32
    round: U16


class Halt(msgspec.Struct, tag=10, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Stop a plan, or a class when `of_class` (then `subject` is vendor and class)."""

    subject: Bytes32
    of_class: bool
    reason: Reason


class Resume(msgspec.Struct, tag=11, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Let a frozen plan of this generation go on without some devices; lifts the freeze of its class too."""

    plan: Bytes32
    generation: U32
    without: Names


class Rollback(msgspec.Struct, tag=12, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Take the image back everywhere; with `stop` give a frozen plan up and move nothing."""

    plan: Bytes32
    stop: bool


class Revoke(msgspec.Struct, tag=13, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Let a release never run again. k release signatures alone freeze it."""

    release: Bytes32
    reason: Reason
    signatures: Signatures


class Consent(msgspec.Struct, tag=14, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Let one voter reboot although nobody may fail (W9): an operator asks, then all other voters agree."""

    plan: Bytes32
    device: Name


class Activate(msgspec.Struct, tag=15, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Speak this protocol version from here on."""

    protocol: U16


Command = (
    Propose
    | Approve
    | ChangeKeys
    | MakePlan
    | Go
    | Ready
    | Arm
    | Report
    | Late
    | Halt
    | Resume
    | Rollback
    | Revoke
    | Consent
    | Activate
)

_COMMAND: Final[Codec[Command]] = Codec(Command, bytes_max=COMMAND_BYTES_MAX)


def encode_command(command: Command) -> bytes:
    """Return the bytes of a command, for `Submit("rollout", ...)`."""
    return encode(command)


def decode_command(body: bytes) -> Command:
    """Return the command in `body`, or raise `DecodeError`."""
    return _COMMAND.decode(body)
