"""What a bootloader decides at each start: which slot, and what has failed. Without any network, from the disk alone.

The launcher calls `choose_slot` before each child, the power-cut sweeps call it on their file-system model. Rules:
FIRMWARE section 5 "At boot", section 6, W12. Layout below a root:

    slots/a/ slots/b/           an unpacked release each
    slots/a.sealed              that the slot is whole: release, digest, number, counter (checksummed)
    current -> slots/a          the selection
    boot/{trial,confirmed,floor,starts}.{0,1}   the records

Only the standard library: the launcher carries this file with it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final

from swarm.install.filesystem import FileSystem
from swarm.install.records import (
    Confirmed,
    Floor,
    Starts,
    Trial,
    read_record,
    sync_records,
    write_record,
)

SLOTS: Final = ("a", "b")
STARTS_WITHOUT_HEALTH_MAX: Final = 5
"""After so many starts of the confirmed slot without health the launcher falls back (FIRMWARE section 6)."""

PATH_BYTES_MAX: Final = 1024
_SEAL_MAGIC: Final = b"swseal1\0"
_LIST_TAG: Final = b"swarm/dir/1\0"

# Reasons, as they reach the report.
ATTEMPTS_USED_UP: Final = "attempts-used-up"
TRIAL_TIMER: Final = "trial-timer"
RECORDS_BROKEN: Final = "records-broken"
SLOT_DAMAGED: Final = "slot-damaged"
NOT_SEALED: Final = "not-sealed"
REVOKED: Final = "revoked"
OLD_COUNTER: Final = "old-counter"
NO_HEALTH: Final = "no-health"


class NothingBootableError(Exception):
    """No slot holds a whole sealed release; a person has to bring one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a sealed slot holds; identifiers in hexadecimal. Exists only once every byte of the slot is durable."""

    release: str
    digest: str
    number: int
    counter: int
    version: str
    file_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The slot to start now. `trial` asks for the trial timer (`trial_ms`); `boots` counts all starts."""

    slot: str
    trial: bool
    permit: int
    attempts: int
    trial_ms: int
    boots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The four records as they hold after what was broken has been mended."""

    trial: Trial
    confirmed: Confirmed
    floor: Floor
    starts: Starts

    @property
    def is_open(self) -> bool:
        """Whether an intent is neither confirmed nor over."""
        return self.trial.phase in ("armed", "trial") and self.trial.permit != self.confirmed.permit

    @property
    def unhealthy(self) -> int:
        """Starts of the confirmed image since one was last healthy."""
        return self.starts.unhealthy if self.starts.digest == self.confirmed.digest else 0


def other_slot(slot: str) -> str:
    """Return the slot that is not `slot`."""
    return SLOTS[1 - SLOTS.index(slot)]


def boot_folder(root: str) -> str:
    """Return where the records lie."""
    return f"{root}/boot"


def slot_folder(root: str, slot: str) -> str:
    """Return where a slot's release lies."""
    return f"{root}/slots/{slot}"


# ----------------------------------------------------------------------------- slots


def list_root(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Return the image digest (32 bytes) of a release: the root over its sorted (path, size, SHA-256) entries."""
    ordered = sorted((path.encode(), size, digest) for path, size, digest in entries)
    root = hashlib.sha256(_LIST_TAG + struct.pack(">I", len(ordered)))
    for path, size, digest in ordered:
        root.update(struct.pack(">HI", len(path), size) + path + digest)
    return root.digest()


def list_files(disk: FileSystem, folder: str) -> list[str]:
    """Return the paths of all files below `folder`, sorted by their bytes; raises `OSError`."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        for name in disk.listdir(f"{folder}/{inside}" if inside else folder):
            path = f"{inside}/{name}" if inside else name
            if disk.is_dir(f"{folder}/{path}"):
                waiting.append(path)
            else:
                found.append(path)
    return sorted(found, key=str.encode)


def slot_digest(disk: FileSystem, root: str, slot: str) -> bytes:
    """Return the digest of what a slot holds now, read from the disk; a link in it is an `OSError`."""
    folder = slot_folder(root, slot)
    entries = []
    for path in list_files(disk, folder):
        data = disk.read_bytes(f"{folder}/{path}")
        entries.append((path, len(data), hashlib.sha256(data).digest()))
    return list_root(entries)


def seal_path(root: str, slot: str) -> str:
    """Return where a slot's seal lies: beside the slot, so that no file of a release can be one."""
    return f"{root}/slots/{slot}.sealed"


def encode_seal(seal: Seal) -> bytes:
    """Return a seal's bytes: magic, SHA-256, JSON."""
    body = json.dumps(asdict(seal), sort_keys=True, separators=(",", ":")).encode("ascii")
    return _SEAL_MAGIC + hashlib.sha256(_SEAL_MAGIC + body).digest() + body


def read_seal(disk: FileSystem, root: str, slot: str) -> Seal | None:
    """Return a slot's seal; None when there is none or it is torn."""
    try:
        data = disk.read_bytes(seal_path(root, slot))
        body = data[40:]
        if data[:40] != _SEAL_MAGIC + hashlib.sha256(_SEAL_MAGIC + body).digest():
            return None
        return Seal(**json.loads(body))
    except (OSError, ValueError, TypeError):
        return None


def slot_fault(disk: FileSystem, root: str, slot: str, floor: Floor) -> str:
    """Return why a slot must not be started, empty when it may: seal, digest of every byte, revoked, counter."""
    seal = read_seal(disk, root, slot)
    if seal is None:
        return NOT_SEALED
    try:
        whole = slot_digest(disk, root, slot).hex() == seal.digest
    except (OSError, UnicodeError):
        whole = False
    if not whole:
        return SLOT_DAMAGED
    if seal.release in floor.revoked:
        return REVOKED
    return OLD_COUNTER if seal.counter < floor.counter else ""


# ----------------------------------------------------------------------------- selection


def selected_slot(disk: FileSystem, root: str) -> str:
    """Return the slot that `current` names; empty when it names none."""
    try:
        name = disk.readlink(f"{root}/current").removeprefix("slots/")
    except OSError:
        return ""
    return name if name in SLOTS else ""


def select_slot(disk: FileSystem, root: str, slot: str) -> None:
    """Make `current` name `slot`, at once and durably; raises `OSError`."""
    if selected_slot(disk, root) != slot:
        fresh = f"{root}/current.new"
        if disk.exists(fresh):
            disk.unlink(fresh)
        disk.symlink(f"slots/{slot}", fresh)
        disk.replace(fresh, f"{root}/current")
    disk.fsync_dir(root)


def load_records(disk: FileSystem, root: str) -> Records:
    """Return the records, mended where both copies of one are broken, and durable before anybody acts on them.

    Broken `trial`: the trial has failed, whatever it was. Broken `confirmed`: the slot from which the last trial
    set out, else the selected one if it is whole, else any whole one; a trial under way has failed. Broken `floor`: the
    confirmed slot's counter, permits used up as far as the trial knows; the revocations come back with the log.
    Raises `NothingBootableError`.
    """
    folder = boot_folder(root)
    sync_records(disk, folder)
    trial = read_record(disk, folder, Trial)
    confirmed = read_record(disk, folder, Confirmed)
    floor = read_record(disk, folder, Floor)
    starts = read_record(disk, folder, Starts)
    if confirmed is None:
        slot = _last_confirmed(disk, root, trial, floor or Floor())
        seal = read_seal(disk, root, slot)
        confirmed = Confirmed(slot=slot, digest=seal.digest if seal else "")
        if trial is not None and trial.phase in ("armed", "trial"):
            trial = replace(trial, phase="reverted", reason=RECORDS_BROKEN)
            write_record(disk, folder, trial)
        write_record(disk, folder, confirmed)
    if floor is None:
        seal = read_seal(disk, root, confirmed.slot)
        used = max(trial.permit if trial else 0, confirmed.permit)
        floor = Floor(counter=seal.counter if seal else 0, acted=used, declined=used)
        write_record(disk, folder, floor)
    if trial is None:
        trial = _lost_trial(confirmed, floor)
        write_record(disk, folder, trial)
    if starts is None:
        starts = Starts()
        write_record(disk, folder, starts)
    return Records(trial=trial, confirmed=confirmed, floor=floor, starts=starts)


def choose_slot(disk: FileSystem, root: str) -> Choice:
    """Decide the start that comes now, and make the decision durable before it is returned.

    The caller must hold the root's lock, and no agent may be alive. An attempt or a start is counted *before* it
    happens, so that a crash at any point costs one and never gives one back. Raises `NothingBootableError`, `OSError`.
    """
    records = load_records(disk, root)
    trial = records.trial
    # An intent whose selection did not become durable is not a trial: the agent selects again or withdraws.
    if records.is_open and (trial.phase == "trial" or selected_slot(disk, root) == trial.slot):
        reason = slot_fault(disk, root, trial.slot, records.floor)
        if not reason and trial.phase == "trial" and trial.attempts >= trial.attempts_max:
            reason = ATTEMPTS_USED_UP
        if not reason:
            return _start_trial(disk, root, records)
        revert_trial(disk, root, reason)
        records = load_records(disk, root)
    return _start_confirmed(disk, root, _fall_back(disk, root, records))


def revert_trial(disk: FileSystem, root: str, reason: str) -> None:
    """End the open trial with `reason`: first the record, then the selection; nothing when none is open.

    A confirmation that became durable before wins: then there is no open trial. Raises `OSError`.
    """
    records = load_records(disk, root)
    if records.is_open:
        over = replace(records.trial, phase="reverted", reason=reason)
        write_record(disk, boot_folder(root), over)
    select_slot(disk, root, records.confirmed.slot)


def note_health(disk: FileSystem, root: str) -> None:
    """Record that the confirmed slot was healthy since this start; the launcher's own record, so it may."""
    starts = read_record(disk, boot_folder(root), Starts) or Starts()
    if starts.unhealthy:
        write_record(disk, boot_folder(root), replace(starts, unhealthy=0))


# ----------------------------------------------------------------------------- parts


def _start_trial(disk: FileSystem, root: str, records: Records) -> Choice:
    trial = replace(records.trial, phase="trial", attempts=records.trial.attempts + 1)
    write_record(disk, boot_folder(root), trial)
    starts = replace(records.starts, boots=records.starts.boots + 1)
    write_record(disk, boot_folder(root), starts)
    select_slot(disk, root, trial.slot)
    return Choice(
        slot=trial.slot,
        trial=True,
        permit=trial.permit,
        attempts=trial.attempts,
        trial_ms=trial.trial_ms,
        boots=starts.boots,
    )


def _start_confirmed(disk: FileSystem, root: str, records: Records) -> Choice:
    slot = records.confirmed.slot
    fault = slot_fault(disk, root, slot, records.floor)
    if fault in (NOT_SEALED, SLOT_DAMAGED):
        raise NothingBootableError(f"slot {slot}: {fault}; slot {other_slot(slot)} cannot stand in for it")
    # A revoked slot with no other to run is run all the same: what cannot run cannot be mended (W12).
    select_slot(disk, root, slot)
    starts = Starts(
        boots=records.starts.boots + 1,
        unhealthy=records.unhealthy + 1,
        digest=records.confirmed.digest,
    )
    write_record(disk, boot_folder(root), starts)
    return Choice(slot=slot, trial=False, permit=0, attempts=0, trial_ms=0, boots=starts.boots)


def _fall_back(disk: FileSystem, root: str, records: Records) -> Records:
    """Return the records after the fall back that is due, if the other slot may be started (W12)."""
    confirmed = records.confirmed
    reason = slot_fault(disk, root, confirmed.slot, records.floor)
    if not reason and records.unhealthy >= STARTS_WITHOUT_HEALTH_MAX:
        reason = NO_HEALTH
    other = other_slot(confirmed.slot)
    if not reason or not _may_stand_in(disk, root, other, records, reason):
        return records
    seal = read_seal(disk, root, other)
    fallen = Confirmed(
        slot=other,
        digest=seal.digest if seal else "",
        permit=max(confirmed.permit, records.trial.permit),
        reason=reason,
        failed=confirmed.digest,
    )
    write_record(disk, boot_folder(root), fallen)
    return replace(records, confirmed=fallen)


def _may_stand_in(disk: FileSystem, root: str, slot: str, records: Records, reason: str) -> bool:
    """Answer whether a slot may be started in place of the confirmed one, which is given up for `reason`.

    It must be sealed, whole, unrevoked, new enough, and must not have failed here itself (W12). In place of an image
    that only lacks health it must also have been confirmed here before: one that is staged and was never permitted
    has not been accepted by anybody, and what runs is not known to be worse.
    """
    seal = read_seal(disk, root, slot)
    if seal is None or slot_fault(disk, root, slot, records.floor):
        return False
    trial, confirmed = records.trial, records.confirmed
    has_failed = seal.digest == confirmed.failed or (
        trial.phase == "reverted" and trial.digest == seal.digest
    )
    return not has_failed and (reason != NO_HEALTH or seal.digest == confirmed.previous)


def _last_confirmed(disk: FileSystem, root: str, trial: Trial | None, floor: Floor) -> str:
    if trial is not None and trial.base in SLOTS:
        first = trial.base
    else:
        first = selected_slot(disk, root) or SLOTS[0]
    candidates = (first, other_slot(first))
    for slot in candidates:
        if not slot_fault(disk, root, slot, floor):
            return slot
    for slot in candidates:
        if slot_fault(disk, root, slot, floor) in (REVOKED, OLD_COUNTER):
            return slot
    raise NothingBootableError("no record says which slot was confirmed, and none is whole")


def _lost_trial(confirmed: Confirmed, floor: Floor) -> Trial:
    """Return what stands for a trial record that is gone: failed, unless its permit is already confirmed."""
    if floor.acted == confirmed.permit:
        return Trial(permit=floor.acted)
    return Trial(
        phase="reverted",
        slot=other_slot(confirmed.slot),
        base=confirmed.slot,
        permit=floor.acted,
        reason=RECORDS_BROKEN,
    )
