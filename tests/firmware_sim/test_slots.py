"""The layout and the trailer, byte by byte as MCUboot has them."""

from __future__ import annotations

import pytest

from firmware_sim.errors import FlashError
from firmware_sim.slots import COPY_DONE, IMAGE_OK, SWAP_INFO, DeviceLayout, Mark, Swap, Trailer

LAYOUT = DeviceLayout(image_sectors=2, sector=1024)


def trailer(layout: DeviceLayout = LAYOUT) -> Trailer:
    return Trailer(layout.make_flash(), layout.primary, layout)


def test_fields_lie_where_mcuboot_has_them() -> None:
    t = trailer()
    t.write_flag(SWAP_INFO, Swap.REVERT)
    t.write_flag(COPY_DONE)
    t.write_flag(IMAGE_OK)
    t.write_swap_size(0x0708)
    t.write_magic()
    t.mark(t.status_cell(0))
    end = t.slot.end
    assert t.flash.read(end - 16, 16).hex() == "77c295f360d2ef7f3552500f2cb67980"
    assert t.flash.read(end - 24, 8) == b"\1" + b"\xff" * 7
    assert t.flash.read(end - 32, 8) == b"\1" + b"\xff" * 7
    assert t.flash.read(end - 40, 8) == b"\4" + b"\xff" * 7
    assert t.flash.is_blank(end - 48, 8)
    assert t.flash.read(end - 56, 8) == b"\x08\x07\0\0" + b"\xff" * 4
    assert t.flash.read(end - 56 - 4 * 8, 1) == b"\1"
    state = t.read()
    assert (state.magic, state.image_ok, state.copy_done) == (Mark.SET, Mark.SET, Mark.SET)
    assert (state.swap, state.swap_size) == (Swap.REVERT, 0x0708)


@pytest.mark.parametrize("erased", [0x00, 0xFF])
@pytest.mark.parametrize("align", [1, 4, 8])
def test_a_blank_trailer_says_nothing(align: int, erased: int) -> None:
    t = trailer(DeviceLayout(image_sectors=2, sector=1024, align=align, erased=erased))
    state = t.read()
    assert {state.magic, state.image_ok, state.copy_done} == {Mark.UNSET}
    assert (state.swap, state.swap_size) == (0, 0)
    assert t.is_blank()
    assert t.is_blank_but_status()
    assert t.records_done() == t.attempts_used() == 0


def test_a_torn_flag_is_bad_and_counts_as_written_in_a_trial() -> None:
    t = trailer()
    t.write_magic()
    t.write_flag(COPY_DONE, 0x7F)
    state = t.read()
    assert state.copy_done is Mark.BAD
    assert state.on_trial


def test_a_torn_magic_is_bad() -> None:
    t = trailer()
    t.flash.write(t.slot.end - 16, bytes.fromhex("77c295f360d2ef7f"))
    assert t.read().magic is Mark.BAD


def test_the_last_record_counts_and_holes_are_failed_writes() -> None:
    t = trailer()
    t.mark(t.status_cell(0))
    assert t.records_done() == 1
    t.mark(t.status_cell(2))
    assert t.records_done() == 3
    assert t.is_blank_but_status()
    t.mark(t.attempt_cell(0))
    assert t.attempts_used() == 1
    assert not t.is_blank_but_status()


def test_a_swap_size_above_an_image_is_nonsense() -> None:
    t = trailer()
    t.write_swap_size(LAYOUT.image_max + 1)
    assert t.read().swap_size == 0


def test_areas_do_not_overlap_and_fill_the_flash() -> None:
    flash = LAYOUT.make_flash()
    assert LAYOUT.primary.end == LAYOUT.secondary.start
    assert LAYOUT.secondary.count == LAYOUT.primary.count + 1
    assert LAYOUT.counter[0] == LAYOUT.secondary.end
    small = [*LAYOUT.counter, *LAYOUT.records, LAYOUT.progress, LAYOUT.statements, LAYOUT.starts]
    assert small == list(flash.starts[-7:])
    assert LAYOUT.starts + 1024 == flash.size


@pytest.mark.parametrize(("sectors", "sector"), [(0, 1024), (64, 1024), (200, 4096)])
def test_a_layout_that_cannot_hold_its_trailer_is_refused(sectors: int, sector: int) -> None:
    with pytest.raises(FlashError):
        DeviceLayout(image_sectors=sectors, sector=sector)


def test_cells_are_bounded() -> None:
    t = trailer()
    for record in (4, -1):
        with pytest.raises(FlashError):
            t.status_cell(record)
    with pytest.raises(FlashError):
        t.attempt_cell(8)
    with pytest.raises(FlashError):
        t.slot.at(3)
