"""A bootloader that swaps two slots by offset, as MCUboot does, and survives a cut at any of its operations.

An update lies at sector 1 of the secondary slot. Going up, for each sector i: erase S[i], copy P[i] there, note
it; erase P[i], copy S[i+1] there, note it. Afterwards the old image lies at sector 0 of the secondary slot, and
a revert is the mirror image. Records of the steps lie in the trailer of the primary slot.

Where this goes further than MCUboot, because writes and erases may be torn here:
* a swap in the primary trailer is under way only if its magic, type and size are whole; as long as the
  secondary trailer still holds the order and steps are noted, the primary one is an old one being erased;
* a torn flag or record in the primary trailer counts as written: it was written after what it stands for;
* flags of the secondary trailer count only if exact: they were written before its magic;
* a record that does not stick is noted in the status area of the secondary slot instead;
* nothing is swapped in that was not verified, sealed, high enough in its counter and unrevoked just before.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from firmware_sim.errors import check
from firmware_sim.flash import NorFlash
from firmware_sim.nv import BootRecords, Counter, RecordStore, Starts
from firmware_sim.slots import (
    COPY_DONE,
    IMAGE_OK,
    NV_SECTOR,
    SWAP_INFO,
    DeviceLayout,
    Mark,
    SlotState,
    Swap,
    Trailer,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an image verifier says about the bytes of a slot; `behaves` tells the application stub what to do."""

    ok: bool
    reason: str = ""
    digest: bytes = b""
    size: int = 0
    counter: int = 0
    behaves: str = "healthy"


Verifier = Callable[[bytes], Verdict]
"""Judges the bytes from the start of an image to the end of its slot. It must not raise."""


class CounterPolicy(StrEnum):
    """Who raises the security counter: the bootloader once the image is confirmed, or only the agent."""

    CONFIRM = "confirm"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSettings:
    """Settings of a bootloader. MCUboot: one attempt, the counter raised with the confirmation."""

    attempts: int = 1
    counter_policy: CounterPolicy = CounterPolicy.CONFIRM
    require_seal: bool = True
    fallback_after: int = 0
    """Starts of a confirmed image without a good word after which the other slot is tried; 0 for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """How a boot went. `started` is None where no image could be started."""

    started: Verdict | None
    swapped: Swap = Swap.NONE
    resumed: bool = False
    on_trial: bool = False
    fell_back: bool = False
    """Whether an image that was broken, revoked or never well was left without an order."""
    attempt: int = 0
    refused: str = ""
    """Why an order to swap was not followed, or empty."""
    revoked_running: bool = False
    key: bytes = b""
    """32 bytes from the device secret and the digest of the started image (as DICE)."""


def measured_key(secret: bytes, digest: bytes) -> bytes:
    """Derive the key of an image on a device: HKDF-SHA256, extract with the secret, expand with the digest."""
    extracted = hmac.digest(b"firmware-sim/dice/1", secret, "sha256")
    return hmac.digest(extracted, digest + b"\1", "sha256")


UPDATE_SECTOR = 1
"""Sector of the secondary slot where an update starts; the image that was swapped out starts at 0."""


class Bootloader:
    """One start of the bootloader: made anew for each boot, so that only the media carry anything over."""

    def __init__(
        self,
        flash: NorFlash,
        layout: DeviceLayout,
        verify: Verifier,
        *,
        secret: bytes = b"",
        settings: BootSettings | None = None,
    ) -> None:
        self.flash = flash
        self.layout = layout
        self.verify = verify
        self._secret = secret
        self.settings = settings or BootSettings()
        self.primary = Trailer(flash, layout.primary, layout)
        self.secondary = Trailer(flash, layout.secondary, layout)
        self.counter = Counter(flash, layout.counter)
        self.record_store = RecordStore(flash, layout.records)
        self.starts = Starts(flash, layout.starts)
        self.records: BootRecords | None = None
        self.refused = ""

    def boot(self) -> BootResult:
        """Finish or start a swap where one is ordered, choose an image, and return what was started.

        Raises PowerLoss at a cut; calling `boot` of a new Bootloader then goes on from the media.
        """
        self.record_store.cell.repair()
        self.counter.cell.repair()
        self.records = self.record_store.read()
        swapped, resumed = self._swap_as_ordered()
        running = self.primary_verdict()
        fell_back = Swap.NONE
        if not self._may_stay(running):
            fell_back = self._fall_back(running)
        elif self._is_unwell():
            fell_back = self._back_to_old(running)
        if fell_back is not Swap.NONE:
            swapped, running = fell_back, self.primary_verdict()
        state = self.primary.read()
        attempt = 0
        if state.on_trial:
            attempt = self._count_attempt(fresh=swapped is Swap.TEST)
        elif self.settings.fallback_after:
            self.starts.note_start()
        if running.ok and self.may_raise(state):
            self.counter.raise_to(running.counter)
        return BootResult(
            started=running if running.ok else None,
            swapped=swapped,
            resumed=resumed,
            on_trial=state.on_trial,
            fell_back=fell_back is not Swap.NONE,
            attempt=attempt,
            refused=self.refused,
            revoked_running=running.ok and self.is_revoked(running),
            key=measured_key(self._secret, running.digest) if running.ok else b"",
        )

    # ---------------------------------------------------------------------------- decision

    def _swap_as_ordered(self) -> tuple[Swap, bool]:
        first, second = self.primary.read(), self.secondary.read()
        if self.is_under_way(first, second):
            self._swap(Swap(first.swap), first.swap_size)
            return Swap(first.swap), True
        match self.ordered(first, second):
            case Swap.TEST | Swap.PERM as kind:
                return self._swap_up(kind), False
            case Swap.REVERT:
                return self._swap_back(first, second), False
        return Swap.NONE, False

    def is_under_way(self, first: SlotState, second: SlotState) -> bool:
        """Return whether the primary trailer describes a swap that was begun and not finished."""
        whole = first.magic is Mark.SET and first.copy_done is Mark.UNSET and first.swap and first.swap_size
        stale = second.magic is Mark.SET and self.steps_done() > 0
        return bool(whole) and not stale

    def ordered(self, first: SlotState, second: SlotState) -> Swap:
        """Return what the trailers order; the first row that fits, as in MCUboot."""
        if second.magic is Mark.SET:
            if second.copy_done is Mark.SET and second.image_ok is not Mark.SET:
                return Swap.REVERT
            return Swap.PERM if second.image_ok is Mark.SET else Swap.TEST
        if first.on_trial and (self.attempts_used() >= self.settings.attempts or self._trial_is_revoked()):
            return Swap.REVERT
        return Swap.NONE

    def attempts_used(self) -> int:
        """Return how many starts the trial image had; the swap itself stands for the first."""
        return 1 + self.primary.attempts_used()

    def _trial_is_revoked(self) -> bool:
        return self.is_revoked(self.primary_verdict())

    def _swap_up(self, kind: Swap) -> Swap:
        update = self.secondary_verdict(UPDATE_SECTOR)
        self.refused = self.refusal(update)
        if self.refused:
            self.secondary.erase()
            return Swap.NONE
        self._start(kind, max(update.size, self.primary_verdict().size))
        return kind

    def _swap_back(self, first: SlotState, second: SlotState) -> Swap:
        old = self.secondary_verdict(0)
        self.refused = self.refusal(old)
        if self.refused:
            if second.magic is Mark.SET:
                self.secondary.erase()
            return Swap.NONE
        size = max(first.swap_size, second.swap_size, old.size, self.primary_verdict().size)
        self.order_revert(size)
        self._start(Swap.REVERT, size)
        return Swap.REVERT

    def order_revert(self, size: int) -> None:
        """Put the order to revert where it survives the loss of the primary trailer."""
        self.secondary.order_revert(size)

    # ---------------------------------------------------------------------------- judging images

    def primary_verdict(self) -> Verdict:
        """Verify what lies in the primary slot."""
        return self.verify(self.flash.read(self.layout.primary.start, self.layout.image_max))

    def secondary_verdict(self, sector: int) -> Verdict:
        """Verify what lies at a sector of the secondary slot."""
        return self.verify(self.flash.read(self.layout.secondary.at(sector), self.layout.image_max))

    def is_revoked(self, image: Verdict) -> bool:
        """Return whether the digest of this image was revoked."""
        return self.records is not None and image.digest in self.records.revoked

    def refusal(self, image: Verdict) -> str:
        """Return why this image of the secondary slot must not be swapped in, empty if it may."""
        counter = self.counter.read()
        if not image.ok:
            return image.reason or "image"
        if counter is None or image.counter < counter:
            return "counter"
        if self.records is not None:
            if self.is_revoked(image):
                return "revoked"
            if self.settings.require_seal and image.digest not in self.records.sealed:
                return "unsealed"
        return ""

    def _may_stay(self, running: Verdict) -> bool:
        return running.ok and running.counter >= (self.counter.read() or 0) and not self.is_revoked(running)

    def _fall_back(self, running: Verdict) -> Swap:
        """Leave an image that should not run for one in the secondary slot that may, if there is one.

        What cannot run cannot be mended, so without such an image an unwanted but whole one stays.
        """
        back = self._back_to_old(running)
        if back is not Swap.NONE:
            return back
        update = self.secondary_verdict(UPDATE_SECTOR)
        if not self.refusal(update) and not self.primary.read().on_trial:
            self._start(Swap.TEST, max(update.size, running.size))
            return Swap.TEST
        return Swap.NONE

    def _back_to_old(self, running: Verdict) -> Swap:
        old = self.secondary_verdict(0)
        if self.refusal(old):
            return Swap.NONE
        size = max(old.size, running.size)
        self.order_revert(size)
        self._start(Swap.REVERT, size)
        return Swap.REVERT

    def _is_unwell(self) -> bool:
        limit = self.settings.fallback_after
        return 0 < limit <= self.starts.unwell() and not self.primary.read().on_trial

    def _count_attempt(self, *, fresh: bool) -> int:
        """Make this start of a trial image durable before the image runs; return its number."""
        used = self.attempts_used()
        if fresh or used >= self.settings.attempts:
            return used
        self.primary.mark(self.primary.attempt_cell(used - 1))
        return used + 1

    def may_raise(self, state: SlotState) -> bool:
        """Return whether the counter follows the running image now: confirmed, or never swapped in."""
        return self.settings.counter_policy is CounterPolicy.CONFIRM and not state.on_trial

    # ---------------------------------------------------------------------------- swapping

    def _start(self, kind: Swap, size: int) -> None:
        """Write the trailer of a swap, its magic last, and run it."""
        self.forget_progress()
        self.primary.erase()
        self.primary.write_flag(SWAP_INFO, kind)
        self.primary.write_swap_size(size)
        self.primary.write_magic()
        self._swap(kind, size)

    def forget_progress(self) -> None:
        """Erase the notes of what was fetched: a swap moves it."""
        if not self.flash.is_blank(self.layout.progress, NV_SECTOR):
            self.flash.erase(self.layout.progress)

    def _swap(self, kind: Swap, size: int) -> None:
        done = self.steps_done()
        if done == 0 and not self.secondary.is_blank():
            self.secondary.erase()
        count = -(-size // self.layout.sector)
        check(0 < count <= self.layout.image_sectors, f"a swap of {count} sectors")
        for step in range(done, 2 * count):
            self.take_step(kind, count, step)
        self.finish(kind)

    def take_step(self, kind: Swap, count: int, step: int) -> None:
        """Copy one sector, then note it."""
        self.copy_step(kind, count, step)
        self.note_step(step)

    def copy_step(self, kind: Swap, count: int, step: int) -> None:
        """Copy the sector that this step is about."""
        primary, secondary = self.layout.primary, self.layout.secondary
        index = count - 1 - step // 2 if kind is Swap.REVERT else step // 2
        away, into = (index + 1, index) if kind is Swap.REVERT else (index, index + 1)
        if step % 2 == 0:
            self._copy(primary.at(index), secondary.at(away))
        else:
            self._copy(secondary.at(into), primary.at(index))

    def _copy(self, source: int, target: int) -> None:
        self.flash.erase(target)
        self.flash.program(target, self.flash.read(source, self.layout.sector))

    def note_step(self, step: int) -> None:
        """Note a step as done; where the cell does not take it, in the secondary slot."""
        if not self.primary.mark(self.primary.status_cell(step)):
            spare = self.secondary.status_cell(step)
            if not self.secondary.is_marked(spare):
                self.secondary.mark(spare)

    def steps_done(self) -> int:
        """Return the number of steps noted as done.

        Records in the secondary trailer count only in a sector that is blank but for them: an erase that was
        cut may leave zeros, which look like records.
        """
        spare = self.secondary.records_done() if self.secondary.is_blank_but_status() else 0
        return max(self.primary.records_done(), spare)

    def finish(self, kind: Swap) -> None:
        """Close a swap: a permanent image and the one that came back need no confirmation."""
        state = self.primary.read()
        if kind is not Swap.TEST and state.image_ok is Mark.UNSET:
            self.primary.write_flag(IMAGE_OK)
        if state.copy_done is Mark.UNSET:
            self.primary.write_flag(COPY_DONE)
