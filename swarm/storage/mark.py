"""The mark file beside a store: two alternating checksummed slots, written and synced after the transaction (R10).

The slots lie in separate blocks of the disk, so a write that a power cut tears spoils one of them only; the other
holds the mark of the turn before. SQLite's own recovery drops everything after one flipped bit in its WAL without a
word. The mark is how that is noticed.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.crypto.digest import sha256
from swarm.primitives.errors import StoreError
from swarm.storage.chain import Mark

SLOT_OFFSETS: Final = (0, 4096)
"""One slot in each of two disk blocks of 4 KiB."""

_MAGIC: Final = b"swmark1\0"
_SLOT: Final = struct.Struct(">8s32sQ32sQ")
_CHECKSUM_BYTES: Final = 32
_SLOT_BYTES: Final = _SLOT.size + _CHECKSUM_BYTES


def mark_path(store: Path) -> Path:
    """Return where the mark of the store at `store` lies."""
    return store.with_name(store.name + ".mark")


def encode_slot(seal: bytes, mark: Mark) -> bytes:
    """Return the bytes of one slot; `seal` (32 bytes) ties the mark to one store."""
    body = _SLOT.pack(_MAGIC, seal, mark.count, mark.hash, mark.boot)
    return body + sha256(body)


def decode_slot(seal: bytes, data: bytes) -> Mark | None:
    """Return the mark in a slot, None when it is torn, damaged or another store's."""
    body, checksum = data[: _SLOT.size], data[_SLOT.size : _SLOT_BYTES]
    if len(data) < _SLOT_BYTES or sha256(body) != checksum:
        return None
    magic, owner, count, digest, boot = _SLOT.unpack(body)
    return Mark(count, digest, boot) if magic == _MAGIC and owner == seal else None


@dataclass(frozen=True, slots=True)
class Slots:
    """Both slots as read; None for one that is torn, damaged or foreign."""

    marks: tuple[Mark | None, Mark | None]

    @property
    def newest_index(self) -> int | None:
        """Index of the slot with the newer mark; None when neither is readable."""
        first, second = self.marks
        if first is None or second is None:
            return 0 if first is not None else 1 if second is not None else None
        return 0 if (first.count, first.boot) >= (second.count, second.boot) else 1

    @property
    def newest(self) -> Mark | None:
        """The newer mark; None when neither slot is readable."""
        index = self.newest_index
        return None if index is None else self.marks[index]

    @property
    def torn(self) -> tuple[int, ...]:
        """Indexes of the unreadable slots."""
        return tuple(i for i, mark in enumerate(self.marks) if mark is None)


def read_slots(path: Path, seal: bytes) -> Slots:
    """Return both slots of the mark file; a missing file reads as two unreadable slots. Raises `StoreError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    first, second = (decode_slot(seal, data[at : at + _SLOT_BYTES]) for at in SLOT_OFFSETS)
    return Slots((first, second))


def create_mark(path: Path, seal: bytes, mark: Mark) -> None:
    """Write a new mark file with both slots saying `mark`, and sync it; the caller syncs the folder."""
    data = bytearray(SLOT_OFFSETS[1] + 4096)
    for at in SLOT_OFFSETS:
        data[at : at + _SLOT_BYTES] = encode_slot(seal, mark)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class MarkFile:
    """The open mark of a store that this process holds."""

    __slots__ = ("_fd", "_next", "_seal")

    def __init__(self, path: Path, seal: bytes) -> None:
        """Open the mark for writing; the older or torn slot is written first. Raises `OSError`."""
        newest = read_slots(path, seal).newest_index
        self._seal = seal
        self._next = 0 if newest is None else 1 - newest
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, mark: Mark) -> None:
        """Make `mark` durable in the slot that does not hold the newest one. Raises `OSError`."""
        # The file never changes its size, so the data alone has to reach the disk.
        os.pwrite(self._fd, encode_slot(self._seal, mark), SLOT_OFFSETS[self._next])
        os.fdatasync(self._fd)
        self._next = 1 - self._next

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
