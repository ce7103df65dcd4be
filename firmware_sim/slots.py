"""Where everything lies on the flash, and the trailer at the end of a slot, as MCUboot lays it out.

From the end of a slot upwards: magic (16 bytes) | image_ok | copy_done | swap_info | TLV sizes | swap_size |
swap status. Each field takes 8 bytes (BOOT_MAX_ALIGN); a status record takes one write unit. Below the status
lie cells for further trial starts, which MCUboot, with its single attempt, does not have.
A flag has the value 1 where it is set and the erased value where not; anything else is the trace of a torn write.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from firmware_sim.errors import check
from firmware_sim.flash import PROGRAM_MAX, Failing, NorFlash

MAGIC: Final = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
FIELD: Final = 8
IMAGE_OK: Final = 24
COPY_DONE: Final = 32
SWAP_INFO: Final = 40
SWAP_SIZE: Final = 56
"""Distances from the end of the slot; 48 is kept for the sizes of unprotected TLVs."""
ATTEMPTS_MAX: Final = 8
NV_SECTOR: Final = 1024
"""Bytes of the small sectors that hold counter, records, progress and statements."""


class Mark(StrEnum):
    """What a magic or a flag says."""

    UNSET = "unset"
    SET = "set"
    BAD = "bad"


class Swap(IntEnum):
    """Swap types, with the numbers of MCUboot."""

    NONE = 1
    TEST = 2
    PERM = 3
    REVERT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot: `start` in bytes, `count` sectors of `sector` bytes; the last one holds the trailer."""

    start: int
    count: int
    sector: int

    @property
    def end(self) -> int:
        return self.start + self.count * self.sector

    @property
    def trailer(self) -> int:
        """Offset of the sector that holds the trailer."""
        return self.end - self.sector

    def at(self, index: int) -> int:
        """Return the offset of a sector of this slot."""
        check(0 <= index < self.count, f"sector {index} of a slot with {self.count}")
        return self.start + index * self.sector


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLayout:
    """The flash of a device for images of up to `image_sectors` sectors of `sector` bytes.

    The secondary slot has one sector more: an update starts at its sector 1, so that a swap needs no scratch.
    """

    image_sectors: int = 8
    sector: int = 4096
    align: int = 8
    erased: int = 0xFF

    def __post_init__(self) -> None:
        check(self.image_sectors >= 1, "an image has at least one sector")
        needed = SWAP_SIZE + (2 * self.image_sectors + ATTEMPTS_MAX) * self.align
        check(needed <= self.sector, f"a trailer of {needed} bytes does not fit a sector of {self.sector}")
        check(self.progress_cells(self.image_sectors) <= NV_SECTOR, "too many chunks for the progress sector")

    def progress_cells(self, count: int) -> int:
        """Return the bytes that a progress sector with `count` cells needs."""
        return 48 + count * self.align

    @property
    def image_max(self) -> int:
        """Largest image in bytes."""
        return self.image_sectors * self.sector

    @property
    def primary(self) -> Slot:
        return Slot(start=0, count=self.image_sectors + 1, sector=self.sector)

    @property
    def secondary(self) -> Slot:
        return Slot(start=self.primary.end, count=self.image_sectors + 2, sector=self.sector)

    def nv(self, index: int) -> int:
        """Return the offset of a small sector: 0, 1 counter; 2, 3 records; 4 progress; 5 statements; 6 starts."""
        return self.secondary.end + index * NV_SECTOR

    @property
    def counter(self) -> tuple[int, int]:
        return self.nv(0), self.nv(1)

    @property
    def records(self) -> tuple[int, int]:
        return self.nv(2), self.nv(3)

    @property
    def progress(self) -> int:
        return self.nv(4)

    @property
    def statements(self) -> int:
        return self.nv(5)

    @property
    def starts(self) -> int:
        return self.nv(6)

    def make_flash(self, failing: tuple[Failing, ...] = (), *, program_max: int = PROGRAM_MAX) -> NorFlash:
        """Return an erased flash of this layout; `program_max` is what one write call takes."""
        big = self.primary.count + self.secondary.count
        sizes = [self.sector] * big + [NV_SECTOR] * 7
        return NorFlash(sizes, align=self.align, erased=self.erased, program_max=program_max, failing=failing)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """A trailer as read. `swap` and `swap_size` are 0 where there is none or nonsense."""

    magic: Mark
    image_ok: Mark
    copy_done: Mark
    swap: int
    swap_size: int

    @property
    def on_trial(self) -> bool:
        """Whether the slot was swapped in and nobody has confirmed it; a torn flag counts as written."""
        return self.magic is Mark.SET and self.copy_done is not Mark.UNSET and self.image_ok is Mark.UNSET


class Trailer:
    """Reads and writes the trailer of one slot."""

    def __init__(self, flash: NorFlash, slot: Slot, layout: DeviceLayout) -> None:
        self.flash = flash
        self.slot = slot
        self.layout = layout
        self.records_max = 2 * layout.image_sectors
        self.status = slot.end - SWAP_SIZE - self.records_max * flash.align
        self.attempts = self.status - ATTEMPTS_MAX * flash.align

    def read(self) -> SlotState:
        """Return the state of the slot."""
        end = self.slot.end
        kind = self.flash.data[end - SWAP_INFO] & 0x0F
        size = int.from_bytes(self.flash.read(end - SWAP_SIZE, 4), "little")
        return SlotState(
            magic=self._magic(),
            image_ok=self._flag(IMAGE_OK),
            copy_done=self._flag(COPY_DONE),
            swap=kind if kind in {Swap.TEST, Swap.PERM, Swap.REVERT} else 0,
            swap_size=size if size <= self.layout.image_max else 0,
        )

    def _magic(self) -> Mark:
        found = self.flash.read(self.slot.end - len(MAGIC), len(MAGIC))
        if found == MAGIC:
            return Mark.SET
        return Mark.UNSET if found.count(self.flash.erased) == len(MAGIC) else Mark.BAD

    def _flag(self, distance: int) -> Mark:
        value = self.flash.data[self.slot.end - distance]
        if value == 1:
            return Mark.SET
        return Mark.UNSET if value == self.flash.erased else Mark.BAD

    def is_blank(self) -> bool:
        """Return whether the whole trailer sector reads as erased."""
        return self.flash.is_blank(self.slot.trailer, self.slot.sector)

    def is_blank_but_status(self) -> bool:
        """Return whether everything in the trailer sector but the status records reads as erased."""
        after = self.status + self.records_max * self.flash.align
        return self.flash.is_blank(
            self.slot.trailer, self.status - self.slot.trailer
        ) and self.flash.is_blank(after, self.slot.end - after)

    def erase(self) -> None:
        """Erase the trailer sector."""
        self.flash.erase(self.slot.trailer)

    def write_magic(self) -> None:
        """Write the magic, which makes what was written before it count."""
        self.flash.write(self.slot.end - len(MAGIC), MAGIC)

    def write_flag(self, distance: int, value: int = 1) -> None:
        """Write image_ok, copy_done or swap_info."""
        self.flash.write(self.slot.end - distance, self._unit(bytes([value])))

    def write_swap_size(self, size: int) -> None:
        """Write the number of bytes to swap."""
        self.flash.write(self.slot.end - SWAP_SIZE, self._unit(size.to_bytes(4, "little")))

    def _unit(self, value: bytes) -> bytes:
        missing = -len(value) % self.flash.align
        return value + bytes([self.flash.erased]) * missing

    def order_revert(self, size: int) -> None:
        """Order the swap back, in the trailer of the secondary slot; nothing where it is ordered."""
        state = self.read()
        if (state.magic, state.copy_done, state.image_ok) == (Mark.SET, Mark.SET, Mark.UNSET):
            return
        if not self.is_blank():
            self.erase()
        self.write_flag(COPY_DONE)
        self.write_swap_size(size)
        self.write_magic()

    # ---------------------------------------------------------------------------- cells

    def is_marked(self, offset: int) -> bool:
        """Return whether a cell holds anything; a torn record counts, because it was written after the step."""
        return not self.flash.is_blank(offset, self.flash.align)

    def mark(self, offset: int) -> bool:
        """Write a cell and return whether it holds anything now."""
        self.flash.write(offset, self._unit(b"\1"))
        return self.is_marked(offset)

    def status_cell(self, record: int) -> int:
        """Return the offset of a status record."""
        check(0 <= record < self.records_max, f"status record {record} of {self.records_max}")
        return self.status + record * self.flash.align

    def attempt_cell(self, attempt: int) -> int:
        """Return the offset of the cell of a further trial start."""
        check(0 <= attempt < ATTEMPTS_MAX, f"attempt {attempt} of {ATTEMPTS_MAX}")
        return self.attempts + attempt * self.flash.align

    def records_done(self) -> int:
        """Return one more than the last record that holds anything: a hole is a failed write, not a step undone."""
        for record in range(self.records_max - 1, -1, -1):
            if self.is_marked(self.status_cell(record)):
                return record + 1
        return 0

    def attempts_used(self) -> int:
        """Return the number of further trial starts."""
        return sum(self.is_marked(self.attempt_cell(i)) for i in range(ATTEMPTS_MAX))
