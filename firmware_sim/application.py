"""What the application on a device may do with the media: fill the spare slot, order a swap, confirm.

Every method checks on the media, never in memory, and may be called again after a cut at any operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.bootloader import UPDATE_SECTOR, Verdict, Verifier
from firmware_sim.errors import Refused
from firmware_sim.flash import NorFlash
from firmware_sim.nv import DIGEST, BootRecords, Counter, RecordStore, Starts, Statements, checksum, padded
from firmware_sim.slots import IMAGE_OK, NV_SECTOR, SWAP_INFO, DeviceLayout, Mark, SlotState, Swap, Trailer

PROGRESS_HEAD = 48
"""Bytes before the cells of the progress sector: digest, size, a checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsView:
    """What lies in the slots, as far as the application can see."""

    primary: SlotState
    secondary: SlotState
    running: Verdict
    spare: Verdict
    """At the place of an update."""
    previous: Verdict
    """At the place where a swap leaves the old image."""
    counter: int | None
    records: BootRecords | None


class Application:
    """The update calls of a running image; `verify` is the same function that the bootloader has."""

    def __init__(self, flash: NorFlash, layout: DeviceLayout, verify: Verifier) -> None:
        self.flash = flash
        self.layout = layout
        self.verify = verify
        self.primary = Trailer(flash, layout.primary, layout)
        self.secondary = Trailer(flash, layout.secondary, layout)
        self.counter = Counter(flash, layout.counter)
        self.record_store = RecordStore(flash, layout.records)
        self.statements = Statements(flash, layout.statements)
        self.starts = Starts(flash, layout.starts)

    def view(self) -> SlotsView:
        """Read both slots, the counter and the records; changes nothing."""
        return SlotsView(
            primary=self.primary.read(),
            secondary=self.secondary.read(),
            running=self._verdict(self.layout.primary.start),
            spare=self._verdict(self.layout.secondary.at(UPDATE_SECTOR)),
            previous=self._verdict(self.layout.secondary.at(0)),
            counter=self.counter.read(),
            records=self.record_store.read(),
        )

    def is_settled(self) -> bool:
        """Return whether the running image is confirmed; until then the other slot is the only way back."""
        return not self.primary.read().on_trial

    def read_running(self, offset: int, length: int) -> bytes:
        """Read from the running image: to serve peers, or to reuse blocks."""
        return self.flash.read(self.layout.primary.start + offset, length)

    def read_spare(self, offset: int, length: int) -> bytes:
        """Read from the place of an update."""
        return self.flash.read(self.layout.secondary.at(UPDATE_SECTOR) + offset, length)

    # ---------------------------------------------------------------------------- fetching

    def begin(self, digest: bytes, size: int) -> None:
        """Prepare the spare slot for an image of `size` bytes; keeps what was already written of this one.

        Where the whole image lies there already, as after a revert, every chunk is noted at once.

        Raises Refused: `not-settled`, `size`.
        """
        self._demand_settled()
        if not 0 < size <= self.layout.image_max:
            raise Refused("size")
        if not self.secondary.is_blank():
            self.secondary.erase()
        head = digest + size.to_bytes(4, "little")
        head += checksum(head)
        if self.flash.read(self.layout.progress, len(head)) == head and self._notes_are_sane():
            return
        if not self.flash.is_blank(self.layout.progress, NV_SECTOR):
            self.flash.erase(self.layout.progress)
        self.flash.program(self.layout.progress, padded(self.flash, head))
        image = self._verdict(self.layout.secondary.at(UPDATE_SECTOR))
        if image.ok and (image.digest, image.size) == (digest, size):
            for index in range(len(self.have())):
                self.note_chunk(index)

    def staging(self) -> tuple[bytes, int] | None:
        """Return (digest, size) of the image being fetched, None if there is none."""
        head = self.flash.read(self.layout.progress, DIGEST + 12)
        if checksum(head[:-8]) != head[-8:]:
            return None
        return head[:DIGEST], int.from_bytes(head[DIGEST : DIGEST + 4], "little")

    def have(self) -> list[bool]:
        """Return for each sector-sized chunk of the image being fetched whether it is durable."""
        staging = self.staging()
        if staging is None:
            return []
        count = -(-staging[1] // self.layout.sector)
        return [self._is_note(self.flash.data[self._cell(i)]) for i in range(count)]

    def _is_note(self, value: int) -> bool:
        """Whether this is a 1 or the trace of one; zeros are what an erase leaves that was cut."""
        return value != self.flash.erased and bool(value & 1) and (self.flash.erased == 0xFF or value == 1)

    def _notes_are_sane(self) -> bool:
        values = self.flash.read(self.layout.progress, NV_SECTOR)[PROGRESS_HEAD :: self.flash.align]
        return all(value == self.flash.erased or self._is_note(value) for value in values)

    def write_chunk(self, index: int, data: bytes) -> None:
        """Write one chunk (a sector, the last may be shorter) and then note it; a noted one is left alone.

        The caller has verified `data`. Raises Refused: `not-settled`, `not-begun`, `chunk`, `medium`.
        """
        self._demand_settled()
        have, staging = self.have(), self.staging()
        if staging is None:
            raise Refused("not-begun")
        length = min(self.layout.sector, staging[1] - index * self.layout.sector)
        if not 0 <= index < len(have) or len(data) != length:
            raise Refused("chunk")
        if not have[index]:
            self.store_chunk(index, data)

    def store_chunk(self, index: int, data: bytes) -> None:
        """Program a chunk, read it back, then note it."""
        self.program_chunk(index, data)
        self.note_chunk(index)

    def note_chunk(self, index: int) -> None:
        """Note a chunk as durable."""
        self.flash.write(self._cell(index), padded(self.flash, b"\1"))

    def program_chunk(self, index: int, data: bytes) -> None:
        """Program a chunk and read it back. Raises Refused `medium` if it does not read as written."""
        target = self.layout.secondary.at(UPDATE_SECTOR + index)
        self.flash.erase(target)
        self.flash.program(target, padded(self.flash, data))
        if self.flash.read(target, len(data)) != data:
            raise Refused("medium")

    def _cell(self, index: int) -> int:
        return self.layout.progress + PROGRESS_HEAD + index * self.flash.align

    def seal(self) -> Verdict:
        """Verify the whole fetched image on the medium and record its digest; only sealed images are swapped in.

        Raises Refused: `not-settled`, `not-begun`, `incomplete`, `digest`, `counter`, `revoked`, or the reason
        of the verifier. After one of the last four, `discard` and fetch again.
        """
        self._demand_settled()
        staging, have = self.staging(), self.have()
        if staging is None:
            raise Refused("not-begun")
        if not all(have):
            raise Refused("incomplete")
        image = self._verdict(self.layout.secondary.at(UPDATE_SECTOR))
        records = self.record_store.read() or BootRecords()
        if not image.ok:
            raise Refused(image.reason or "image")
        if image.digest != staging[0]:
            raise Refused("digest")
        if image.counter < (self.counter.read() or 0):
            raise Refused("counter")
        if image.digest in records.revoked:
            raise Refused("revoked")
        self.record_store.write(records.with_sealed(image.digest))
        return image

    def discard(self) -> None:
        """Forget what was fetched."""
        self._demand_settled()
        if not self.secondary.is_blank():
            self.secondary.erase()
        self.flash.erase(self.layout.progress)

    # ---------------------------------------------------------------------------- ordering

    def set_pending(self, *, permanent: bool = False) -> None:
        """Order the swap for the next boot: on trial, or permanently. Raises Refused `not-settled`, `unsealed`."""
        self._demand_settled()
        image = self._verdict(self.layout.secondary.at(UPDATE_SECTOR))
        records = self.record_store.read()
        if not image.ok or records is None or image.digest not in records.sealed:
            raise Refused("unsealed")
        wanted = Mark.SET if permanent else Mark.UNSET
        state = self.secondary.read()
        if (state.magic, state.image_ok, state.copy_done) == (Mark.SET, wanted, Mark.UNSET):
            return
        if not self.secondary.is_blank():
            self.secondary.erase()
        self.secondary.write_flag(SWAP_INFO, Swap.PERM if permanent else Swap.TEST)
        if permanent:
            self.secondary.write_flag(IMAGE_OK)
        self.secondary.write_magic()

    def withdraw(self) -> None:
        """Take back an order that no boot has followed yet."""
        self._demand_settled()
        if not self.secondary.is_blank():
            self.secondary.erase()

    def confirm(self) -> None:
        """Keep the running image; nothing if it is not on trial."""
        if self.primary.read().on_trial:
            self.primary.write_flag(IMAGE_OK)

    def revert(self) -> None:
        """Order the old image back at the next boot, whatever attempts are left. Raises Refused `not-on-trial`."""
        state = self.primary.read()
        if not state.on_trial:
            raise Refused("not-on-trial")
        self.secondary.order_revert(state.swap_size)

    def note_well(self) -> None:
        """Say that this start of a confirmed image went well, which forgets the starts that did not."""
        self.starts.note_well()

    def raise_counter(self, value: int) -> None:
        """Raise the security counter. Raises Refused: `not-settled`, `above-confirmed`."""
        self._demand_settled()
        if value > self._verdict(self.layout.primary.start).counter:
            raise Refused("above-confirmed")
        self.counter.raise_to(value)

    def revoke(self, digest: bytes) -> None:
        """Record that this image must not be started any more. Raises Refused `revoked-full`."""
        self.record_store.write((self.record_store.read() or BootRecords()).with_revoked(digest))

    def state(self, height: int, value: bytes, send: Callable[[bytes], None]) -> None:
        """Send a statement of 16 bytes once it is durable: the one already made for this height, if any."""
        made = self.statements.read()
        if height not in made:
            self.statements.append(height, value)
        send(made.get(height, value))

    def _demand_settled(self) -> None:
        if not self.is_settled():
            raise Refused("not-settled")

    def _verdict(self, offset: int) -> Verdict:
        return self.verify(self.flash.read(offset, self.layout.image_max))
