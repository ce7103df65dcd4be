"""The one interface between an agent and whatever installs its image: synchronous, policy-free, without network.

A back end decides nothing. It keeps the states of FIRMWARE section 6 durable in the right order, refuses what would
break that order, and says at every start what the disk knows. Health, votes, permits and W5 are the caller's.

| state | entered by | left by |
|---|---|---|
| idle | `confirm`, a revert, `discard` | `begin` -> fetching |
| fetching | `begin` | `seal` -> staged; `discard` -> idle |
| staged | `seal` | `arm` -> armed; `discard` -> idle |
| armed | `arm`: intent, then selection, both durable | next start -> trial; `withdraw` -> staged |
| trial | the bootloader counted an attempt and started the slot | `confirm` -> idle; `revert`, bootloader -> idle |

All methods but `activate`, `revert` and `decline` may be called again after a crash and then do what is missing.
Every refusal is an `InstallError` with a reason code for the report; the running version is untouched by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from swarm.primitives.errors import SwarmError


class InstallReason(StrEnum):
    """Why a back end refused: the reason code of the report."""

    NOT_SETTLED = "not-settled"
    """The running slot is unconfirmed, or an intent is open: the other slot is not touched."""
    NO_SPACE = "no-space"
    MEDIUM = "medium"
    """The disk or the tool underneath failed; what was durable still is."""
    BAD_PLAN = "bad-plan"
    WRONG_CLASS = "wrong-class"
    OLD_COUNTER = "old-counter"
    OVERSIZED = "oversized"
    REVOKED = "revoked"
    WRONG_CHUNK = "wrong-chunk"
    """An index outside the release, or a length that is not this chunk's."""
    INCOMPLETE = "incomplete"
    WRONG_CHUNK_ROOT = "wrong-chunk-root"
    WRONG_FILE = "wrong-file"
    WRONG_DIGEST = "wrong-digest"
    IMAGE_REFUSED = "image-refused"
    """The image verifier said no; the detail begins with its own reason code."""
    NOT_SEALED = "not-sealed"
    PERMIT_USED = "permit-used"
    PERMIT_DECLINED = "permit-declined"
    INTENT_WRITTEN = "intent-written"
    """A decline comes too late: the permit was acted upon."""
    NOT_ARMED = "not-armed"
    NOT_IN_TRIAL = "not-in-trial"
    COUNTER_TOO_HIGH = "counter-too-high"
    OUT_OF_RANGE = "out-of-range"
    RECORDS_BROKEN = "records-broken"
    NOTHING_BOOTABLE = "nothing-bootable"


class InstallError(SwarmError):
    """A refusal of a back end; `reason` goes into the report, the running version goes on."""

    def __init__(self, reason: InstallReason, detail: str = "") -> None:
        """Keep the reason code and an optional detail for people."""
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class Capability(StrEnum):
    """What a back end can do beyond the port's minimum; the caller adapts, the plan says what it needs."""

    RANDOM_WRITE = "random-write"
    """Chunks in any order; without it only the next missing one."""
    RESUME = "resume"
    READ_BOOTED = "read-booted"
    """The bytes of the running and the sealed image can be read: chunk reuse, serving peers."""
    NATIVE_VERIFY = "native-verify"
    """Signature and counter are checked again by what starts the image."""
    HARDWARE_COUNTER = "hardware-counter"
    MEASURED_BOOT = "measured-boot"
    MULTIPLE_ATTEMPTS = "multiple-attempts"
    ARM_PERSISTS = "arm-persists"
    """The selection survives a power cut before the restart."""
    CATCHES_HANG = "catches-hang"
    REVERT_AFTER_CONFIRM = "revert-after-confirm"


class SlotState(StrEnum):
    """What a slot holds."""

    EMPTY = "empty"
    FETCHING = "fetching"
    STAGED = "staged"
    ARMED = "armed"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    PREVIOUS = "previous"
    """Sealed, and confirmed before the running one: what a rollback arms."""
    FAILED = "failed"


class Outcome(StrEnum):
    """What became of the last intent, as the disk tells it at a start."""

    NONE = "none"
    ARMED = "armed"
    """The intent is durable, the trial has not started: select again, or withdraw."""
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    NEVER_TRIED = "never-tried"
    FELL_BACK = "fell-back"
    """The confirmed image did not become healthy; the bootloader went back by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPlan:
    """What shall be in the spare slot: facts of an approved manifest, checked by the caller against the log.

    Ids and digests 32 bytes, vendor and class 16. `chunk_root` is the root (RFC 6962) over the chunks in order,
    all of `chunk_bytes` but the last. `image_digest` is the MCUboot hash, or the root of the sorted file list.
    """

    release: bytes
    number: int
    version: str
    counter: int
    vendor: bytes
    device_class: bytes
    file_bytes: int
    file_digest: bytes
    image_digest: bytes
    chunk_bytes: int
    chunk_count: int
    chunk_root: bytes

    def length_of(self, index: int) -> int:
        """Return the length of chunk `index`; 0 for one that does not exist."""
        if not 0 <= index < self.chunk_count:
            return 0
        return min(self.chunk_bytes, self.file_bytes - index * self.chunk_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootNonce:
    """The last head that was applied before the boot: height and root (32 bytes) of the log."""

    height: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What the agent decided to do, once, under `permit` (the permit's position in the log, above 0).

    `release` must be sealed in the other slot: the new image, or the previous one in a rollback. `attempts` starts
    of at most `trial_ms` each before the bootloader goes back.
    """

    release: bytes
    permit: int
    nonce: BootNonce
    attempts: int
    trial_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStatus:
    """One slot; `release`, `digest` empty and numbers 0 where nothing whole is in it."""

    state: SlotState
    release: bytes = b""
    digest: bytes = b""
    number: int = 0
    counter: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """What the media say now. `spare_bytes`: the largest file that still fits. `boots` counts starts of all time."""

    booted: str
    slots: tuple[tuple[str, SlotStatus], ...]
    settled: bool
    counter: int
    boots: int
    spare_bytes: int
    revoked: tuple[bytes, ...]

    def slot(self, name: str) -> SlotStatus:
        """Return the slot of that name; raises `KeyError`."""
        return dict(self.slots)[name]

    @property
    def running(self) -> SlotStatus:
        """The slot that was started."""
        return self.slot(self.booted)

    @property
    def spare(self) -> SlotStatus:
        """The other slot."""
        return next(status for name, status in self.slots if name != self.booted)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootOutcome:
    """The last intent joined with what was started; `permit` 0 and `release` empty when there is none.

    `reason` is a reason code, empty where nothing went wrong. `nonce` is the intent's.
    """

    outcome: Outcome
    permit: int = 0
    release: bytes = b""
    attempts: int = 0
    reason: str = ""
    nonce: BootNonce | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """Which chunks are there: chunk i is bit 7 - i % 8 of byte i // 8; bits behind the last chunk are 0."""

    count: int
    bits: bytes

    def __contains__(self, index: object) -> bool:
        """Answer whether chunk `index` is there."""
        if not isinstance(index, int) or not 0 <= index < self.count:
            return False
        return bool(self.bits[index // 8] & (0x80 >> index % 8))

    def missing(self) -> list[int]:
        """Return the indexes that are not there, in order."""
        return [index for index in range(self.count) if index not in self]

    @property
    def is_full(self) -> bool:
        """Whether every chunk is there."""
        return not self.missing()

    @classmethod
    def of(cls, count: int, present: set[int]) -> Bitmap:
        """Return the bitmap of `count` chunks in which those of `present` are there."""
        bits = bytearray((count + 7) // 8)
        for index in present:
            bits[index // 8] |= 0x80 >> index % 8
        return cls(count=count, bits=bytes(bits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A restart that the caller now carries out: it ends its process with `exit_code`, or the board resets it."""

    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What the device says it runs. `kind` `self-report` proves nothing; `signature` is empty then."""

    kind: str
    slot: str
    digest: bytes
    nonce: bytes
    signature: bytes = b""


class Staging(Protocol):
    """A release on its way into the spare slot."""

    @property
    def plan(self) -> InstallPlan:
        """The plan it was begun with."""

    def have(self) -> Bitmap:
        """Return the chunks that a power cut now would leave; never more."""

    def write_chunk(self, index: int, data: bytes) -> None:
        """Keep a chunk that the caller has checked against the chunk root; durable with the next `checkpoint`.

        Raises `InstallError` (WRONG_CHUNK, NO_SPACE, MEDIUM).
        """

    def checkpoint(self) -> None:
        """Make all written chunks durable, then the bitmap that claims them. Raises `InstallError`."""


class InstallBackend(Protocol):
    """Two slots and what starts them. One process uses it, and it is the one that the bootloader started."""

    @property
    def name(self) -> str:
        """`directory`, `simulated`; later `rauc`, `mender`, `tryboot`."""

    def capabilities(self) -> frozenset[Capability]:
        """Return what this back end can do."""

    def status(self) -> DeviceStatus:
        """Read the media; valid after any crash. Raises `InstallError` (MEDIUM)."""

    def outcome(self) -> BootOutcome:
        """Return what became of the last intent; asked once at each start, before anything else."""

    def begin(self, plan: InstallPlan) -> Staging:
        """Take up fetching: the same plan goes on where its durable bitmap ends, another one starts anew.

        Never touches a sealed slot yet. Raises `InstallError` (NOT_SETTLED, BAD_PLAN, WRONG_CLASS, OLD_COUNTER, REVOKED, OVERSIZED,
        NO_SPACE, MEDIUM).
        """

    def seal(self, staging: Staging) -> SlotStatus:
        """Verify everything, write the spare slot, read it back, and seal it, durably; again: the same answer.

        Raises `InstallError` (INCOMPLETE, WRONG_CHUNK_ROOT, WRONG_FILE, WRONG_DIGEST, IMAGE_REFUSED, OLD_COUNTER,
        NOT_SETTLED, REVOKED, NO_SPACE, MEDIUM). After any of them the slot is not sealed.
        """

    def discard(self) -> None:
        """Drop what is fetched, and a staged image that was never confirmed. Raises `InstallError` (NOT_SETTLED)."""

    def decline(self, permit: int) -> None:
        """Make durable that `permit` will never be acted upon; only then may the refusal be sent.

        Raises `InstallError` (INTENT_WRITTEN) when it already was.
        """

    def arm(self, intent: Intent) -> None:
        """Make the intent durable, then the selection. The same intent again selects again.

        Re-verifies the seal. Raises `InstallError` (NOT_SETTLED, NOT_SEALED, WRONG_DIGEST, REVOKED, OLD_COUNTER,
        PERMIT_USED, PERMIT_DECLINED, MEDIUM).
        """

    def withdraw(self) -> None:
        """Take back an armed intent before its start: selection and intent, durably; again: nothing.

        Afterwards `outcome` is NEVER_TRIED and the permit is used up. Raises `InstallError` (NOT_ARMED).
        """

    def activate(self) -> Restart:
        """Ask for the restart into the armed slot. Raises `InstallError` (NOT_ARMED)."""

    def confirm(self) -> None:
        """Make the running trial the confirmed image, durably before it returns; again: nothing.

        Raises `InstallError` (NOT_IN_TRIAL) when the trial was reverted meanwhile: the revert stands.
        """

    def revert(self, reason: str) -> Restart:
        """End the running trial with `reason`, durably, and ask for the restart into the confirmed slot.

        Raises `InstallError` (NOT_IN_TRIAL).
        """

    def raise_counter(self, value: int) -> None:
        """Raise the security counter; a lower value is nothing.

        Raises `InstallError` (NOT_SETTLED; COUNTER_TOO_HIGH above the confirmed image's own).
        """

    def revoke(self, release: bytes) -> None:
        """Write a revoked release into the boot records, durably; again: nothing."""

    def read_booted(self, offset: int, count: int) -> bytes:
        """Return bytes of the running image's file. Raises `InstallError` (OUT_OF_RANGE, WRONG_DIGEST, MEDIUM)."""

    def read_sealed(self, offset: int, count: int) -> bytes:
        """Return bytes of the sealed spare image's file; raises as above and NOT_SEALED."""

    def attest(self, nonce: bytes) -> Attestation:
        """Return what the device says or proves it runs; `nonce` is 32 bytes of a final head."""
