"""Boot records: two copies each, with sequence number and checksum; the newest whole copy is what holds.

The older or broken copy is the one that is written, and synced before anybody acts on it. So a power cut spoils at most
the copy that was being replaced, and the record is then what it was before. There are four records, by who writes them:
`trial` and `confirmed` (the agent while it lives, the launcher while no agent does), `floor` (likewise: what only
grows), `starts` (the launcher alone). Only the standard library: the launcher carries this file with it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, TypeVar

from swarm.install.filesystem import FileSystem

MAGIC: Final = b"swboot1\0"
_HEAD: Final = struct.Struct(">8sQ32s")
COPY_BYTES_MAX: Final = 1 << 20
"""More is no boot record; the list of revoked releases is the only one that grows."""

PHASES: Final = ("none", "armed", "trial", "reverted", "withdrawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The last intent and what became of it (FIRMWARE section 6).

    `armed`: the intent is durable, the selection perhaps not. `trial`: the launcher counted an attempt.
    `reverted`, `withdrawn`: over, with the reason. Confirmed is what the other record says: a trial whose permit is
    `Confirmed.permit` has ended well. Digests and release ids are hexadecimal.
    """

    NAME: ClassVar[str] = "trial"

    phase: str = "none"
    slot: str = ""
    base: str = ""
    release: str = ""
    digest: str = ""
    permit: int = 0
    nonce_height: int = 0
    nonce_root: str = ""
    attempts: int = 0
    attempts_max: int = 0
    trial_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The slot that is started when nothing is under trial, and how it came to be that one.

    `permit` is the permit whose trial it confirmed (0: set up by hand), `previous` the digest that was confirmed
    before. `reason` is not empty after the launcher fell back to this slot by itself: then `permit` is the newest one
    that had been acted upon, and `failed` the digest that was left.
    """

    NAME: ClassVar[str] = "confirmed"

    slot: str
    digest: str
    permit: int = 0
    previous: str = ""
    reason: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What only grows: security counter, newest permit acted upon, newest permit declined, revoked releases."""

    NAME: ClassVar[str] = "floor"

    counter: int = 0
    acted: int = 0
    declined: int = 0
    revoked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Starts of all time, and starts of the confirmed image `digest` since one was last healthy.

    The digest is there because a new image must not pay for the starts of the one before.
    """

    NAME: ClassVar[str] = "starts"

    boots: int = 0
    unhealthy: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The chunks of a release that are durable: not a boot record, kept in the same way. `bits` in hexadecimal."""

    NAME: ClassVar[str] = "progress"

    release: str = ""
    bits: str = ""


AnyRecord = Trial | Confirmed | Floor | Starts | Progress
Record = TypeVar("Record", bound=AnyRecord)


def encode_copy(record: AnyRecord, sequence: int) -> bytes:
    """Return the bytes of one copy: magic, sequence u64, SHA-256, JSON."""
    body = json.dumps(asdict(record), sort_keys=True, separators=(",", ":")).encode("ascii")
    return _HEAD.pack(MAGIC, sequence, _checksum(record.NAME, sequence, body)) + body


def decode_copy(kind: type[Record], data: bytes) -> tuple[int, Record] | None:
    """Return (sequence, record) of a copy; None when it is torn, damaged, another record's or ill-typed."""
    sequence, body = _whole(kind.NAME, data)
    try:
        return (sequence, _typed(kind, json.loads(body))) if sequence else None
    except (ValueError, TypeError, RecursionError):
        return None


class RecordPair:
    """The two copies of one record below a folder."""

    __slots__ = ("_disk", "_folder", "_name")

    def __init__(self, disk: FileSystem, folder: str, name: str) -> None:
        """Name the pair; nothing is read yet."""
        self._disk = disk
        self._folder = folder
        self._name = name

    def path(self, copy: int) -> str:
        """Return where copy 0 or 1 lies."""
        return f"{self._folder}/{self._name}.{copy}"

    def read(self, kind: type[Record]) -> Record | None:
        """Return the newest whole copy; None when there is none, which the caller must treat as a failure."""
        copies = [found for copy in (0, 1) if (found := self._copy(kind, copy)) is not None]
        return max(copies, key=lambda found: found[0])[1] if copies else None

    def write(self, record: AnyRecord) -> None:
        """Make `record` the newest, durably; raises `OSError`, and then the old one still holds."""
        first, second = self._sequence(0), self._sequence(1)
        older = 0 if first <= second else 1
        path = self.path(older)
        is_new = not self._disk.exists(path)
        self._disk.write_bytes(path, encode_copy(record, 1 + max(first, second)))
        self._disk.fsync(path)
        if is_new:
            self._disk.fsync_dir(self._folder)

    def sync(self) -> None:
        """Make durable what a reader sees: a killed writer may have left a copy that is only in memory."""
        for path in filter(self._disk.exists, (self.path(0), self.path(1))):
            self._disk.fsync(path)

    def _sequence(self, copy: int) -> int:
        """Return a copy's sequence number, 0 when it is broken: a broken one is written first."""
        return _whole(self._name, self._bytes(copy))[0]

    def _copy(self, kind: type[Record], copy: int) -> tuple[int, Record] | None:
        return decode_copy(kind, self._bytes(copy))

    def _bytes(self, copy: int) -> bytes:
        try:
            return self._disk.read_bytes(self.path(copy))
        except OSError:
            # A copy that cannot be read is a broken copy; if both are, the caller fails safe.
            return b""


def read_record(disk: FileSystem, folder: str, kind: type[Record]) -> Record | None:
    """Return the record of a kind in `folder`, None when both copies are broken."""
    return RecordPair(disk, folder, kind.NAME).read(kind)


def write_record(disk: FileSystem, folder: str, record: AnyRecord) -> None:
    """Make a record durable; raises `OSError`."""
    RecordPair(disk, folder, record.NAME).write(record)


def create_records(disk: FileSystem, folder: str, slot: str, digest: str, counter: int) -> None:
    """Write both copies of all four records for a device that starts with `slot`; the caller syncs the parent."""
    for record in (Trial(), Confirmed(slot=slot, digest=digest), Floor(counter=counter), Starts()):
        for _ in range(2):
            write_record(disk, folder, record)


def sync_records(disk: FileSystem, folder: str) -> None:
    """Make durable what a reader of the records sees, names included."""
    for kind in (Trial, Confirmed, Floor, Starts):
        RecordPair(disk, folder, kind.NAME).sync()
    disk.fsync_dir(folder)


# ----------------------------------------------------------------------------- parts


def _whole(name: str, data: bytes) -> tuple[int, bytes]:
    """Return (sequence, JSON) of a copy; sequence 0 when it is torn, damaged or another record's."""
    if not _HEAD.size <= len(data) <= COPY_BYTES_MAX:
        return 0, b""
    magic, sequence, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != MAGIC or checksum != _checksum(name, sequence, body):
        return 0, b""
    return sequence, body


def _checksum(name: str, sequence: int, body: bytes) -> bytes:
    return hashlib.sha256(MAGIC + name.encode("ascii") + b"\0" + sequence.to_bytes(8, "big") + body).digest()


def _typed(kind: type[Record], found: Any) -> Record:
    """Return the record that a JSON object spells; raises `TypeError` or `ValueError`."""
    if not isinstance(found, dict):
        raise TypeError("not an object")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
    }
    record = kind(**values)
    for field in fields(record):
        if not _fits(getattr(record, field.name), str(field.type)):
            raise TypeError(field.name)
    if isinstance(record, Trial) and record.phase not in PHASES:
        raise ValueError(record.phase)
    return record


def _fits(value: Any, annotation: str) -> bool:
    if annotation == "int":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if annotation == "str":
        return isinstance(value, str)
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
