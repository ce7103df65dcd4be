"""A NOR flash: sectors, write units, wear, places that fail, and a power cut at any operation.

One operation is one driver call: a write of at most `program_max` bytes or the erase of one sector. A program
operation only moves bits away from the erased value; a unit is written once between erases. Either rule broken
is a FlashError, as on parts with error correction, even where the bits would happen to come out right.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from firmware_sim.errors import PowerLoss, check
from firmware_sim.torn import Shape, tear

PROGRAM_MAX = 256
"""Bytes of one write call: the page of a common SPI NOR part."""


class Operation(NamedTuple):
    """One driver call, before it has any effect."""

    number: int
    kind: str
    """`write` or `erase`."""
    offset: int
    data: bytes
    """What the area will hold afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where the power goes: before operation `op`, or in the middle of it in this shape."""

    op: int
    shape: Shape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """An area in which a share of the writes has no effect, silently, as worn cells do."""

    start: int
    end: int
    rate: float
    seed: int = 0


class Snapshot(NamedTuple):
    """Everything a flash holds, to go back to."""

    data: bytes
    programmed: bytes
    wear: tuple[int, ...]
    digests: tuple[bytes, ...]


class NorFlash:
    """A NOR flash of the given sectors.

    `sectors` are sizes in bytes in address order (equal or mixed), `align` the write unit (1, 4 or 8 bytes),
    `erased` the value of an erased byte (0xff or 0x00). `observer` is called before each operation, with the
    medium still unchanged.
    """

    def __init__(
        self,
        sectors: Sequence[int],
        *,
        align: int = 8,
        erased: int = 0xFF,
        program_max: int = PROGRAM_MAX,
        failing: Sequence[Failing] = (),
    ) -> None:
        check(align in {1, 4, 8}, f"write unit of {align} bytes; 1, 4 or 8")
        check(erased in {0x00, 0xFF}, f"erased value {erased:#x}; 0x00 or 0xff")
        check(all(size > 0 and size % align == 0 for size in sectors), "a sector is a multiple of the unit")
        self.align = align
        self.erased = erased
        self.program_max = program_max
        self.sectors = tuple(sectors)
        self.starts = tuple(sum(self.sectors[:i]) for i in range(len(self.sectors)))
        self._sector_of = {start: i for i, start in enumerate(self.starts)}
        self.size = sum(self.sectors)
        self.data = bytearray([erased]) * self.size
        self.programmed = bytearray(self.size // align)
        self.wear = [0] * len(self.sectors)
        self.ops = 0
        self.cut: Cut | None = None
        self.observer: Callable[[Operation], None] | None = None
        self.failing = tuple(failing)
        self._luck = [random.Random(f"failing/{area.seed}") for area in self.failing]
        self._digests = [b""] * len(self.sectors)
        self._ones = b"\1" * (program_max // align)

    # ---------------------------------------------------------------------------- operations

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes; raises FlashError outside of the flash."""
        check(
            offset >= 0 and length >= 0 and offset + length <= self.size, f"read outside: {offset}+{length}"
        )
        return bytes(self.data[offset : offset + length])

    def is_blank(self, offset: int, length: int) -> bool:
        """Return whether every byte reads as erased."""
        return self.data.count(self.erased, offset, offset + length) == length

    def write(self, offset: int, data: bytes) -> None:
        """Program erased units; one operation.

        Raises FlashError if unaligned, too long, outside, or on a unit that is not erased (the caller's
        defect), PowerLoss at the cut.
        """
        length = len(data)
        end = offset + length
        check(offset >= 0 and end <= self.size, f"write outside: {offset}+{length}")
        check(0 < length <= self.program_max, f"write of {length} bytes; 1 to {self.program_max}")
        check(not (offset % self.align or length % self.align), f"unaligned write: {offset}+{length}")
        first, last = offset // self.align, end // self.align
        clean = self.programmed.find(1, first, last) < 0
        check(clean, f"write to a unit that is not erased: {offset}+{length}")
        self._tick("write", offset, data)
        if self.failing and self._fails(offset, end):
            return
        self.data[offset:end] = data
        self.programmed[first:last] = self._ones[: last - first]
        self._digests[self.sector_at(offset)] = b""

    def erase(self, offset: int) -> None:
        """Erase the sector that starts at `offset`; one operation. Raises FlashError, PowerLoss as `write`."""
        sector = self._sector_of.get(offset, -1)
        check(sector >= 0, f"no sector starts at {offset}")
        size = self.sectors[sector]
        blank = bytes([self.erased]) * size
        self._tick("erase", offset, blank)
        self.wear[sector] += 1
        self.data[offset : offset + size] = blank
        self.programmed[offset // self.align : (offset + size) // self.align] = bytes(size // self.align)
        self._digests[sector] = b""

    def program(self, offset: int, data: bytes) -> None:
        """Write any aligned length, in calls of at most `program_max` bytes."""
        for start in range(0, len(data), self.program_max):
            self.write(offset + start, data[start : start + self.program_max])

    def sector_at(self, offset: int) -> int:
        """Return the index of the sector that holds `offset`."""
        low, high = 0, len(self.starts) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.starts[middle] <= offset:
                low = middle
            else:
                high = middle - 1
        return low

    # ---------------------------------------------------------------------------- power, decay

    def cut_power(self, operation: Operation, shape: Shape | None) -> None:
        """Leave the medium as a cut of this operation would: untouched, or torn in this shape."""
        if shape is None:
            return
        kind, offset, data = operation.kind, operation.offset, operation.data
        before = bytes(self.data[offset : offset + len(data)])
        self._put(offset, tear(kind, shape, offset, before, data, self.erased))
        if kind == "erase":
            self.wear[self.sector_at(offset)] += 1

    def flip(self, bit: int) -> None:
        """Invert one bit of the medium, as decay does."""
        offset = bit // 8
        unit = offset - offset % self.align
        rotten = bytearray(self.data[unit : unit + self.align])
        rotten[offset - unit] ^= 1 << bit % 8
        self._put(unit, bytes(rotten))

    def _put(self, offset: int, data: bytes) -> None:
        align = self.align
        blank = bytes([self.erased]) * align
        self.data[offset : offset + len(data)] = data
        first = offset // align
        self.programmed[first : first + len(data) // align] = bytes(
            [data[i : i + align] != blank for i in range(0, len(data), align)]
        )
        self._digests[self.sector_at(offset)] = b""

    def _tick(self, kind: str, offset: int, data: bytes) -> None:
        self.ops += 1
        if self.observer is not None:
            self.observer(Operation(self.ops, kind, offset, data))
        if self.cut is not None and self.cut.op == self.ops:
            cut, self.cut = self.cut, None
            self.cut_power(Operation(self.ops, kind, offset, data), cut.shape)
            raise PowerLoss(self.ops)

    def _fails(self, offset: int, end: int) -> bool:
        return any(
            area.start <= offset and end <= area.end and luck.random() < area.rate
            for area, luck in zip(self.failing, self._luck, strict=True)
        )

    # ---------------------------------------------------------------------------- whole media

    def snapshot(self) -> Snapshot:
        """Return a copy of all that survives a power cut."""
        self.media_hash()
        return Snapshot(bytes(self.data), bytes(self.programmed), tuple(self.wear), tuple(self._digests))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of a flash of the same sectors; the count of operations starts at 0."""
        self.data[:] = snapshot.data
        self.programmed[:] = snapshot.programmed
        self.wear[:] = snapshot.wear
        self._digests[:] = snapshot.digests
        self._luck = [random.Random(f"failing/{area.seed}") for area in self.failing]
        self.ops = 0

    def media_hash(self) -> bytes:
        """Return a digest of the content: equal digest, equal future. Wear is not part of it."""
        digests = self._digests
        for sector, start in enumerate(self.starts):
            if not digests[sector]:
                end = start + self.sectors[sector]
                content = hashlib.blake2b(self.data[start:end], digest_size=16)
                content.update(self.programmed[start // self.align : end // self.align])
                digests[sector] = content.digest()
        return hashlib.blake2b(b"".join(digests), digest_size=16).digest()
