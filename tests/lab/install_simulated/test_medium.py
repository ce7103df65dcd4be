"""A simulated device as a whole: starts, behaviours, timers, cuts, records that broke, falling back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmware_sim.board import WATCHDOG_MS, Reset
from firmware_sim.errors import PowerLoss
from firmware_sim.posixfs import PosixFs
from swarm.crypto.signing import verify
from swarm.install.port import (
    Capability,
    InstallError,
    InstallReason,
    Outcome,
    SlotState,
)
from swarm.install.records import Confirmed, Floor, RecordPair, Trial
from swarm.lab.install_simulated.backend import SimulatedBackend, attestation_key, attested_bytes
from swarm.lab.install_simulated.chips import BOOT
from swarm.lab.install_simulated.medium import SETTINGS, Boot, SimulatedMedium, layout_for
from tests.install.conformance import refused
from tests.support.install import fetch, install, intent_for, into_trial, running, stage
from tests.support.simulated_devices import RULES, SECRET, SimulatedRig, release_of, simulated_rig


def into_behaviour(rig: SimulatedRig, behaves: str, *, attempts: int = 1) -> SimulatedMedium:
    """Start a trial of an image that behaves so."""
    into_trial(rig, release_of(2, behaves=behaves), attempts=attempts)
    assert rig.medium.boot.trial
    return rig.medium


def outcome_of(medium: SimulatedMedium) -> tuple[Outcome, str]:
    found = SimulatedBackend(medium).outcome()
    return found.outcome, found.reason


# ----------------------------------------------------------------------------- starts


def test_a_start_says_what_runs() -> None:
    rig = simulated_rig()
    assert rig.medium.boot == Boot()
    assert not rig.medium.boot.is_bootable
    boot = rig.medium.power_on()
    first = rig.release(1)
    assert boot == Boot(
        slot="primary",
        digest=first.plan.image_digest,
        release=first.plan.release,
        number=1,
        behaves="healthy",
    )
    into_trial(rig, rig.release(2))
    assert (rig.medium.boot.number, rig.medium.boot.trial, rig.medium.boot.attempts) == (2, True, 1)


def test_nothing_bootable_is_said() -> None:
    rig = simulated_rig()
    rig.medium.chips.flash.flip(8 * 100)
    assert not rig.medium.power_on().is_bootable
    assert rig.medium.behaves == "off"
    assert rig.medium.next_reset_ms() is None
    assert refused(lambda: SimulatedBackend(rig.medium)) is InstallReason.NOTHING_BOOTABLE


def test_a_first_image_that_could_not_start_is_refused() -> None:
    release = release_of(1)
    medium = SimulatedMedium(RULES, image_bytes_max=8192)
    torn = release.data[:-1] + b"\0"
    assert refused(lambda: medium.set_up(release.plan, torn)) is InstallReason.IMAGE_REFUSED
    wrong = replace(release.plan, image_digest=bytes(32))
    assert refused(lambda: medium.set_up(wrong, release.data)) is InstallReason.WRONG_DIGEST
    big = release_of(1, size=9000)
    assert refused(lambda: medium.set_up(big.plan, big.data)) is InstallReason.OVERSIZED


def test_the_flash_grows_coarser_with_its_images() -> None:
    assert [layout_for(size).sector for size in (1, 65_536, 1 << 20, 16 << 20)] == [
        4096,
        4096,
        16_384,
        32_768,
    ]
    with pytest.raises(InstallError, match="oversized"):
        layout_for(1 << 30)


def test_a_chunk_is_at_least_a_sector() -> None:
    medium = SimulatedMedium(RULES, image_bytes_max=1 << 20)
    first = release_of(1, chunk=16_384)
    medium.set_up(first.plan, first.data)
    medium.power_on()
    backend = SimulatedBackend(medium)
    assert refused(lambda: backend.begin(release_of(2, size=100_000).plan)) is InstallReason.BAD_PLAN
    release = release_of(2, size=100_000, chunk=32_768)
    backend.seal(fetch(backend, release))
    backend.arm(intent_for(release))
    assert medium.reset().number == 2


def test_a_longer_image_leaves_no_trace_that_matters() -> None:
    """Long, short, long again, up and down: remains of longer images lie behind the shorter ones."""
    rig = simulated_rig(size=16_000)
    for number, size in [(2, 3000), (3, 16_000), (4, 5000), (5, 12_000)]:
        release = release_of(number, size=size)
        backend = rig.start()
        backend.arm(replace(stage(backend, release), permit=number * 10))
        rig.start().confirm()
        assert rig.start().read_booted(0, size) == release.data
    back = rig.start()
    back.arm(replace(intent_for(release_of(4)), permit=90, release=back.status().spare.release))
    assert running(rig.start().status()) == 4


# ----------------------------------------------------------------------------- what an image does to itself


def test_a_crash_ends_the_trial() -> None:
    medium = into_behaviour(simulated_rig(), "crash")
    due = medium.next_reset_ms()
    assert due is not None
    (start,) = medium.advance_to(due)
    assert start.reason is Reset.CRASH
    assert medium.boot.number == 1
    assert outcome_of(medium) == (Outcome.REVERTED, "attempts-used-up")
    assert medium.next_reset_ms() is None


def test_a_crash_costs_one_attempt_of_three() -> None:
    medium = into_behaviour(simulated_rig(attempts=3), "crash", attempts=3)
    assert len(medium.advance_to(60_000)) == 3
    found = SimulatedBackend(medium).outcome()
    assert (found.outcome, found.attempts) == (Outcome.REVERTED, 3)


def test_the_intent_may_allow_fewer_attempts_than_the_bootloader() -> None:
    medium = into_behaviour(simulated_rig(attempts=3), "crash", attempts=2)
    medium.advance_to(60_000)
    found = SimulatedBackend(medium).outcome()
    assert (found.outcome, found.reason, found.attempts) == (Outcome.REVERTED, "attempts-used-up", 2)


def test_the_watchdog_ends_a_hang() -> None:
    medium = into_behaviour(simulated_rig(), "hang")
    assert not medium.advance_to(WATCHDOG_MS)
    medium.advance_to(2 * WATCHDOG_MS)
    assert medium.boot.number == 1


@pytest.mark.parametrize("behaves", ["healthy", "lie"])
def test_the_trial_timer_ends_a_trial_that_nobody_confirms(behaves: str) -> None:
    medium = into_behaviour(simulated_rig(attempts=3), behaves, attempts=3)
    assert medium.next_reset_ms() == 60_000
    assert not medium.advance_to(59_999)
    (start,) = medium.advance_to(60_000)
    assert start.reason is Reset.TIMER
    assert medium.boot.number == 1
    assert outcome_of(medium) == (Outcome.REVERTED, "trial-timer")


def test_the_trial_timer_ends_with_the_trial() -> None:
    rig = simulated_rig()
    into_trial(rig, rig.release(2)).confirm()
    assert rig.medium.next_reset_ms() is None
    assert not rig.medium.advance_to(10**7)


def test_nothing_on_the_device_catches_a_silent_brick() -> None:
    medium = into_behaviour(simulated_rig(), "brick")
    assert medium.next_reset_ms() is None
    assert not medium.advance_to(10**7)
    assert medium.behaves == "brick"
    medium.power_off()
    assert medium.power_on().number == 1


# ----------------------------------------------------------------------------- power


def test_a_cut_comes_where_it_was_put_and_only_once() -> None:
    rig = simulated_rig()
    backend = rig.start()
    rig.medium.cut_after(3)
    before = rig.medium.operations
    with pytest.raises(PowerLoss):
        fetch(backend, rig.release(2))
    assert rig.medium.operations == before + 4
    assert not rig.medium.is_on
    assert rig.medium.power_on().number == 1
    fetch(SimulatedBackend(rig.medium), rig.release(2))


def test_a_cut_may_be_taken_back() -> None:
    rig = simulated_rig()
    backend = rig.start()
    rig.medium.cut_after(0)
    rig.medium.cut_after(None)
    fetch(backend, rig.release(2))


def test_a_cut_in_the_bootloader_is_finished_by_the_next_start() -> None:
    rig = simulated_rig()
    backend = rig.start()
    backend.arm(stage(backend, rig.release(2)))
    rig.medium.cut_after(10, seed=7)
    with pytest.raises(PowerLoss):
        rig.medium.reset()
    assert rig.medium.power_on().number == 2


def test_a_fork_is_another_device() -> None:
    rig = simulated_rig()
    rig.start()
    copy = rig.medium.fork()
    assert not copy.is_on
    install(rig, rig.release(2))
    assert copy.power_on().number == 1
    assert rig.medium.boot.number == 2
    assert copy.operations < rig.medium.operations


# ----------------------------------------------------------------------------- the order and its intent


def test_an_order_without_an_intent_is_taken_back_before_the_image_runs() -> None:
    rig = simulated_rig()
    stage(rig.start(), rig.release(2))
    rig.medium.chips.prepare_order()
    rig.medium.chips.give_order()
    after = rig.start()
    assert running(after.status()) == 1
    assert after.status().settled
    assert after.outcome().outcome is Outcome.NONE


def test_an_intent_without_an_order_is_armed() -> None:
    rig = simulated_rig()
    backend = rig.start()
    intent = stage(backend, rig.release(2))
    probe = rig.medium.fork()
    probe.power_on()
    before = probe.operations
    SimulatedBackend(probe).arm(intent)
    needed = probe.operations - before
    assert needed > 5
    for operation in range(needed):
        device = rig.medium.fork()
        device.power_on()
        device.cut_after(operation)
        with pytest.raises(PowerLoss):
            SimulatedBackend(device).arm(intent)
        device.power_on()
        found = SimulatedBackend(device).outcome().outcome
        assert found in (Outcome.NONE, Outcome.ARMED)
        SimulatedBackend(device).arm(intent)
        assert device.reset().number == 2


def test_a_move_for_a_rollback_survives_withdrawal() -> None:
    rig = simulated_rig()
    backend = install(rig, rig.release(2))
    previous = replace(intent_for(rig.release(1)), permit=200, release=backend.status().spare.release)
    backend.arm(previous)
    backend.withdraw()
    assert backend.status().spare.state is SlotState.PREVIOUS
    assert backend.read_sealed(0, 6000) == rig.release(1).data
    rig.start().arm(replace(previous, permit=201))
    assert running(rig.start().status()) == 1


def test_chunks_are_not_written_beside_a_trial() -> None:
    """A staging that outlived its boot is as good as none."""
    rig = simulated_rig()
    backend = rig.start()
    intent = stage(backend, rig.release(2))
    other = rig.release(3)
    staging = backend.begin(other.plan)
    backend.discard()
    backend.seal(fetch(backend, rig.release(2)))
    backend.arm(intent)
    assert refused(lambda: staging.write_chunk(0, other.chunks[0])) is InstallReason.NOT_SETTLED
    rig.medium.reset()
    assert refused(lambda: staging.write_chunk(0, other.chunks[0])) is InstallReason.NOT_SETTLED


def test_the_running_image_is_not_fetched_again() -> None:
    rig = simulated_rig()
    again = replace(rig.release(1).plan, release=b"\x77" * 32, number=9)
    assert refused(lambda: rig.start().begin(again)) is InstallReason.BAD_PLAN


def test_another_counter_than_the_manifest_says_is_refused() -> None:
    rig = simulated_rig()
    release = rig.release(2).with_plan(counter=3)
    backend = rig.start()
    assert refused(lambda: backend.seal(fetch(backend, release))) is InstallReason.IMAGE_REFUSED


# ----------------------------------------------------------------------------- falling back (W12)


def test_five_starts_without_health_and_the_old_image_is_back() -> None:
    rig = simulated_rig()
    install(rig, rig.release(2))
    numbers = [running(rig.start().status()) for _ in range(6)]
    assert numbers == [2, 2, 2, 2, 2, 1]
    after = rig.start()
    assert (after.outcome().outcome, after.outcome().reason) == (Outcome.FELL_BACK, "no-health")
    assert after.status().settled
    assert after.status().spare.state is SlotState.FAILED
    assert [running(rig.start().status()) for _ in range(7)] == [1] * 7


def test_health_is_said_in_time() -> None:
    rig = simulated_rig()
    install(rig, rig.release(2))
    for _ in range(20):
        rig.start()
        rig.medium.healthy()
    assert running(rig.start().status()) == 2


def test_starts_of_the_old_image_are_not_those_of_the_new_one() -> None:
    rig = simulated_rig()
    for _ in range(9):
        rig.start()
    install(rig, rig.release(2))
    assert [running(rig.start().status()) for _ in range(3)] == [2, 2, 2]


def test_a_trial_is_not_healthy_before_it_is_confirmed() -> None:
    rig = simulated_rig()
    trial = into_trial(rig, rig.release(2))
    rig.medium.healthy()
    assert not trial.status().settled


def test_a_revoked_image_gives_way_to_a_staged_one() -> None:
    """W12: any sealed, unrevoked image with a counter that fits; the bootloader's choice stays."""
    rig = simulated_rig()
    backend = rig.start()
    stage(backend, rig.release(2))
    backend.revoke(rig.release(1).plan.release)
    after = rig.start()
    assert running(after.status()) == 2
    assert (after.outcome().outcome, after.outcome().reason) == (Outcome.FELL_BACK, "revoked")
    assert after.status().settled
    assert running(rig.start().status()) == 2


def test_a_damaged_confirmed_image_is_left() -> None:
    rig = simulated_rig()
    install(rig, rig.release(2))
    rig.medium.chips.flash.flip(8 * 100)
    after = rig.start()
    assert running(after.status()) == 1
    assert (after.outcome().outcome, after.outcome().reason) == (Outcome.FELL_BACK, "slot-damaged")
    assert after.status().settled


def test_a_revocation_is_known_to_the_bootloader_only_while_it_matters() -> None:
    """The list on the flash is short; releases that come and go do not fill it."""
    rig = simulated_rig()
    for number in range(2, 30):
        backend = rig.start()
        stage(backend, release_of(number))
        backend.revoke(release_of(number).plan.release)
        backend.discard()
    assert len(rig.start().status().revoked) == 28
    assert running(rig.start().status()) == 1


# ----------------------------------------------------------------------------- records


def break_record(rig: SimulatedRig, name: str) -> None:
    disk = rig.medium.chips.disk
    for copy in (0, 1):
        path = RecordPair(disk, BOOT, name).path(copy)
        disk.write_bytes(path, b"broken")
        disk.fsync(path)


@pytest.mark.parametrize("name", [Trial.NAME, Confirmed.NAME])
def test_a_trial_whose_record_broke_has_failed(name: str) -> None:
    rig = simulated_rig(attempts=3)
    into_trial(rig, rig.release(2), attempts=3)
    break_record(rig, name)
    assert refused(SimulatedBackend(rig.medium).status) is InstallReason.RECORDS_BROKEN
    after = rig.start()
    assert running(after.status()) == 1
    found = after.outcome()
    assert (found.outcome, found.reason, found.permit) == (Outcome.REVERTED, "records-broken", 102)
    assert refused(lambda: after.arm(intent_for(rig.release(2)))) is InstallReason.PERMIT_USED
    after.arm(intent_for(rig.release(2), permit=103))
    assert running(rig.start().status()) == 2


@pytest.mark.parametrize("name", [Trial.NAME, Confirmed.NAME, Floor.NAME])
def test_a_settled_device_with_a_broken_record_goes_on(name: str) -> None:
    rig = simulated_rig()
    install(rig, rig.release(2))
    break_record(rig, name)
    after = rig.start()
    assert (running(after.status()), after.status().settled) == (2, True)
    assert refused(lambda: after.decline(102)) is InstallReason.INTENT_WRITTEN
    after.arm(replace(stage(after, rig.release(3)), permit=200))
    assert running(rig.start().status()) == 3


@pytest.mark.parametrize("name", [Trial.NAME, Confirmed.NAME])
def test_an_armed_device_with_a_broken_record_does_not_start_the_image(name: str) -> None:
    rig = simulated_rig()
    backend = rig.start()
    backend.arm(stage(backend, rig.release(2)))
    break_record(rig, name)
    after = rig.start()
    assert running(after.status()) == 1
    assert after.status().settled
    assert after.outcome().outcome is Outcome.REVERTED


def test_a_partition_that_is_full_is_said_and_loses_nothing() -> None:
    rig = simulated_rig()
    fs: PosixFs = rig.medium.chips.fs
    backend = rig.start()
    fs.space = fs.used()
    release = rig.release(2)
    with pytest.raises(InstallError, match="no-space"):
        backend.seal(fetch(backend, release))
    assert running(rig.start().status()) == 1
    fs.space = 1 << 20
    again = rig.start()
    again.arm(stage(again, release))
    assert running(rig.start().status()) == 2


# ----------------------------------------------------------------------------- proof


def test_what_it_runs_is_proved_by_a_key_that_only_this_image_gets() -> None:
    rig = simulated_rig()
    keys = set()
    for number in (1, 2):
        backend = rig.start() if number == 1 else install(rig, rig.release(2))
        said = backend.attest(b"\x66" * 32)
        key = attestation_key(SECRET, rig.release(number).plan.image_digest)
        assert said.kind == "measured"
        assert verify(key, attested_bytes(said.digest, said.nonce), said.signature)
        keys.add(key)
    keys.add(attestation_key(b"another device", rig.release(2).plan.image_digest))
    assert len(keys) == 3


def test_capabilities_depend_on_the_board() -> None:
    plain = SimulatedMedium(RULES, image_bytes_max=8192)
    plain.set_up(release_of(1).plan, release_of(1).data)
    plain.power_on()
    assert Capability.MEASURED_BOOT not in SimulatedBackend(plain).capabilities()
    assert Capability.MULTIPLE_ATTEMPTS not in SimulatedBackend(plain).capabilities()
    rich = simulated_rig(attempts=3, secret=SECRET).start().capabilities()
    assert {Capability.MEASURED_BOOT, Capability.MULTIPLE_ATTEMPTS} <= rich
    assert SETTINGS.fallback_after == 5


# ----------------------------------------------------------------------------- price


def test_an_update_is_cheap() -> None:
    """A fleet of hundreds updates within seconds: few media operations, and well under a MiB of memory."""
    rig = simulated_rig(size=65_536)
    device = rig.medium.fork()
    device.power_on()
    backend = SimulatedBackend(device)
    release = release_of(2, size=65_536)
    backend.seal(fetch(backend, release, every=4))
    backend.arm(intent_for(release))
    device.reset()
    SimulatedBackend(device).confirm()
    assert device.operations < 250
    flash = device.chips.flash
    assert len(flash.data) + len(flash.programmed) + device.chips.fs.used() < 256 * 1024
