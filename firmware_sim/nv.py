"""Small durable records: two copies of everything, a checksum on each, and statements that are never taken back."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace

from firmware_sim.errors import Refused, check
from firmware_sim.flash import NorFlash
from firmware_sim.slots import NV_SECTOR

_HEAD = struct.Struct("<IH")
_SUM = 8
DIGEST = 32
SEALED_MAX = 4
REVOKED_MAX = 16


def checksum(data: bytes) -> bytes:
    """Return 8 bytes that tell a whole record from a torn one."""
    return hashlib.sha256(b"firmware-sim/nv/1\0" + data).digest()[:_SUM]


def padded(flash: NorFlash, data: bytes) -> bytes:
    """Fill up to the next write unit with erased bytes."""
    return data + bytes([flash.erased]) * (-len(data) % flash.align)


class TwoCopies:
    """One record in two sectors, each whole or recognisably broken.

    A write renews the stale copy first and then the other, so that a cut leaves the old or the new record and
    decay of one copy loses nothing.
    """

    def __init__(self, flash: NorFlash, sectors: tuple[int, int]) -> None:
        self.flash = flash
        self.sectors = sectors

    def _copy(self, sector: int) -> tuple[int, bytes] | None:
        number, length = _HEAD.unpack(self.flash.read(sector, _HEAD.size))
        end = _HEAD.size + length
        if end + _SUM > NV_SECTOR:
            return None
        body = self.flash.read(sector, end + _SUM)
        return (number, body[_HEAD.size : end]) if checksum(body[:end]) == body[end:] else None

    def read(self) -> bytes | None:
        """Return the newest whole record, None if both copies are broken."""
        whole = [copy for copy in map(self._copy, self.sectors) if copy is not None]
        return max(whole)[1] if whole else None

    def write(self, payload: bytes) -> None:
        """Replace the record; when this returns, both copies hold it."""
        check(_HEAD.size + len(payload) + _SUM <= NV_SECTOR, f"a record of {len(payload)} bytes")
        first, second = (self._copy(sector) for sector in self.sectors)
        newest_second = second is not None and (first is None or second[0] > first[0])
        number = max(copy[0] if copy else 0 for copy in (first, second)) + 1
        order = (0, 1) if newest_second else (1, 0)
        for index in order:
            self._put(self.sectors[index], number, payload)

    def _put(self, sector: int, number: int, payload: bytes) -> None:
        body = _HEAD.pack(number, len(payload)) + payload
        self.flash.erase(sector)
        self.flash.program(sector, padded(self.flash, body + checksum(body)))

    def repair(self) -> None:
        """Renew a broken or stale copy from the other one; nothing where both are whole or both are broken."""
        first, second = (self._copy(sector) for sector in self.sectors)
        if first == second:
            return
        if first is None or (second is not None and second[0] > first[0]):
            if second is not None:
                self._put(self.sectors[0], *second)
        else:
            self._put(self.sectors[1], *first)


class Counter:
    """The security counter: never goes down."""

    def __init__(self, flash: NorFlash, sectors: tuple[int, int]) -> None:
        self.cell = TwoCopies(flash, sectors)

    def read(self) -> int | None:
        """Return the counter, None if both copies are broken."""
        payload = self.cell.read()
        return None if payload is None or len(payload) != 4 else int.from_bytes(payload, "little")

    def raise_to(self, value: int) -> None:
        """Set the counter unless it is already as high."""
        if value > (self.read() or 0):
            self.cell.write(value.to_bytes(4, "little"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRecords:
    """What the agent tells the bootloader: digests it sealed and digests that were revoked, oldest first."""

    sealed: tuple[bytes, ...] = ()
    revoked: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the record as bytes."""
        return bytes([len(self.sealed), len(self.revoked)]) + b"".join(self.sealed + self.revoked)

    @classmethod
    def decode(cls, payload: bytes) -> BootRecords | None:
        """Return the record, None if the bytes are not one."""
        if len(payload) < 2 or len(payload) != 2 + DIGEST * (payload[0] + payload[1]):
            return None
        digests = tuple(payload[i : i + DIGEST] for i in range(2, len(payload), DIGEST))
        return cls(sealed=digests[: payload[0]], revoked=digests[payload[0] :])

    def with_sealed(self, digest: bytes) -> BootRecords:
        """Add a sealed digest; the oldest makes room."""
        rest = tuple(other for other in self.sealed if other != digest)
        return replace(self, sealed=(*rest, digest)[-SEALED_MAX:])

    def with_revoked(self, digest: bytes) -> BootRecords:
        """Add a revoked digest. Raises Refused where the list is full: forgetting one would allow it again."""
        if digest in self.revoked:
            return self
        if len(self.revoked) >= REVOKED_MAX:
            raise Refused("revoked-full")
        return replace(self, revoked=(*self.revoked, digest))


class RecordStore:
    """The boot records on the flash."""

    def __init__(self, flash: NorFlash, sectors: tuple[int, int]) -> None:
        self.cell = TwoCopies(flash, sectors)

    def read(self) -> BootRecords | None:
        """Return the records, None if both copies are broken."""
        payload = self.cell.read()
        return None if payload is None else BootRecords.decode(payload)

    def write(self, records: BootRecords) -> None:
        """Store the records unless they are already there."""
        if records != self.read():
            self.cell.write(records.encode())


class Statements:
    """An append-only list of (height, value): what a device signs is durable here before it is sent."""

    ENTRY = 32

    def __init__(self, flash: NorFlash, sector: int) -> None:
        self.flash = flash
        self.sector = sector

    def _places(self) -> range:
        return range(self.sector, self.sector + NV_SECTOR, self.ENTRY)

    def read(self) -> dict[int, bytes]:
        """Return every whole statement by height."""
        found = {}
        for place in self._places():
            entry = self.flash.read(place, self.ENTRY)
            if checksum(entry[:24]) == entry[24:]:
                found[int.from_bytes(entry[:8], "little")] = entry[8:24]
        return found

    def append(self, height: int, value: bytes) -> None:
        """Store a statement of 16 bytes; durable on return. Raises Refused where the sector is full."""
        check(len(value) == 16, "a statement has 16 bytes")
        for place in self._places():
            if self.flash.is_blank(place, self.ENTRY):
                body = height.to_bytes(8, "little") + value
                self.flash.write(place, body + checksum(body))
                return
        raise Refused("statements-full")


class Starts:
    """Starts of a confirmed image since it last said that it is well, for the fallback after confirmation."""

    START, WELL = b"\1", b"\2"

    def __init__(self, flash: NorFlash, sector: int) -> None:
        self.flash = flash
        self.sector = sector

    def _marks(self) -> bytes:
        cells = self.flash.read(self.sector, NV_SECTOR)[:: self.flash.align]
        return cells.rstrip(bytes([self.flash.erased]))

    def unwell(self) -> int:
        """Return the number of starts since the last good word; a torn mark counts as a start."""
        marks = self._marks()
        return len(marks) - 1 - marks.rfind(self.WELL)

    def note_start(self) -> None:
        """Count a start, before the image runs. A full sector counts no further."""
        self._append(self.START)

    def note_well(self) -> None:
        """Forget the starts so far."""
        if (len(self._marks()) + 1) * self.flash.align >= NV_SECTOR:
            self.flash.erase(self.sector)
        elif self.unwell():
            self._append(self.WELL)

    def _append(self, mark: bytes) -> None:
        place = self.sector + len(self._marks()) * self.flash.align
        if place < self.sector + NV_SECTOR:
            self.flash.write(place, padded(self.flash, mark))
