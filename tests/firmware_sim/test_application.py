"""The update calls of a running image: what they refuse, and that they may be repeated after a cut."""

from __future__ import annotations

import pytest

from firmware_sim.application import Application
from firmware_sim.bootloader import Bootloader, BootSettings
from firmware_sim.errors import PowerLoss, Refused
from firmware_sim.flash import Cut, NorFlash
from firmware_sim.image import image_digest, make_image, verifier
from firmware_sim.slots import DeviceLayout, Mark, Swap
from firmware_sim.world import World

LAYOUT = DeviceLayout(image_sectors=3, sector=1024)
WORLD = World(layout=LAYOUT)
NEW = WORLD.images["new"]


def application(flash: NorFlash) -> Application:
    return Application(flash, LAYOUT, verifier())


def chunk(index: int, image: bytes = NEW) -> bytes:
    return image[index * LAYOUT.sector : (index + 1) * LAYOUT.sector]


def fetched(image: bytes = NEW, digest: bytes | None = None) -> Application:
    app = application(WORLD.provisioned())
    app.begin(digest or image_digest(image), len(image))
    for index in range(len(app.have())):
        app.write_chunk(index, chunk(index, image))
    return app


def test_chunks_come_in_any_order_and_progress_survives() -> None:
    app = application(WORLD.provisioned())
    app.begin(image_digest(NEW), len(NEW))
    app.write_chunk(2, chunk(2))
    app.write_chunk(0, chunk(0))
    again = application(app.flash)
    again.begin(image_digest(NEW), len(NEW))
    assert again.have() == [True, False, True]
    ops = app.flash.ops
    again.write_chunk(0, chunk(0))
    assert app.flash.ops == ops, "a noted chunk is left alone"
    again.write_chunk(1, chunk(1))
    assert again.seal().digest == image_digest(NEW)
    assert again.read_spare(0, len(NEW)) == NEW
    assert again.read_running(0, 64) == WORLD.images["old"][:64]


def test_another_image_starts_from_nothing() -> None:
    app = fetched()
    app.begin(image_digest(WORLD.images["crash"]), len(WORLD.images["crash"]))
    assert app.have() == [False] * 3


@pytest.mark.parametrize("size", [0, -1, LAYOUT.image_max + 1])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(Refused, match="size"):
        application(WORLD.provisioned()).begin(bytes(32), size)


def test_chunks_of_a_wrong_index_or_length_are_refused() -> None:
    app = application(WORLD.provisioned())
    with pytest.raises(Refused, match="not-begun"):
        app.write_chunk(0, chunk(0))
    with pytest.raises(Refused, match="not-begun"):
        app.seal()
    app.begin(image_digest(NEW), len(NEW))
    for index, data in ((3, b""), (-1, chunk(0)), (0, chunk(0)[:-1]), (0, chunk(0) + b"x")):
        with pytest.raises(Refused, match="chunk"):
            app.write_chunk(index, data)
    with pytest.raises(Refused, match="incomplete"):
        app.seal()


def test_only_the_whole_right_image_is_sealed() -> None:
    broken = NEW[:100] + b"?" + NEW[101:]
    cases = [
        (fetched(broken, image_digest(NEW)), "hash"),
        (fetched(NEW, bytes(32)), "digest"),
        (fetched(WORLD.images["low"]), "counter"),
    ]
    revoked = fetched()
    revoked.revoke(image_digest(NEW))
    cases.append((revoked, "revoked"))
    for app, reason in cases:
        with pytest.raises(Refused) as caught:
            app.seal()
        assert caught.value.reason == reason
        with pytest.raises(Refused, match="unsealed"):
            app.set_pending()
        app.discard()
        assert app.staging() is None


def test_a_device_on_trial_keeps_its_way_back() -> None:
    app = application(WORLD.on_trial())
    before = app.flash.media_hash()
    calls = [
        lambda: app.begin(bytes(32), 100),
        lambda: app.write_chunk(0, b""),
        app.seal,
        app.discard,
        app.set_pending,
        app.withdraw,
        lambda: app.raise_counter(2),
    ]
    for call in calls:
        with pytest.raises(Refused, match="not-settled"):
            call()  # type: ignore[no-untyped-call]
    assert app.flash.media_hash() == before
    app.confirm()
    app.confirm()
    assert app.is_settled()


def test_a_trial_is_taken_back_although_attempts_are_left() -> None:
    """The order survives a cut at any operation, in the end the old image runs, and the new one may be tried again."""
    world = WORLD.with_settings(BootSettings(attempts=3))
    for op in range(1, 5):
        flash = world.on_trial()
        flash.ops, flash.cut = 0, Cut(op=op)
        try:
            application(flash).revert()
        except PowerLoss:
            assert op <= 3
            application(flash).revert()
        flash.cut = None
        application(flash).revert()
        assert Bootloader(flash, LAYOUT, verifier(), settings=world.settings).boot().swapped is Swap.REVERT
        assert world.oracle.look(flash).primary == "old"
        with pytest.raises(Refused, match="not-on-trial"):
            application(flash).revert()


def test_the_counter_stays_below_the_confirmed_image() -> None:
    app = application(WORLD.provisioned())
    with pytest.raises(Refused, match="above-confirmed"):
        app.raise_counter(2)
    assert app.view().counter == 1


def test_an_order_can_be_changed_and_withdrawn() -> None:
    app = fetched()
    app.seal()
    app.set_pending()
    assert app.view().secondary.image_ok is Mark.UNSET
    app.set_pending(permanent=True)
    view = app.view()
    assert (view.secondary.magic, view.secondary.image_ok) == (Mark.SET, Mark.SET)
    app.withdraw()
    assert app.view().secondary.magic is Mark.UNSET
    Bootloader(app.flash, LAYOUT, verifier()).boot()
    assert WORLD.oracle.look(app.flash).primary == "old"


def test_what_was_fetched_and_sealed_is_tried() -> None:
    app = fetched()
    app.seal()
    app.set_pending()
    Bootloader(app.flash, LAYOUT, verifier()).boot()
    assert WORLD.oracle.look(app.flash).primary == "new"


def test_a_short_image_leaves_the_rest_alone() -> None:
    image = make_image(b"x" * 1500, counter=1)
    app = fetched(image)
    assert len(app.have()) == 2
    assert app.seal().size == len(image)


def test_a_statement_is_durable_before_it_is_sent() -> None:
    flash = WORLD.provisioned()
    sent: list[bytes] = []
    flash.ops = 0
    flash.cut = Cut(op=1)
    with pytest.raises(PowerLoss):
        application(flash).state(3, b"a" * 16, sent.append)
    assert sent == []
    application(flash).state(3, b"b" * 16, sent.append)
    application(flash).state(3, b"c" * 16, sent.append)
    assert sent == [b"b" * 16] * 2
