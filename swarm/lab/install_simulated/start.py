"""What is done at each start between bootloader and image: the records are joined with what was started.

As the launcher of the directory back end it is no part of any image. The flash has the word: an image runs, confirmed
or on trial, because trailers say so. The partition is brought after it, so that a cut between the two never lasts.

| flash | record `trial` | then |
|---|---|---|
| its image on trial | armed, trial | `trial`, with the attempt; reverted when the intent allows no more |
| its image, confirmed | armed, trial | `confirmed`: the cut came between flag and record |
| another image, order not given | armed | as it is: the agent selects again or withdraws |
| another image, order gone | armed, trial | `reverted`: refused, or tried and taken back |
| another image than confirmed | none open | `confirmed`, with the reason for which the bootloader fell back |
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from firmware_sim.bootloader import UPDATE_SECTOR, Verdict
from swarm.install.records import Confirmed, Floor, Starts, Trial
from swarm.install.selection import (
    ATTEMPTS_USED_UP,
    NO_HEALTH,
    OLD_COUNTER,
    RECORDS_BROKEN,
    REVOKED,
    SLOT_DAMAGED,
    Records,
)
from swarm.lab.install_simulated.chips import OLD_PLACE, PRIMARY, SECONDARY, Chips

PREPARING: Final = "preparing"
"""Reason of an armed trial whose order was not given yet, whatever the trailer says."""
WITHDRAWING: Final = "withdrawing"
"""Reason of an armed trial that is being taken back."""


def note_start(chips: Chips) -> None:
    """Count a start before anything of it happens."""
    with suppress(OSError):
        starts = chips.starts()
        chips.write(replace(starts, boots=starts.boots + 1))


def note_reason(chips: Chips, reason: str) -> None:
    """Say why the trial that runs is about to be left."""
    with suppress(OSError):
        trial = chips.read_records()[0]
        if trial is not None and trial.phase == "trial":
            chips.write(replace(trial, reason=reason))


def settle_start(chips: Chips, *, is_last: bool) -> bool:
    """Join the records with what was started; return whether it must be left at once by another start.

    With `is_last` it stays: the other image could not be started. A partition that takes no more writes leaves the
    records as they are; the back end then says so at each call.
    """
    with suppress(OSError):
        chips.sync()
        chips.finish_move()
        records = _load(chips)
        running, is_trial = chips.running(), not chips.app.is_settled()
        if records.is_open:
            if running.digest.hex() == records.trial.digest:
                return _settle_trial(chips, records, is_trial=is_trial, is_last=is_last)
            records = _settle_ended(chips, records)
        elif is_trial and not is_last and _has_way_back(chips, records):
            chips.app.revert()
            return True
        if not records.is_open and running.digest.hex() != records.confirmed.digest:
            _fall_back(chips, records, running)
    return False


# ----------------------------------------------------------------------------- parts


def _settle_trial(chips: Chips, records: Records, *, is_trial: bool, is_last: bool) -> bool:
    """Go on with the trial of the image that runs, or note that it is confirmed."""
    trial = records.trial
    if not is_trial:
        chips.forget_progress()
        chips.write(
            Confirmed(
                slot=PRIMARY, digest=trial.digest, permit=trial.permit, previous=records.confirmed.digest
            )
        )
        return False
    attempts = 1 + chips.app.primary.attempts_used()
    if attempts > trial.attempts_max and not is_last:
        chips.write(replace(trial, phase="trial", reason=ATTEMPTS_USED_UP))
        chips.app.revert()
        return True
    under_way = replace(trial, phase="trial", attempts=attempts, reason="")
    if under_way != trial:
        chips.write(under_way)
    return False


def _settle_ended(chips: Chips, records: Records) -> Records:
    """Return the records after an intent whose image does not run."""
    trial = records.trial
    if trial.phase == "armed" and trial.reason == WITHDRAWING:
        chips.erase_order()
        over = replace(trial, phase="withdrawn", reason="")
    elif trial.phase == "armed" and (trial.reason == PREPARING or not chips.is_order_blank()):
        return records
    else:
        over = replace(trial, phase="reverted", reason=_why_reverted(chips, records))
    chips.forget_progress()
    chips.write(over)
    return replace(records, trial=over)


def _why_reverted(chips: Chips, records: Records) -> str:
    trial, tried = records.trial, chips.at(UPDATE_SECTOR)
    if trial.reason:
        return trial.reason
    if tried.digest.hex() != trial.digest:
        return SLOT_DAMAGED
    if trial.release in records.floor.revoked:
        return REVOKED
    return OLD_COUNTER if tried.counter < (chips.app.counter.read() or 0) else ATTEMPTS_USED_UP


def _has_way_back(chips: Chips, records: Records) -> bool:
    """Answer whether a trial that no record knows has the confirmed image beside it: then it has failed."""
    old = chips.at(OLD_PLACE)
    is_wanted = old.ok and old.digest.hex() == records.confirmed.digest and old.digest in chips.sealed()
    seal = chips.seal(old.digest) if is_wanted else None
    return is_wanted and not (seal and seal.release in records.floor.revoked)


def _fall_back(chips: Chips, records: Records, running: Verdict) -> None:
    """Note that the bootloader left the confirmed image by itself; what it chose stays (W12)."""
    left = records.confirmed.digest
    chips.app.confirm()
    chips.forget_progress()
    seal = chips.seal(bytes.fromhex(left))
    places = [chips.at(place).digest.hex() for place in (UPDATE_SECTOR, OLD_PLACE)]
    if seal is not None and seal.release in records.floor.revoked:
        reason = REVOKED
    else:
        reason = NO_HEALTH if left in places else SLOT_DAMAGED
    chips.write(
        Confirmed(
            slot=PRIMARY,
            digest=running.digest.hex(),
            permit=max(records.confirmed.permit, records.trial.permit),
            reason=reason,
            failed=left,
        )
    )


def _load(chips: Chips) -> Records:
    """Return the records, mended where both copies of one are broken: a trial under way has then failed."""
    trial, confirmed, floor, starts = chips.read_records()
    if confirmed is None:
        old = chips.at(OLD_PLACE)
        is_settled = chips.app.is_settled()
        image = chips.running() if is_settled or not old.ok else old
        confirmed = Confirmed(slot=PRIMARY, digest=image.digest.hex())
        if trial is not None and trial.phase in ("armed", "trial"):
            trial = replace(trial, phase="reverted", reason=RECORDS_BROKEN)
            chips.erase_order()
            chips.write(trial)
        chips.write(confirmed)
    if floor is None:
        used = max(trial.permit if trial else 0, confirmed.permit)
        floor = Floor(acted=used, declined=used)
        chips.write(floor)
    if trial is None:
        trial = _lost_trial(confirmed, floor)
        chips.erase_order()
        chips.write(trial)
    return Records(trial=trial, confirmed=confirmed, floor=floor, starts=starts or Starts())


def _lost_trial(confirmed: Confirmed, floor: Floor) -> Trial:
    if floor.acted == confirmed.permit:
        return Trial(permit=floor.acted)
    return Trial(phase="reverted", slot=SECONDARY, base=PRIMARY, permit=floor.acted, reason=RECORDS_BROKEN)
