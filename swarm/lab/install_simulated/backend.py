"""The `simulated` install back end: what an agent on a simulated board does with an image.

The order of writes is that of FIRMWARE section 6. The intent is durable before the order that the bootloader follows,
and the order leaves a trace on the flash from before the intent counts until the bootloader has taken it: so after any
cut it is known whether an intent was ever acted upon (`start`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from firmware_sim.bootloader import UPDATE_SECTOR, measured_key
from firmware_sim.slots import Mark
from swarm.crypto.digest import tagged_sha256
from swarm.crypto.keys import KeyPair
from swarm.crypto.signing import sign
from swarm.install.directory import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, RESTART_CODE, REVOKED_MAX
from swarm.install.image import ImageError, verify_image
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
from swarm.install.records import Confirmed, Trial
from swarm.install.selection import Records, Seal
from swarm.install.staging import medium, seal_of
from swarm.lab.install_simulated.chips import PRIMARY, SECONDARY, SealedImage
from swarm.lab.install_simulated.medium import SimulatedMedium
from swarm.lab.install_simulated.staging import SimulatedStaging
from swarm.lab.install_simulated.start import PREPARING, WITHDRAWING

ATTESTATION_TAG: Final = "swarm/lab/attestation/1"

_CAPABILITIES: Final = frozenset(
    {
        Capability.RANDOM_WRITE,
        Capability.RESUME,
        Capability.READ_BOOTED,
        Capability.NATIVE_VERIFY,
        Capability.HARDWARE_COUNTER,
        Capability.ARM_PERSISTS,
        Capability.CATCHES_HANG,
        Capability.REVERT_AFTER_CONFIRM,
    }
)


def attested_bytes(digest: bytes, nonce: bytes) -> bytes:
    """Return what an attestation signs: that the image of this digest (32 bytes) runs, for this nonce."""
    return tagged_sha256(ATTESTATION_TAG, digest, nonce)


def attestation_key(secret: bytes, digest: bytes) -> bytes:
    """Return the public key (32 bytes) with which a device of this secret proves that it runs this image."""
    return KeyPair(measured_key(secret, digest)).public


class SimulatedBackend:
    """An `InstallBackend` over a `SimulatedMedium` that is on; made anew after each start."""

    def __init__(self, medium: SimulatedMedium) -> None:
        """Serve the image that runs. Raises `InstallError` (NOTHING_BOOTABLE) while the device is off."""
        if not medium.is_on:
            raise InstallError(InstallReason.NOTHING_BOOTABLE, "the device is off")
        self._medium = medium
        self._chips = medium.chips

    @property
    def name(self) -> str:
        """`simulated`."""
        return "simulated"

    def capabilities(self) -> frozenset[Capability]:
        """Return what this device can do: attempts and proof depend on how it was made."""
        found = _CAPABILITIES
        if self._medium.settings.attempts > 1:
            found |= {Capability.MULTIPLE_ATTEMPTS}
        return found | {Capability.MEASURED_BOOT} if self._medium.secret else found

    # ------------------------------------------------------------------------- what is

    def status(self) -> DeviceStatus:
        """Read the media; see the port."""
        with medium():
            records = self._records()
            return DeviceStatus(
                booted=PRIMARY,
                slots=((PRIMARY, self._running_status(records)), (SECONDARY, self._spare_status(records))),
                settled=self._is_settled(records),
                counter=self._chips.app.counter.read() or 0,
                boots=records.starts.boots,
                spare_bytes=self._chips.layout.image_max,
                revoked=tuple(bytes.fromhex(release) for release in records.floor.revoked),
            )

    def outcome(self) -> BootOutcome:
        """Say what became of the last intent; see the port."""
        with medium():
            records = self._records()
        trial = records.trial
        if trial.phase != "reverted":
            # Until then the reason is this back end's own note of how far it got.
            trial = replace(trial, reason="")
        return boot_outcome(trial, records.confirmed)

    def attest(self, nonce: bytes) -> Attestation:
        """Sign the digest of what the bootloader measured and started, with a key that only this image gets."""
        started = self._medium.board.last.boot
        digest = started.started.digest if started.started else b""
        if not self._medium.secret:
            return Attestation(kind="self-report", slot=PRIMARY, digest=digest, nonce=nonce)
        signature = sign(KeyPair(started.key), attested_bytes(digest, nonce))
        return Attestation(kind="measured", slot=PRIMARY, digest=digest, nonce=nonce, signature=signature)

    def read_booted(self, offset: int, count: int) -> bytes:
        """Return bytes of the running image's file; see the port."""
        running = self._chips.running()
        seal = self._chips.seal(running.digest)
        if not running.ok or seal is None:
            raise InstallError(InstallReason.WRONG_DIGEST, "the running image is damaged")
        return self._read(self._chips.layout.primary.start, seal, offset, count)

    def read_sealed(self, offset: int, count: int) -> bytes:
        """Return bytes of the sealed spare image's file; see the port."""
        spare = self._chips.spare()
        if spare is None:
            raise InstallError(InstallReason.NOT_SEALED)
        return self._read(self._chips.layout.secondary.at(spare.place), spare.seal, offset, count)

    # ------------------------------------------------------------------------- fetch and seal

    def begin(self, plan: InstallPlan) -> Staging:
        """Take up fetching; see the port. A chunk is at least a sector of this flash."""
        self._check_plan(plan)
        with medium():
            records = self._records()
            self._check_settled(records)
            self._check_release(records, plan)
            return SimulatedStaging(self._chips, plan, sealed=self._is_sealed(plan))

    def seal(self, staging: Staging) -> SlotStatus:
        """Verify what the flash holds, and seal it; see the port."""
        plan = staging.plan
        with medium():
            records = self._records()
            self._check_settled(records)
            self._check_release(records, plan)
            if not self._is_sealed(plan):
                if not isinstance(staging, SimulatedStaging):
                    raise InstallError(InstallReason.BAD_PLAN, "staging of another back end")
                staging.checkpoint()
                try:
                    self._verify(plan, staging.read_file())
                except InstallError as error:
                    if error.reason is not InstallReason.INCOMPLETE:
                        # One of the chunks is not what its sender or this flash said; nobody knows which.
                        self._chips.forget_progress()
                    raise
                self._chips.add_seal(seal_of(plan))
            self._chips.forget_progress()
            return self._spare_status(records)

    def discard(self) -> None:
        """Drop chunks and a staged image that was never confirmed; see the port."""
        with medium():
            records = self._records()
            self._check_settled(records)
            self._chips.forget_progress()
            if self._spare_status(records).state is not SlotState.PREVIOUS:
                self._chips.drop_seals()

    # ------------------------------------------------------------------------- decide once

    def decline(self, permit: int) -> None:
        """Make durable that a permit is never acted upon; see the port."""
        with medium():
            records = self._records()
            if permit <= max(records.trial.permit, records.confirmed.permit):
                raise InstallError(InstallReason.INTENT_WRITTEN, f"permit {permit}")
            if permit <= records.floor.declined:
                self._chips.sync()
                return
            self._chips.write(replace(records.floor, declined=permit))

    def arm(self, intent: Intent) -> None:
        """Write the intent, then order the swap; see the port."""
        if intent.permit < 1 or intent.attempts < 1 or intent.trial_ms < 1:
            raise InstallError(InstallReason.BAD_PLAN, "permit, attempts and trial time are above 0")
        with medium():
            records = self._records()
            armed = self._trial_of(intent)
            if records.is_open and replace(records.trial, reason="") == armed:
                self._check_spare(records, intent.release)
                self._chips.sync()
                if records.trial.reason or not self._chips.is_ordered():
                    self._order(armed)
                return
            self._check_settled(records)
            if intent.permit <= max(records.trial.permit, records.confirmed.permit):
                raise InstallError(InstallReason.PERMIT_USED, f"permit {intent.permit}")
            if intent.permit <= records.floor.declined:
                raise InstallError(InstallReason.PERMIT_DECLINED, f"permit {intent.permit}")
            image = self._check_spare(records, intent.release)
            if image.place != UPDATE_SECTOR:
                self._chips.forget_progress()
                self._chips.move_up(image)
            # First what can only grow: should both copies of the trial record break, this still says which
            # permit was used, and it is never acted upon again.
            self._chips.write(replace(records.floor, acted=intent.permit))
            self._order(armed)

    def withdraw(self) -> None:
        """Take the order and the intent back; see the port."""
        with medium():
            records = self._records()
            trial = records.trial
            if records.is_open and trial.phase == "armed":
                self._chips.write(replace(trial, reason=WITHDRAWING))
                self._chips.erase_order()
                self._chips.write(replace(trial, phase="withdrawn", reason=""))
            elif trial.phase == "withdrawn":
                self._chips.sync()
            else:
                raise InstallError(InstallReason.NOT_ARMED)

    def activate(self) -> Restart:
        """Ask for the reset; see the port."""
        with medium():
            records = self._records()
            trial = records.trial
        is_armed = records.is_open and trial.phase == "armed" and not trial.reason
        if not (is_armed and self._chips.is_ordered()):
            raise InstallError(InstallReason.NOT_ARMED)
        return Restart(exit_code=RESTART_CODE)

    # ------------------------------------------------------------------------- in trial, after it

    def confirm(self) -> None:
        """Make the trial the confirmed image: one flag on the flash; see the port."""
        app = self._chips.app
        with medium():
            records = self._records()
            trial, old = records.trial, records.confirmed
            if trial.permit and trial.permit == old.permit and self._is_running(old.digest):
                self._chips.sync()
                return
            self._check_in_trial(records)
            # Starts without health of the image before are not those of this one.
            app.note_well()
            app.confirm()
            self._chips.write(
                Confirmed(slot=PRIMARY, digest=trial.digest, permit=trial.permit, previous=old.digest)
            )

    def revert(self, reason: str) -> Restart:
        """End the trial with a reason; see the port."""
        with medium():
            records = self._records()
            self._check_in_trial(records)
            if self._chips.app.is_settled():
                raise InstallError(InstallReason.NOT_IN_TRIAL, "it is confirmed")
            self._chips.write(replace(records.trial, reason=reason))
            self._chips.app.revert()
        return Restart(exit_code=RESTART_CODE)

    def raise_counter(self, value: int) -> None:
        """Raise the security counter, at most to the confirmed image's; see the port."""
        with medium():
            self._check_settled(self._records())
            if value > self._chips.running().counter:
                raise InstallError(InstallReason.COUNTER_TOO_HIGH, str(value))
            self._chips.app.counter.raise_to(value)

    def revoke(self, release: bytes) -> None:
        """Write a revoked release into the boot records; see the port."""
        with medium():
            floor = self._records().floor
            revoked = tuple(sorted({*floor.revoked, release.hex()}))
            if len(revoked) > REVOKED_MAX:
                raise InstallError(InstallReason.OVERSIZED, f"{REVOKED_MAX} releases are revoked already")
            # The bootloader first: once `status` names a release nobody asks again.
            self._chips.revoke_sealed(revoked)
            if revoked == floor.revoked:
                self._chips.sync()
                return
            self._chips.write(replace(floor, revoked=revoked))

    # ------------------------------------------------------------------------- parts

    def _records(self) -> Records:
        return self._chips.records()

    def _is_running(self, digest: str) -> bool:
        return self._chips.running().digest.hex() == digest

    def _is_settled(self, records: Records) -> bool:
        chips = self._chips
        is_quiet = chips.app.is_settled() and not records.is_open and not chips.is_ordered()
        return is_quiet and self._is_running(records.confirmed.digest)

    def _check_settled(self, records: Records) -> None:
        if not self._is_settled(records):
            raise InstallError(InstallReason.NOT_SETTLED)

    def _check_in_trial(self, records: Records) -> None:
        trial = records.trial
        is_trial = records.is_open and trial.phase == "trial" and self._is_running(trial.digest)
        # An order in the other trailer is one to go back: nothing else is written beside a trial.
        if not is_trial or self._chips.app.secondary.read().magic is Mark.SET:
            raise InstallError(InstallReason.NOT_IN_TRIAL)

    def _check_plan(self, plan: InstallPlan) -> None:
        sizes = (len(plan.release), len(plan.file_digest), len(plan.image_digest), len(plan.chunk_root))
        chunk, layout = plan.chunk_bytes, self._chips.layout
        is_chunk = CHUNK_BYTES_MIN <= chunk <= CHUNK_BYTES_MAX and chunk & (chunk - 1) == 0
        if sizes != (32, 32, 32, 32) or not is_chunk or chunk % layout.sector or plan.file_bytes < 1:
            raise InstallError(InstallReason.BAD_PLAN)
        if plan.chunk_count != -(-plan.file_bytes // chunk):
            raise InstallError(InstallReason.BAD_PLAN, "chunk count and file size differ")
        rules = self._medium.rules
        if (plan.vendor, plan.device_class) != (rules.vendor, rules.device_class):
            raise InstallError(InstallReason.WRONG_CLASS)
        if plan.file_bytes > layout.image_max:
            raise InstallError(
                InstallReason.OVERSIZED, f"{plan.file_bytes} bytes, at most {layout.image_max}"
            )
        if self._is_running(plan.image_digest.hex()):
            raise InstallError(InstallReason.BAD_PLAN, "it is the running image")

    def _check_release(self, records: Records, plan: InstallPlan) -> None:
        counter = self._chips.app.counter.read() or 0
        if plan.counter < counter:
            raise InstallError(InstallReason.OLD_COUNTER, f"{plan.counter}, at least {counter}")
        if plan.release.hex() in records.floor.revoked:
            raise InstallError(InstallReason.REVOKED)

    def _check_spare(self, records: Records, release: bytes) -> SealedImage:
        """Return the sealed image of a release, whole and fit to be started."""
        image = self._chips.spare()
        if image is None or image.seal.release != release.hex():
            if any(seal.release == release.hex() for seal in self._spare_seals()):
                raise InstallError(InstallReason.WRONG_DIGEST, "the sealed image is damaged")
            raise InstallError(InstallReason.NOT_SEALED, release.hex()[:16])
        if image.seal.release in records.floor.revoked:
            raise InstallError(InstallReason.REVOKED)
        if image.verdict.counter < (self._chips.app.counter.read() or 0):
            raise InstallError(InstallReason.OLD_COUNTER)
        return image

    def _spare_seals(self) -> list[Seal]:
        running = self._chips.running().digest.hex()
        return [seal for seal in self._chips.seals() if seal.digest != running]

    def _is_sealed(self, plan: InstallPlan) -> bool:
        image = self._chips.spare()
        return image is not None and image.seal == seal_of(plan)

    def _verify(self, plan: InstallPlan, data: bytes) -> None:
        try:
            image = verify_image(data, self._medium.rules, bytes_max=self._chips.layout.image_max)
        except ImageError as error:
            raise InstallError(InstallReason.IMAGE_REFUSED, str(error)) from error
        if image.digest != plan.image_digest:
            raise InstallError(InstallReason.WRONG_DIGEST)
        if image.counter != plan.counter:
            raise InstallError(InstallReason.IMAGE_REFUSED, "another counter than the plan's")

    def _order(self, armed: Trial) -> None:
        """Make the intent durable, then the order; `start` tells after a cut how far this came."""
        self._chips.write(replace(armed, reason=PREPARING))
        self._chips.prepare_order()
        self._chips.write(armed)
        self._chips.give_order()

    def _running_status(self, records: Records) -> SlotStatus:
        running = self._chips.running()
        is_trial = records.is_open and not self._chips.app.is_settled()
        state = SlotState.TRIAL if is_trial else SlotState.CONFIRMED
        seal = self._chips.seal(running.digest)
        if seal is None:
            return SlotStatus(state=state, digest=running.digest, counter=running.counter)
        return _slot_status(state, seal)

    def _spare_status(self, records: Records) -> SlotStatus:
        image = self._chips.spare()
        trial, confirmed = records.trial, records.confirmed
        digest = image.seal.digest if image else ""
        if records.is_open:
            in_trial = self._is_running(trial.digest)
            state = SlotState.CONFIRMED if in_trial else SlotState.ARMED
        elif self._chips.progress().release:
            state = SlotState.FETCHING
        elif image is None:
            state = SlotState.EMPTY
        elif digest == confirmed.failed or (trial.phase == "reverted" and digest == trial.digest):
            state = SlotState.FAILED
        else:
            state = SlotState.PREVIOUS if digest == confirmed.previous else SlotState.STAGED
        return _slot_status(state, image.seal) if image else SlotStatus(state=state)

    def _read(self, start: int, seal: Seal, offset: int, count: int) -> bytes:
        if offset < 0 or count < 0 or offset + count > seal.file_size:
            raise InstallError(InstallReason.OUT_OF_RANGE, f"{offset}+{count} of {seal.file_size}")
        return self._chips.flash.read(start + offset, count)

    def _trial_of(self, intent: Intent) -> Trial:
        """Return the record of an intent; its digest is empty when the spare slot holds another release."""
        image = self._chips.spare()
        is_there = image is not None and image.seal.release == intent.release.hex()
        return Trial(
            phase="armed",
            slot=SECONDARY,
            base=PRIMARY,
            release=intent.release.hex(),
            digest=image.seal.digest if image is not None and is_there else "",
            permit=intent.permit,
            nonce_height=intent.nonce.height,
            nonce_root=intent.nonce.root.hex(),
            attempts_max=intent.attempts,
            trial_ms=intent.trial_ms,
        )


def _slot_status(state: SlotState, seal: Seal) -> SlotStatus:
    return SlotStatus(
        state=state,
        release=bytes.fromhex(seal.release),
        digest=bytes.fromhex(seal.digest),
        number=seal.number,
        counter=seal.counter,
        version=seal.version,
    )
