"""The `directory` back end: two slot directories, a symlink and boot records, on any Linux.

The store of the device lies elsewhere and is one for both versions; nothing here copies or opens it. The launcher
(`launcher`, `selection`) writes the records while no agent lives, this back end while one does. What it is not: it
cannot mend a kernel or an interpreter, its security counter is a file, and it says what it runs without a proof.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from swarm.install.bundle import parse_bundle
from swarm.install.filesystem import FileSystem
from swarm.install.image import ImageError
from swarm.install.layout import BundleLayout, slot_status
from swarm.install.outcome import boot_outcome
from swarm.install.port import (
    Attestation,
    BootOutcome,
    Capability,
    DeviceStatus,
    InstallError,
    InstallPlan,
    InstallReason,
    Intent,
    Restart,
    SlotState,
    SlotStatus,
    Staging,
)
from swarm.install.records import (
    AnyRecord,
    Confirmed,
    Floor,
    Starts,
    Trial,
    read_record,
    sync_records,
    write_record,
)
from swarm.install.selection import (
    SLOTS,
    Records,
    Seal,
    boot_folder,
    other_slot,
    read_seal,
    seal_path,
    select_slot,
    selected_slot,
    slot_fault,
    slot_folder,
)
from swarm.install.staging import (
    DirectoryStaging,
    fill_slot,
    medium,
    remove_tree,
    seal_of,
    seal_slot,
    staging_folder,
    wipe_slot,
)

RESTART_CODE: Final = 75
"""Exit code with which an agent asks its launcher for the next start (EX_TEMPFAIL: try again)."""

CHUNK_BYTES_MIN: Final = 4 * 1024
CHUNK_BYTES_MAX: Final = 32 * 1024
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A release is checked in memory; a Pi Zero 2 W has 512 MB in all."""

REVOKED_MAX: Final = 4096
"""Revoked releases in the boot records: 270 KB, a quarter of what a copy may be."""

SPARE_MARGIN_BYTES: Final = 64 * 1024
"""Left free beside a release: records, names, and what the store needs to say that there is no room."""

_FAULTS: Final = {
    "not-sealed": InstallReason.NOT_SEALED,
    "slot-damaged": InstallReason.WRONG_DIGEST,
    "revoked": InstallReason.REVOKED,
    "old-counter": InstallReason.OLD_COUNTER,
}
_CAPABILITIES: Final = frozenset(
    {
        Capability.RANDOM_WRITE,
        Capability.RESUME,
        Capability.READ_BOOTED,
        Capability.MULTIPLE_ATTEMPTS,
        Capability.ARM_PERSISTS,
        Capability.CATCHES_HANG,
        Capability.REVERT_AFTER_CONFIRM,
    }
)


class DirectoryBackend:
    """An `InstallBackend` over two directories below `root`; one process at a time, the one the launcher started."""

    def __init__(
        self, disk: FileSystem, root: str, *, booted: str, vendor: bytes, device_class: bytes
    ) -> None:
        """Take over slot records below `root`; `booted` is the slot that the launcher says it started."""
        if booted not in SLOTS:
            raise InstallError(InstallReason.BAD_PLAN, f"no slot {booted!r}")
        self._disk = disk
        self._root = root
        self._booted = booted
        self._spare = other_slot(booted)
        self._ids = (vendor, device_class)
        self._layouts: dict[str, BundleLayout] = {}

    @property
    def name(self) -> str:
        """`directory`."""
        return "directory"

    def capabilities(self) -> frozenset[Capability]:
        """Return what this back end can do."""
        return _CAPABILITIES

    # ------------------------------------------------------------------------- what is

    def status(self) -> DeviceStatus:
        """Read the media; see the port."""
        with medium():
            records = self._records()
            free = self._disk.free_bytes(self._root) - SPARE_MARGIN_BYTES
            return DeviceStatus(
                booted=self._booted,
                slots=tuple((slot, slot_status(self._disk, self._root, records, slot)) for slot in SLOTS),
                settled=self._is_settled(records),
                counter=records.floor.counter,
                boots=records.starts.boots,
                # Chunks and the unpacked slot lie side by side until the seal.
                spare_bytes=max(0, min((free + self._reclaimed()) // 2, FILE_BYTES_MAX)),
                revoked=tuple(bytes.fromhex(release) for release in records.floor.revoked),
            )

    def outcome(self) -> BootOutcome:
        """Join the last intent with what was started; see the port."""
        with medium():
            records = self._records()
        return boot_outcome(records.trial, records.confirmed)

    def attest(self, nonce: bytes) -> Attestation:
        """Say what the running slot was sealed as; nothing here could prove it."""
        seal = read_seal(self._disk, self._root, self._booted)
        digest = bytes.fromhex(seal.digest) if seal else b""
        return Attestation(kind="self-report", slot=self._booted, digest=digest, nonce=nonce)

    def read_booted(self, offset: int, count: int) -> bytes:
        """Return bytes of the running image's file; see the port."""
        return self._read(self._booted, offset, count)

    def read_sealed(self, offset: int, count: int) -> bytes:
        """Return bytes of the sealed spare image's file; see the port."""
        return self._read(self._spare, offset, count)

    # ------------------------------------------------------------------------- fetch and seal

    def begin(self, plan: InstallPlan) -> Staging:
        """Take up fetching; see the port."""
        self._check_plan(plan)
        with medium():
            records = self._records()
            self._check_settled(records)
            self._check_release(records, plan)
            seal = read_seal(self._disk, self._root, self._spare)
            is_sealed = seal == seal_of(plan)
            staging = DirectoryStaging(self._disk, self._root, plan, sealed=is_sealed)
            missing = sum(plan.length_of(index) for index in staging.have().missing())
            # The spare slot's present content is given back before the new one is unpacked.
            unpacked = 0 if is_sealed else max(0, plan.file_bytes - (seal.file_size if seal else 0))
            if self._disk.free_bytes(self._root) < missing + unpacked + SPARE_MARGIN_BYTES:
                raise InstallError(InstallReason.NO_SPACE, f"{missing + unpacked} bytes are needed")
            return staging

    def seal(self, staging: Staging) -> SlotStatus:
        """Verify, unpack, read back, seal; see the port."""
        plan = staging.plan
        wanted = seal_of(plan)
        with medium():
            records = self._records()
            self._check_settled(records)
            self._check_release(records, plan)
            if read_seal(self._disk, self._root, self._spare) == wanted:
                self._check_slot(records, self._spare)
                remove_tree(self._disk, self._root, staging_folder(self._root))
                return slot_status(self._disk, self._root, records, self._spare)
            if not isinstance(staging, DirectoryStaging):
                raise InstallError(InstallReason.BAD_PLAN, "staging of another back end")
            staging.checkpoint()
            try:
                self._unpack(staging, wanted)
            except InstallError as error:
                if error.reason is not InstallReason.INCOMPLETE:
                    # One of the chunks is not what its sender or this disk said; nobody knows which.
                    remove_tree(self._disk, self._root, staging_folder(self._root))
                raise
            remove_tree(self._disk, self._root, staging_folder(self._root))
            return slot_status(self._disk, self._root, records, self._spare)

    def discard(self) -> None:
        """Drop chunks and a staged image that was never confirmed; see the port."""
        with medium():
            records = self._records()
            self._check_settled(records)
            remove_tree(self._disk, self._root, staging_folder(self._root))
            state = slot_status(self._disk, self._root, records, self._spare).state
            if state is not SlotState.PREVIOUS:
                self._layouts.pop(self._spare, None)
                wipe_slot(self._disk, self._root, self._spare)

    # ------------------------------------------------------------------------- decide once

    def decline(self, permit: int) -> None:
        """Make durable that a permit is never acted upon; see the port."""
        with medium():
            records = self._records()
            if permit <= max(records.trial.permit, records.confirmed.permit):
                raise InstallError(InstallReason.INTENT_WRITTEN, f"permit {permit}")
            if permit <= records.floor.declined:
                self._sync()
                return
            self._write(replace(records.floor, declined=permit))

    def arm(self, intent: Intent) -> None:
        """Write the intent, then select; see the port."""
        if intent.permit < 1 or intent.attempts < 1 or intent.trial_ms < 1:
            raise InstallError(InstallReason.BAD_PLAN, "permit, attempts and trial time are above 0")
        with medium():
            records = self._records()
            armed = self._trial_of(intent)
            if records.is_open and records.trial == armed:
                self._check_slot(records, self._spare)
                self._sync()
                select_slot(self._disk, self._root, self._spare)
                return
            self._check_settled(records)
            if intent.permit <= max(records.trial.permit, records.confirmed.permit):
                raise InstallError(InstallReason.PERMIT_USED, f"permit {intent.permit}")
            if intent.permit <= records.floor.declined:
                raise InstallError(InstallReason.PERMIT_DECLINED, f"permit {intent.permit}")
            if not armed.digest:
                raise InstallError(InstallReason.NOT_SEALED, intent.release.hex()[:16])
            self._check_slot(records, self._spare)
            # First what can only grow: should both copies of the trial record break, this still says which
            # permit was used, and it is never acted upon again.
            self._write(replace(records.floor, acted=intent.permit))
            self._write(armed)
            select_slot(self._disk, self._root, self._spare)

    def withdraw(self) -> None:
        """Take the selection and the intent back; see the port."""
        with medium():
            records = self._records()
            trial = records.trial
            is_armed = records.is_open and trial.phase == "armed"
            if not is_armed and trial.phase != "withdrawn":
                raise InstallError(InstallReason.NOT_ARMED)
            select_slot(self._disk, self._root, records.confirmed.slot)
            if is_armed:
                self._write(replace(trial, phase="withdrawn"))
            else:
                self._sync()

    def activate(self) -> Restart:
        """Ask for the restart; see the port."""
        with medium():
            records = self._records()
            selected = selected_slot(self._disk, self._root)
        if not (records.is_open and records.trial.phase == "armed" and selected == records.trial.slot):
            raise InstallError(InstallReason.NOT_ARMED)
        return Restart(exit_code=RESTART_CODE)

    # ------------------------------------------------------------------------- in trial, after it

    def confirm(self) -> None:
        """Make the trial the confirmed image; see the port."""
        with medium():
            records = self._records()
            trial, old = records.trial, records.confirmed
            if trial.permit and trial.permit == old.permit and self._booted == old.slot:
                self._sync()
                return
            self._check_in_trial(records)
            self._write(
                Confirmed(slot=trial.slot, digest=trial.digest, permit=trial.permit, previous=old.digest)
            )

    def revert(self, reason: str) -> Restart:
        """End the trial with a reason; see the port."""
        with medium():
            records = self._records()
            self._check_in_trial(records)
            self._write(replace(records.trial, phase="reverted", reason=reason))
            select_slot(self._disk, self._root, records.confirmed.slot)
        return Restart(exit_code=RESTART_CODE)

    def raise_counter(self, value: int) -> None:
        """Raise the security counter, at most to the confirmed image's; see the port."""
        with medium():
            records = self._records()
            self._check_settled(records)
            seal = read_seal(self._disk, self._root, self._booted)
            if value > (seal.counter if seal else 0):
                raise InstallError(InstallReason.COUNTER_TOO_HIGH, str(value))
            if value <= records.floor.counter:
                self._sync()
                return
            self._write(replace(records.floor, counter=value))

    def revoke(self, release: bytes) -> None:
        """Write a revoked release into the boot records; see the port."""
        with medium():
            floor = self._records().floor
            if release.hex() in floor.revoked:
                self._sync()
                return
            if len(floor.revoked) >= REVOKED_MAX:
                raise InstallError(InstallReason.OVERSIZED, f"{REVOKED_MAX} releases are revoked already")
            self._write(replace(floor, revoked=tuple(sorted((*floor.revoked, release.hex())))))

    # ------------------------------------------------------------------------- parts

    def _records(self) -> Records:
        folder = boot_folder(self._root)
        trial = read_record(self._disk, folder, Trial)
        confirmed = read_record(self._disk, folder, Confirmed)
        floor = read_record(self._disk, folder, Floor)
        starts = read_record(self._disk, folder, Starts)
        if trial is None or confirmed is None or floor is None:
            raise InstallError(InstallReason.RECORDS_BROKEN, "the next start mends them")
        # The launcher writes its starts while the agent lives, so a torn read of them is nothing.
        return Records(trial=trial, confirmed=confirmed, floor=floor, starts=starts or Starts())

    def _write(self, record: AnyRecord) -> None:
        write_record(self._disk, boot_folder(self._root), record)

    def _sync(self) -> None:
        """Make durable what an earlier call wrote and perhaps could not sync."""
        sync_records(self._disk, boot_folder(self._root))

    def _is_settled(self, records: Records) -> bool:
        return not records.is_open and self._booted == records.confirmed.slot

    def _check_settled(self, records: Records) -> None:
        if not self._is_settled(records):
            raise InstallError(InstallReason.NOT_SETTLED)

    def _check_in_trial(self, records: Records) -> None:
        trial = records.trial
        if not (records.is_open and trial.phase == "trial" and trial.slot == self._booted):
            raise InstallError(InstallReason.NOT_IN_TRIAL)

    def _check_slot(self, records: Records, slot: str) -> None:
        fault = slot_fault(self._disk, self._root, slot, records.floor)
        if fault:
            raise InstallError(_FAULTS[fault], f"slot {slot}")
        # A killed agent may have left a seal that is only in memory.
        self._disk.fsync(seal_path(self._root, slot))
        self._disk.fsync_dir(f"{self._root}/slots")

    def _check_plan(self, plan: InstallPlan) -> None:
        sizes = (len(plan.release), len(plan.file_digest), len(plan.image_digest), len(plan.chunk_root))
        chunk = plan.chunk_bytes
        is_chunk = CHUNK_BYTES_MIN <= chunk <= CHUNK_BYTES_MAX and chunk & (chunk - 1) == 0
        if sizes != (32, 32, 32, 32) or not is_chunk or plan.file_bytes < 1:
            raise InstallError(InstallReason.BAD_PLAN)
        if plan.chunk_count != -(-plan.file_bytes // chunk):
            raise InstallError(InstallReason.BAD_PLAN, "chunk count and file size differ")
        if (plan.vendor, plan.device_class) != self._ids:
            raise InstallError(InstallReason.WRONG_CLASS)
        if plan.file_bytes > FILE_BYTES_MAX:
            raise InstallError(InstallReason.OVERSIZED, f"{plan.file_bytes} bytes, at most {FILE_BYTES_MAX}")

    def _check_release(self, records: Records, plan: InstallPlan) -> None:
        if plan.counter < records.floor.counter:
            raise InstallError(InstallReason.OLD_COUNTER, f"{plan.counter}, at least {records.floor.counter}")
        if plan.release.hex() in records.floor.revoked:
            raise InstallError(InstallReason.REVOKED)

    def _unpack(self, staging: DirectoryStaging, wanted: Seal) -> None:
        data = staging.read_file()
        try:
            bundle = parse_bundle(data)
        except ImageError as error:
            raise InstallError(InstallReason.IMAGE_REFUSED, str(error)) from error
        if bundle.digest.hex() != wanted.digest:
            raise InstallError(InstallReason.WRONG_DIGEST)
        self._layouts.pop(self._spare, None)
        wipe_slot(self._disk, self._root, self._spare)
        try:
            fill_slot(self._disk, self._root, self._spare, bundle)
            seal_slot(self._disk, self._root, self._spare, wanted)
        except (OSError, InstallError):
            with suppress(OSError):
                wipe_slot(self._disk, self._root, self._spare)
            raise

    def _reclaimed(self) -> int:
        seal = read_seal(self._disk, self._root, self._spare)
        return seal.file_size if seal else 0

    def _read(self, slot: str, offset: int, count: int) -> bytes:
        with medium():
            seal = read_seal(self._disk, self._root, slot)
            if seal is None:
                raise InstallError(InstallReason.NOT_SEALED, f"slot {slot}")
            layout = self._layouts.get(slot)
            if layout is None or layout.digest.hex() != seal.digest:
                layout = BundleLayout(self._disk, slot_folder(self._root, slot))
                if layout.digest.hex() != seal.digest:
                    raise InstallError(InstallReason.WRONG_DIGEST, f"slot {slot}")
                self._layouts[slot] = layout
            if offset < 0 or count < 0 or offset + count > layout.size:
                raise InstallError(InstallReason.OUT_OF_RANGE, f"{offset}+{count} of {layout.size}")
            return layout.read(offset, count)

    def _trial_of(self, intent: Intent) -> Trial:
        """Return the record of an intent; its digest is empty when the spare slot holds another release."""
        seal = read_seal(self._disk, self._root, self._spare)
        is_there = seal is not None and seal.release == intent.release.hex()
        return Trial(
            phase="armed",
            slot=self._spare,
            base=self._booted,
            release=intent.release.hex(),
            digest=seal.digest if seal is not None and is_there else "",
            permit=intent.permit,
            nonce_height=intent.nonce.height,
            nonce_root=intent.nonce.root.hex(),
            attempts_max=intent.attempts,
            trial_ms=intent.trial_ms,
        )
