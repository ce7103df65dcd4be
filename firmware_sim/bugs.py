"""Bootloaders and applications with one mistake each: a sweep that does not notice them proves nothing.

Each names the scenario and the level at which it must be found, and an invariant that it breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.application import Application
from firmware_sim.bootloader import Bootloader, Verdict
from firmware_sim.slots import COPY_DONE, IMAGE_OK, Mark, SlotState, Swap
from firmware_sim.world import World


class StatusBeforeCopy(Bootloader):
    """Notes a step before it is taken."""

    def take_step(self, kind: Swap, count: int, step: int) -> None:
        self.note_step(step)
        self.copy_step(kind, count, step)


class CopyDoneFirst(Bootloader):
    """Closes the swap before its last step."""

    def take_step(self, kind: Swap, count: int, step: int) -> None:
        if step == 2 * count - 1:
            self.finish(kind)
        super().take_step(kind, count, step)


class ConfirmAtSwap(Bootloader):
    """Confirms a trial image itself, before copy_done, instead of waiting for the application."""

    def finish(self, kind: Swap) -> None:
        if self.primary.read().image_ok is Mark.UNSET:
            self.primary.write_flag(IMAGE_OK)
        super().finish(kind)


class TornRecordReused(Bootloader):
    """Takes only an exact record for one, and writes a torn one again without an erase."""

    def steps_done(self) -> int:
        for record in range(self.primary.records_max):
            if self.flash.data[self.primary.status_cell(record)] != 1:
                return record
        return self.primary.records_max


class MagicGoodOrUnset(Bootloader):
    """Reverts only if the other magic is unset, so that a torn one matches no row (MCUboot issue 1966)."""

    def ordered(self, first: SlotState, second: SlotState) -> Swap:
        return Swap.NONE if second.magic is Mark.BAD else super().ordered(first, second)


class RevertUnordered(Bootloader):
    """Starts a revert without putting the order where it survives the primary trailer."""

    def order_revert(self, size: int) -> None:
        pass


class FirstHole(Bootloader):
    """Goes on at the first missing record, although later ones are there."""

    def steps_done(self) -> int:
        cells = range(self.primary.records_max)
        return next((i for i in cells if not self.primary.is_marked(self.primary.status_cell(i))), len(cells))


class ZerosAreRecords(Bootloader):
    """Believes records in a secondary trailer whose erase was cut."""

    def steps_done(self) -> int:
        return max(self.primary.records_done(), self.secondary.records_done())


class StaleTrailer(Bootloader):
    """Needs only magic and copy_done to see a swap under way, not its type and size."""

    def _swap_as_ordered(self) -> tuple[Swap, bool]:
        first = self.primary.read()
        if first.magic is Mark.SET and first.copy_done is Mark.UNSET:
            self._swap(Swap(first.swap or Swap.TEST), first.swap_size or self.layout.image_max)
            return Swap.TEST, True
        return super()._swap_as_ordered()


class EndlessTrial(Bootloader):
    """Does not make the starts of a trial image durable."""

    def _count_attempt(self, *, fresh: bool) -> int:
        return 1 if fresh else self.attempts_used() + 1


class NeverUnwell(Bootloader):
    """Starts a confirmed image for ever, whether or not it gets anywhere."""

    def _is_unwell(self) -> bool:
        return False


class CounterBeforeConfirm(Bootloader):
    """Raises the counter for an image on trial, which bars the way back."""

    def may_raise(self, state: SlotState) -> bool:
        return True


class RevocationIgnored(Bootloader):
    """Starts a revoked image although the other one could run."""

    def is_revoked(self, image: Verdict) -> bool:
        return False


class SealIgnored(Bootloader):
    """Swaps in what was never sealed."""

    def refusal(self, image: Verdict) -> str:
        reason = super().refusal(image)
        return "" if reason == "unsealed" else reason


class HashIgnored(Bootloader):
    """Swaps in whatever the trailer orders."""

    def refusal(self, image: Verdict) -> str:
        return ""


class ProgressKept(Bootloader):
    """Leaves the notes of what was fetched, although the swap moves it away."""

    def forget_progress(self) -> None:
        pass


class RefusalErasesPrimary(Bootloader):
    """Cleans up the wrong trailer after a refusal."""

    def _swap_up(self, kind: Swap) -> Swap:
        swapped = super()._swap_up(kind)
        if self.refused:
            self.primary.erase()
        return swapped


class CounterIgnored(Bootloader):
    """Swaps in an image whose counter is too low."""

    def refusal(self, image: Verdict) -> str:
        reason = super().refusal(image)
        return "" if reason == "counter" else reason

    def _may_stay(self, running: Verdict) -> bool:
        return running.ok


class EraseWearsOut(Bootloader):
    """Erases a sector again and again."""

    def _copy(self, source: int, target: int) -> None:
        for _ in range(5):
            self.flash.erase(target)
        super()._copy(source, target)


class EraseOfProven(Application):
    """Fetches into the other slot while the running image is on trial."""

    def is_settled(self) -> bool:
        return True


class NotedBeforeWritten(Application):
    """Notes a chunk before it is on the medium."""

    def store_chunk(self, index: int, data: bytes) -> None:
        self.note_chunk(index)
        self.program_chunk(index, data)


class SentBeforeDurable(Application):
    """Sends a statement, then stores it."""

    def state(self, height: int, value: bytes, send: Callable[[bytes], None]) -> None:
        made = self.statements.read()
        send(made.get(height, value))
        if height not in made:
            self.statements.append(height, value)


class StatementForgotten(Application):
    """Stores what it sends and does not look at what it said before."""

    def state(self, height: int, value: bytes, send: Callable[[bytes], None]) -> None:
        self.statements.append(height, value)
        send(value)


class MagicFirst(Application):
    """Writes the magic of an order before its kind, so that a cut turns a permanent order into a trial."""

    def set_pending(self, *, permanent: bool = False) -> None:
        if self.secondary.read().magic is Mark.UNSET:
            self.secondary.write_magic()
            if permanent:
                self.secondary.write_flag(IMAGE_OK)


class ConfirmByCopyDone(Application):
    """Writes the wrong flag to confirm."""

    def confirm(self) -> None:
        if self.primary.read().copy_done is Mark.UNSET:
            self.primary.write_flag(COPY_DONE)


class CounterInOneCopy(Application):
    """Keeps the counter in one sector, which is erased before it is written."""

    def raise_counter(self, value: int) -> None:
        if value > (self.counter.read() or 0):
            for sector in self.counter.cell.sectors:
                self.flash.erase(sector)
            self.counter.cell.write(value.to_bytes(4, "little"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A mistake, and where it must be found: `torn` needs torn shapes, `failing` a bad status area."""

    code: type[Bootloader | Application]
    scenario: str
    breaks: str
    torn: bool = False
    failing: bool = False

    def infect(self, world: World) -> World:
        """Put the mistake into a world."""
        if issubclass(self.code, Bootloader):
            world.bootloader = self.code
        else:
            world.application = self.code
        return world


def _bug(code: type[Bootloader | Application], scenario: str, breaks: str, **needs: bool) -> Bug:
    return Bug(code=code, scenario=scenario, breaks=breaks, **needs)


BUGS: dict[str, Bug] = {
    "status-before-copy": _bug(StatusBeforeCopy, "update", "I3"),
    "copy-done-first": _bug(CopyDoneFirst, "update", "I1"),
    "confirm-at-swap": _bug(ConfirmAtSwap, "bad-update", "I10"),
    "torn-record-reused": _bug(TornRecordReused, "update", "I12", torn=True),
    "magic-good-or-unset": _bug(MagicGoodOrUnset, "revert", "I10", torn=True),
    "revert-unordered": _bug(RevertUnordered, "revert", "I10"),
    "first-hole": _bug(FirstHole, "bad-update", "I12", failing=True),
    "zeros-are-records": _bug(ZerosAreRecords, "update", "I4", torn=True),
    "stale-trailer": _bug(StaleTrailer, "revert", "I10", torn=True),
    "endless-trial": _bug(EndlessTrial, "attempts", "I10"),
    "never-unwell": _bug(NeverUnwell, "late-bomb", "I10"),
    "counter-before-confirm": _bug(CounterBeforeConfirm, "bad-update", "I6"),
    "revocation-ignored": _bug(RevocationIgnored, "revoke", "I3"),
    "seal-ignored": _bug(SealIgnored, "refuse-unsealed", "I7"),
    "hash-ignored": _bug(HashIgnored, "refuse-hash", "I7"),
    "counter-ignored": _bug(CounterIgnored, "refuse-counter", "I2"),
    "erase-wears-out": _bug(EraseWearsOut, "bad-update", "I11"),
    "progress-kept": _bug(ProgressKept, "again", "I9"),
    "refusal-erases-primary": _bug(RefusalErasesPrimary, "refuse-counter", "I7"),
    "erase-of-proven": _bug(EraseOfProven, "early-fetch", "I5"),
    "noted-before-written": _bug(NotedBeforeWritten, "download", "I9"),
    "sent-before-durable": _bug(SentBeforeDurable, "statements", "I8"),
    "statement-forgotten": _bug(StatementForgotten, "statements", "I8"),
    "magic-first": _bug(MagicFirst, "permanent", "I3"),
    "confirm-by-copy-done": _bug(ConfirmByCopyDone, "confirm", "I3"),
    "counter-in-one-copy": _bug(CounterInOneCopy, "counter", "I6"),
}
