"""The two media of a simulated device and how they are read: the board's flash and the data partition.

    flash               the running image; behind it the spare slot; counter, sealed and revoked digests, starts
    /boot               the records of `swarm.install.records` and the bitmap
    /slots/DIGEST.sealed  of which release a sealed image is
    /moving             an image on its way from one place of the spare slot to the other

The spare slot has two places (`firmware_sim.slots`): at sector 1 lies what is to be swapped in, at sector 0 what a
swap took out. The flash decides what is started; the partition only says what it means to the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from firmware_sim.application import Application
from firmware_sim.bootloader import UPDATE_SECTOR, Verdict, Verifier
from firmware_sim.flash import NorFlash
from firmware_sim.nv import BootRecords, padded
from firmware_sim.posixfs import PosixFs
from firmware_sim.slots import SWAP_INFO, DeviceLayout, Mark, Swap
from swarm.install.port import InstallError, InstallReason
from swarm.install.records import (
    AnyRecord,
    Confirmed,
    Floor,
    Progress,
    Record,
    RecordPair,
    Starts,
    Trial,
    create_records,
    decode_copy,
    sync_records,
    write_record,
)
from swarm.install.selection import Records, Seal, encode_seal, read_seal, seal_path
from swarm.lab.install_simulated.partition import Partition

PRIMARY: Final = "primary"
SECONDARY: Final = "secondary"

BOOT: Final = "/boot"
SLOTS: Final = "/slots"
MOVING: Final = "/moving"
_ROOT: Final = ""
_SUFFIX: Final = ".sealed"
OLD_PLACE: Final = 0
"""Where a swap leaves the image that it took out."""


RECORDS_MAX: Final = 1024
"""Pairs of copies whose record is kept: a fleet in step has few different ones, and decoding is what a call costs."""


@lru_cache(maxsize=RECORDS_MAX)
def _newest(kind: type[Record], first: bytes, second: bytes) -> Record | None:
    """Return what `RecordPair.read` says of these two copies."""
    copies = [found for copy in (first, second) if (found := decode_copy(kind, copy)) is not None]
    return max(copies, key=lambda found: found[0])[1] if copies else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedImage:
    """A whole sealed image in the spare slot: its place, what the verifier says of it, and its seal."""

    place: int
    verdict: Verdict
    seal: Seal


class Chips:
    """Flash and partition of one device; nothing here is remembered that is not on them."""

    __slots__ = ("app", "disk", "flash", "fs", "layout", "verify")

    def __init__(self, flash: NorFlash, layout: DeviceLayout, fs: PosixFs, verify: Verifier) -> None:
        """Read and write the given media; `verify` judges the images on them."""
        self.flash = flash
        self.layout = layout
        self.fs = fs
        self.verify = verify
        self.disk = Partition(fs)
        self.app = Application(flash, layout, verify)

    # ------------------------------------------------------------------------- images

    def running(self) -> Verdict:
        """Return what lies in the primary slot."""
        return self.verify(self.flash.read(self.layout.primary.start, self.layout.image_max))

    def at(self, place: int) -> Verdict:
        """Return what lies at a place of the spare slot."""
        return self.verify(self.flash.read(self.layout.secondary.at(place), self.layout.image_max))

    def spare(self) -> SealedImage | None:
        """Return the sealed image of the spare slot; the one to be swapped in, if there are two."""
        running = self.running().digest
        sealed = self.sealed()
        for place in (UPDATE_SECTOR, OLD_PLACE):
            verdict = self.at(place)
            # Small images leave a second copy of the running one behind, which is no way back.
            if verdict.ok and verdict.digest in sealed and verdict.digest != running:
                seal = self.seal(verdict.digest)
                if seal is not None:
                    return SealedImage(place=place, verdict=verdict, seal=seal)
        return None

    def program(self, offset: int, data: bytes) -> None:
        """Erase the sectors of an area and write it; raises `InstallError` (MEDIUM) if it does not read back."""
        for sector in range(offset, offset + len(data), self.layout.sector):
            self.flash.erase(sector)
        self.flash.program(offset, padded(self.flash, data))
        if self.flash.read(offset, len(data)) != data:
            raise InstallError(InstallReason.MEDIUM, "the flash reads back differently")

    def move_up(self, image: SealedImage) -> None:
        """Bring the image that a swap took out to where the next swap takes it from, over a copy on the partition.

        The places overlap, so while it is under way the flash holds no second image; `finish_move` goes on after a
        cut. Raises `OSError`.
        """
        start = self.layout.secondary.at(image.place)
        self.disk.write_bytes(MOVING, self.flash.read(start, image.verdict.size))
        self.disk.fsync(MOVING)
        self.disk.fsync_dir("/")
        self.finish_move()

    def finish_move(self) -> None:
        """Finish a move that a cut may have stopped; nothing when none is under way. Raises `OSError`."""
        if not self.disk.exists(MOVING):
            return
        data = self.disk.read_bytes(MOVING)
        verdict = self.verify(data) if data else Verdict(ok=False)
        # A torn copy was never acted upon: the image still lies where it was.
        if verdict.ok and self.at(UPDATE_SECTOR).digest != verdict.digest:
            self.program(self.layout.secondary.at(UPDATE_SECTOR), data)
        self.disk.unlink(MOVING)
        self.disk.fsync_dir("/")

    # ------------------------------------------------------------------------- seals

    def sealed(self) -> tuple[bytes, ...]:
        """Return the digests that the bootloader may start."""
        records = self.app.record_store.read()
        return records.sealed if records else ()

    def seal(self, digest: bytes) -> Seal | None:
        """Return of which release the image of this digest is, if it was sealed here."""
        return read_seal(self.disk, _ROOT, digest.hex())

    def seals(self) -> list[Seal]:
        """Return the seals of all images that the bootloader may start."""
        return [seal for seal in map(self.seal, self.sealed()) if seal is not None]

    def add_seal(self, seal: Seal) -> None:
        """Seal the image of this digest beside the running one, durably; any other seal goes. Raises `OSError`."""
        path = seal_path(_ROOT, seal.digest)
        self.disk.write_bytes(path, encode_seal(seal))
        self.disk.fsync(path)
        self.disk.fsync_dir(SLOTS)
        self._keep_seals((self.running().digest, bytes.fromhex(seal.digest)))

    def drop_seals(self) -> None:
        """Take the seals of all but the running image, durably; raises `OSError`."""
        self._keep_seals((self.running().digest,))

    def revoke_sealed(self, revoked: tuple[str, ...]) -> None:
        """Tell the bootloader which of the sealed images are of revoked releases (hexadecimal ids)."""
        store = self.app.record_store
        digests = tuple(bytes.fromhex(seal.digest) for seal in self.seals() if seal.release in revoked)
        store.write(BootRecords(sealed=self.sealed(), revoked=digests))

    def _keep_seals(self, digests: tuple[bytes, ...]) -> None:
        store = self.app.record_store
        records = store.read() or BootRecords()
        # What is not sealed is never swapped in, so the short list of revoked digests need not name it.
        revoked = tuple(digest for digest in records.revoked if digest in digests)
        store.write(BootRecords(sealed=digests, revoked=revoked))
        kept = {f"{digest.hex()}{_SUFFIX}" for digest in digests}
        gone = [name for name in self.disk.listdir(SLOTS) if name not in kept]
        for name in gone:
            self.disk.unlink(f"{SLOTS}/{name}")
        if gone:
            self.disk.fsync_dir(SLOTS)

    # ------------------------------------------------------------------------- the order to swap

    def is_ordered(self) -> bool:
        """Answer whether the next boot will swap the image at the place of an update in, on trial."""
        state = self.app.secondary.read()
        return (state.magic, state.copy_done, state.image_ok) == (Mark.SET, Mark.UNSET, Mark.UNSET)

    def is_order_blank(self) -> bool:
        """Answer whether nothing at all stands where orders are: none was begun, or the bootloader took it."""
        return self.app.secondary.is_blank()

    def prepare_order(self) -> None:
        """Write all of an order but what makes it count. The bootloader leaves it alone, and erases a whole one."""
        self.erase_order()
        self.app.secondary.write_flag(SWAP_INFO, Swap.TEST)

    def give_order(self) -> None:
        """Make a prepared order count."""
        self.app.secondary.write_magic()

    def erase_order(self) -> None:
        """Take any order back."""
        if not self.app.secondary.is_blank():
            self.app.secondary.erase()

    # ------------------------------------------------------------------------- records

    def records(self) -> Records:
        """Return the records. Raises `InstallError` (RECORDS_BROKEN): the next start mends them."""
        trial, confirmed, floor, starts = self.read_records()
        if trial is None or confirmed is None or floor is None:
            raise InstallError(InstallReason.RECORDS_BROKEN, "the next start mends them")
        return Records(trial=trial, confirmed=confirmed, floor=floor, starts=starts or Starts())

    def read_records(self) -> tuple[Trial | None, Confirmed | None, Floor | None, Starts | None]:
        """Return each record, None where both copies are broken."""
        return self._record(Trial), self._record(Confirmed), self._record(Floor), self._record(Starts)

    def starts(self) -> Starts:
        """Return the count of starts."""
        return self._record(Starts) or Starts()

    def _record(self, kind: type[Record]) -> Record | None:
        pair = RecordPair(self.disk, BOOT, kind.NAME)
        first, second = (self._bytes(pair.path(copy)) for copy in (0, 1))
        return _newest(kind, first, second)  # type: ignore[arg-type]  # a class of records is hashable

    def _bytes(self, path: str) -> bytes:
        try:
            return self.disk.read_bytes(path)
        except OSError:
            return b""

    def write(self, record: AnyRecord) -> None:
        """Make a record durable; raises `OSError`."""
        write_record(self.disk, BOOT, record)

    def sync(self) -> None:
        """Make durable what an earlier call wrote and perhaps could not sync; raises `OSError`."""
        sync_records(self.disk, BOOT)

    def progress(self) -> Progress:
        """Return what is fetched of which plan; an empty one where nothing is."""
        return self._record(Progress) or Progress()

    def forget_progress(self) -> None:
        """Forget what was fetched, durably; raises `OSError`."""
        if self.progress().release:
            self.write(Progress())

    def create(self, seal: Seal) -> None:
        """Lay out a blank partition for a device that runs the image of `seal`; raises `OSError`."""
        for folder in (BOOT, SLOTS):
            self.disk.mkdir(folder)
        path = seal_path(_ROOT, seal.digest)
        self.disk.write_bytes(path, encode_seal(seal))
        self.disk.fsync(path)
        create_records(self.disk, BOOT, PRIMARY, seal.digest, seal.counter)
        for folder in (BOOT, SLOTS, "/"):
            self.disk.fsync_dir(folder)
