"""What the core asks of an install back end, and what comes back: data, run by `installer` outside of the turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm.install.port import (
    Attestation,
    Bitmap,
    BootOutcome,
    Capability,
    DeviceStatus,
    InstallError,
    InstallPlan,
    Intent,
    Restart,
    SlotStatus,
)

Source = Literal["booted", "sealed"]
"""Whose bytes: the running image, or the sealed one in the other slot."""


# ------------------------------------------------------------------------------------------ operations


@dataclass(frozen=True, slots=True)
class Inspect:
    """Read the media; answered by an `Inspection`."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Take up fetching; answered by the `Bitmap` of what is durable."""

    plan: InstallPlan


@dataclass(frozen=True, slots=True)
class WriteChunks:
    """Write chunks that were checked against the chunk root; answered by the `Bitmap` of what is durable now."""

    chunks: tuple[tuple[int, bytes], ...]
    checkpoint: bool


@dataclass(frozen=True, slots=True)
class CopyChunks:
    """Copy chunks of `indexes` that the running image holds as well, by the leaf hashes of the release.

    Answered by the indexes that were copied; they are written, checked and durable.
    """

    plan: InstallPlan
    leaves: tuple[bytes, ...]
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Seal:
    """Verify and seal what was fetched; answered by the `SlotStatus` of the spare slot."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop what is fetched or staged."""


@dataclass(frozen=True, slots=True)
class ArmBoot:
    """Make the intent and then the selection durable."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take an armed intent back before its start."""


@dataclass(frozen=True, slots=True)
class Activate:
    """Ask for the restart into the armed slot; answered by a `Restart`."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Make the running trial the confirmed image."""


@dataclass(frozen=True, slots=True)
class Revert:
    """End the running trial; answered by a `Restart`."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeclinePermit:
    """Make durable that a permit is never acted upon."""

    permit: int


@dataclass(frozen=True, slots=True)
class RaiseCounter:
    """Raise the security counter."""

    value: int


@dataclass(frozen=True, slots=True)
class RevokeRelease:
    """Write a revocation into the boot records."""

    release: bytes


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """Read bytes of an image; answered by them."""

    source: Source
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class ReadLeaves:
    """Read an image and hash its chunks; answered by the leaf hashes in order."""

    source: Source
    file_bytes: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Attest:
    """Say or prove what runs; answered by an `Attestation`. `nonce` = 32 bytes of a final head."""

    nonce: bytes


Operation = (
    Inspect
    | Begin
    | WriteChunks
    | CopyChunks
    | Seal
    | Discard
    | ArmBoot
    | Withdraw
    | Activate
    | Confirm
    | Revert
    | DeclinePermit
    | RaiseCounter
    | RevokeRelease
    | ReadChunk
    | ReadLeaves
    | Attest
)


# ------------------------------------------------------------------------------------------ answers


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the media say, what became of the last intent, and what the back end can do."""

    status: DeviceStatus
    outcome: BootOutcome
    capabilities: frozenset[Capability]


Reply = (
    Inspection
    | Bitmap
    | SlotStatus
    | Restart
    | Attestation
    | bytes
    | tuple[int, ...]
    | tuple[bytes, ...]
    | None
)


# ------------------------------------------------------------------------------------------ actions and inputs


@dataclass(frozen=True, slots=True)
class Install:
    """Action: run an operation and return its `InstallDone` in a later turn; in the order of the turns."""

    operation: Operation
    tag: int


@dataclass(frozen=True, slots=True)
class Reboot:
    """Action: end the process with this code, or reset the board. Nothing of this device happens afterwards."""

    restart: Restart


@dataclass(frozen=True, slots=True)
class Healthy:
    """Action: tell whoever watches this process that its self test passed."""


FirmwareAction = Install | Reboot | Healthy


@dataclass(frozen=True, slots=True)
class InstallDone:
    """Input: what an operation gave; `answer` means nothing where there is an `error`."""

    tag: int
    operation: Operation
    answer: Reply
    error: InstallError | None = None
