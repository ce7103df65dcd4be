"""Directed tests of the bootloader: each row of its table, refusals, fallbacks, keys."""

from __future__ import annotations

import pytest

from firmware_sim.application import Application
from firmware_sim.bootloader import Bootloader, BootResult, BootSettings, CounterPolicy, measured_key
from firmware_sim.flash import NorFlash
from firmware_sim.image import image_digest, make_image, verifier
from firmware_sim.nv import BootRecords, Counter, RecordStore
from firmware_sim.slots import COPY_DONE, IMAGE_OK, DeviceLayout, Swap, Trailer
from firmware_sim.world import SECRET, World

LAYOUT = DeviceLayout(image_sectors=2, sector=1024)
AGENT = BootSettings(counter_policy=CounterPolicy.AGENT)


def make_world() -> World:
    return World(layout=LAYOUT)


def boot(flash: NorFlash, settings: BootSettings | None = None) -> BootResult:
    return Bootloader(flash, LAYOUT, verifier(), secret=SECRET, settings=settings).boot()


def application(flash: NorFlash) -> Application:
    return Application(flash, LAYOUT, verifier())


def test_a_device_from_the_factory_boots_and_writes_nothing() -> None:
    world = make_world()
    flash = world.provisioned()
    before = flash.media_hash()
    result = boot(flash)
    assert result.started is not None
    assert result.started.digest == image_digest(world.images["old"])
    assert (result.swapped, result.on_trial, result.attempt) == (Swap.NONE, False, 0)
    assert flash.media_hash() == before


def test_trial_confirm_and_the_counter_only_on_a_later_boot() -> None:
    world = make_world()
    flash = world.with_update("new", pending=True)
    result = boot(flash)
    assert (result.swapped, result.on_trial, result.attempt) == (Swap.TEST, True, 1)
    view = world.oracle.look(flash)
    assert (view.primary, view.previous, view.counter) == ("new", "old", 1)
    application(flash).confirm()
    assert world.oracle.look(flash).counter == 1
    result = boot(flash)
    assert (result.swapped, result.on_trial) == (Swap.NONE, False)
    assert world.oracle.look(flash).counter == 2


def test_without_confirmation_the_old_image_comes_back_and_both_stay_whole() -> None:
    world = make_world()
    flash = world.on_trial()
    result = boot(flash)
    assert (result.swapped, result.on_trial) == (Swap.REVERT, False)
    view = world.oracle.look(flash)
    assert (view.primary, view.update, view.counter) == ("old", "new", 1)
    assert (view.first.image_ok, view.first.copy_done) == ("set", "set")
    resting = flash.media_hash()
    assert boot(flash).swapped is Swap.NONE
    assert flash.media_hash() == resting


def test_a_permanent_order_raises_the_counter_at_once() -> None:
    world = make_world()
    flash = world.with_update("new")
    application(flash).set_pending(permanent=True)
    result = boot(flash)
    assert (result.swapped, result.on_trial) == (Swap.PERM, False)
    assert world.oracle.look(flash).counter == 2
    assert boot(flash).swapped is Swap.NONE


@pytest.mark.parametrize("attempts", [1, 2, 3, 8])
def test_a_trial_has_exactly_its_attempts(attempts: int) -> None:
    settings = BootSettings(attempts=attempts)
    flash = make_world().with_update("new", pending=True)
    seen = [boot(flash, settings) for _ in range(attempts + 1)]
    assert [result.attempt for result in seen] == [*range(1, attempts + 1), 0]
    assert seen[-1].swapped is Swap.REVERT


def test_the_counter_is_left_to_the_agent_where_it_is_told_so() -> None:
    world = make_world()
    flash = world.on_trial(confirmed=True)
    boot(flash, AGENT)
    assert world.oracle.look(flash).counter == 1


@pytest.mark.parametrize(("name", "reason"), [("low", "counter"), ("new", "unsealed"), ("rotten", "hash")])
def test_a_refusal_has_a_reason_and_touches_only_the_order(name: str, reason: str) -> None:
    world = make_world()
    flash = world.with_update("new" if name == "rotten" else name, seal=name != "new", pending=True)
    if name == "rotten":
        flash.flip(8 * LAYOUT.secondary.at(2))
    primary = flash.read(0, LAYOUT.primary.end)
    result = boot(flash)
    assert (result.refused, result.swapped) == (reason, Swap.NONE)
    assert flash.read(0, LAYOUT.primary.end) == primary
    assert boot(flash).refused == ""


def test_without_a_counter_nothing_is_swapped_in() -> None:
    world = make_world()
    flash = world.with_update("new", pending=True)
    for sector in LAYOUT.counter:
        flash.erase(sector)
    result = boot(flash)
    assert result.refused == "counter"
    assert result.started is not None


@pytest.mark.parametrize("field", ["magic", "copy_done"])
def test_a_torn_field_of_a_revert_still_reverts(field: str) -> None:
    """MCUboot issue 1966: a cut inside the magic left a device that matched no row of its table."""
    world = make_world()
    flash = world.on_trial()
    spare = Trailer(flash, LAYOUT.secondary, LAYOUT)
    if field == "magic":
        spare.write_flag(COPY_DONE)
        flash.write(LAYOUT.secondary.end - 16, b"\x77\xc2\x95\xf3" + b"\xff" * 4)
    else:
        spare.write_flag(COPY_DONE, 0x0F)
    assert boot(flash).swapped is Swap.REVERT
    assert world.oracle.look(flash).primary == "old"


def test_a_torn_confirmation_is_one() -> None:
    world = make_world()
    flash = world.on_trial()
    Trailer(flash, LAYOUT.primary, LAYOUT).write_flag(IMAGE_OK, 0x7F)
    result = boot(flash)
    assert (result.swapped, result.on_trial) == (Swap.NONE, False)
    assert world.oracle.look(flash).primary == "new"


def revoke(flash: NorFlash, *images: bytes) -> None:
    for image in images:
        application(flash).revoke(image_digest(image))


def test_a_revoked_image_is_left_for_the_other_one() -> None:
    world = make_world()
    flash = world.on_trial(confirmed=True)
    revoke(flash, world.images["new"])
    result = boot(flash, AGENT)
    assert result.fell_back
    assert world.oracle.look(flash).primary == "old"
    assert not boot(flash, AGENT).fell_back


def test_a_revoked_image_stays_where_nothing_else_can_run() -> None:
    world = make_world()
    flash = world.on_trial(confirmed=True)
    boot(flash)
    revoke(flash, world.images["new"])
    result = boot(flash)
    assert result.started is not None
    assert result.revoked_running
    assert world.oracle.look(flash).primary == "new", "the counter bars the old one"
    flash = world.on_trial(confirmed=True)
    revoke(flash, world.images["new"], world.images["old"])
    assert boot(flash, AGENT).revoked_running
    assert world.oracle.look(flash).primary == "new"


def test_a_trial_that_was_revoked_ends_at_the_next_boot() -> None:
    world = make_world()
    flash = world.on_trial()
    revoke(flash, world.images["new"])
    assert boot(flash, BootSettings(attempts=5)).swapped is Swap.REVERT


def test_an_unconfirmed_image_stays_if_the_old_one_was_revoked() -> None:
    world = make_world()
    flash = world.on_trial()
    revoke(flash, world.images["old"])
    result = boot(flash)
    assert (result.refused, result.on_trial) == ("revoked", True)
    assert world.oracle.look(flash).primary == "new"


def test_a_broken_image_is_left_for_the_old_one_or_for_a_sealed_update() -> None:
    world = make_world()
    flash = world.on_trial(confirmed=True)
    flash.flip(1000)
    assert boot(flash).fell_back
    assert world.oracle.look(flash).primary == "old"
    flash = world.with_update("new")
    flash.flip(1000)
    assert boot(flash).swapped is Swap.TEST
    assert world.oracle.look(flash).primary == "new"


def test_nothing_is_started_where_nothing_can_be() -> None:
    world = make_world()
    flash = world.provisioned()
    flash.flip(1000)
    result = boot(flash)
    assert result.started is None
    assert result.key == b""


def test_five_bad_starts_after_the_confirmation_end_in_the_old_image() -> None:
    world = make_world()
    settings = BootSettings(counter_policy=CounterPolicy.AGENT, fallback_after=5)
    flash = world.on_trial("crash", confirmed=True)
    seen = [boot(flash, settings).fell_back for _ in range(7)]
    assert seen == [False] * 5 + [True, False]
    flash = world.on_trial("crash", confirmed=True)
    for _ in range(20):
        assert not boot(flash, settings).fell_back
        application(flash).note_well()


def test_without_boot_records_the_verifier_decides() -> None:
    world = make_world()
    flash = world.on_trial()
    for sector in LAYOUT.records:
        flash.erase(sector)
    assert boot(flash).swapped is Swap.REVERT
    assert world.oracle.look(flash).primary == "old"


def test_a_shorter_image_is_swapped_both_ways() -> None:
    world = make_world()
    short = make_image(b"short", counter=1)
    flash = world.provisioned()
    world.plant(flash, LAYOUT.secondary.at(1), short)
    store = RecordStore(flash, LAYOUT.records)
    store.write((store.read() or BootRecords()).with_sealed(image_digest(short)))
    application(flash).set_pending()
    assert boot(flash).swapped is Swap.TEST
    assert flash.read(0, len(short)) == short
    assert boot(flash).swapped is Swap.REVERT
    assert world.oracle.look(flash).primary == "old"
    assert flash.read(LAYOUT.secondary.at(1), len(short)) == short


def test_the_key_changes_with_the_image_and_with_the_device() -> None:
    world = make_world()
    flash = world.on_trial()
    trial = Bootloader(flash, LAYOUT, verifier(), secret=SECRET, settings=BootSettings(attempts=2)).boot()
    old = boot(world.provisioned())
    other = Bootloader(world.provisioned(), LAYOUT, verifier(), secret=b"another device").boot()
    assert len({trial.key, old.key, other.key}) == 3
    assert old.key == measured_key(SECRET, image_digest(world.images["old"]))
    assert boot(flash, BootSettings(attempts=2)).key == old.key, "after the revert"


def test_the_counter_follows_the_image_that_came_with_the_factory() -> None:
    world = make_world()
    flash = world.provisioned()
    for sector in LAYOUT.counter:
        flash.erase(sector)
    boot(flash)
    assert Counter(flash, LAYOUT.counter).read() == 1
