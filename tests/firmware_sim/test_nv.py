"""Small durable records: old or new after any cut, and never less."""

from __future__ import annotations

import pytest

from firmware_sim.errors import PowerLoss, Refused
from firmware_sim.flash import Cut, NorFlash
from firmware_sim.nv import (
    REVOKED_MAX,
    SEALED_MAX,
    BootRecords,
    Counter,
    RecordStore,
    Starts,
    Statements,
    TwoCopies,
)
from firmware_sim.slots import NV_SECTOR
from firmware_sim.torn import shapes


def make() -> NorFlash:
    return NorFlash((NV_SECTOR, NV_SECTOR))


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def test_a_fresh_pair_holds_nothing() -> None:
    assert TwoCopies(make(), (0, NV_SECTOR)).read() is None
    assert Counter(make(), (0, NV_SECTOR)).read() is None


@pytest.mark.parametrize("op", [1, 2, 3, 4])
def test_a_cut_write_leaves_old_or_new_and_repair_makes_both_whole(op: int) -> None:
    kind = "erase" if op % 2 else "write"
    for shape in (None, *shapes(kind, 24)):
        flash = make()
        pair = TwoCopies(flash, (0, NV_SECTOR))
        pair.write(b"old")
        flash.ops = 0
        flash.cut = Cut(op=op, shape=shape)
        with pytest.raises(PowerLoss):
            pair.write(b"new")
        found = pair.read()
        assert found in {b"old", b"new"}
        pair.repair()
        flash.erase(0)
        assert pair.read() == found


def test_rot_in_one_copy_loses_nothing() -> None:
    flash = make()
    counter = Counter(flash, (0, NV_SECTOR))
    counter.raise_to(7)
    for sector in (0, NV_SECTOR):
        flash.flip(8 * sector + 50)
        assert counter.read() == 7
        counter.cell.repair()
    assert counter.read() == 7


def test_the_counter_never_falls() -> None:
    flash = make()
    counter = Counter(flash, (0, NV_SECTOR))
    counter.raise_to(7)
    ops = flash.ops
    counter.raise_to(7)
    counter.raise_to(3)
    assert counter.read() == 7
    assert flash.ops == ops


def test_records_round_trip_and_are_bounded() -> None:
    records = BootRecords()
    for number in range(SEALED_MAX + 2):
        records = records.with_sealed(digest(number))
    for number in range(REVOKED_MAX):
        records = records.with_revoked(digest(100 + number))
    assert records.sealed == tuple(digest(n) for n in range(2, SEALED_MAX + 2))
    assert records.with_sealed(digest(2)).sealed[-1] == digest(2)
    assert records.with_revoked(digest(100)) is records
    with pytest.raises(Refused, match="revoked-full"):
        records.with_revoked(digest(99))
    store = RecordStore(make(), (0, NV_SECTOR))
    store.write(records)
    assert store.read() == records


@pytest.mark.parametrize("payload", [b"", b"\0", b"\1\0", b"\1\0" + bytes(31), b"\0\0\0"])
def test_bytes_that_are_no_records_are_none(payload: bytes) -> None:
    assert BootRecords.decode(payload) is None


def test_statements_skip_a_torn_place_and_end_with_a_refusal() -> None:
    flash = make()
    log = Statements(flash, 0)
    flash.cut = Cut(op=1, shape=("half", 0))
    with pytest.raises(PowerLoss):
        log.append(4, b"a" * 16)
    assert log.read() == {}
    log.append(4, b"b" * 16)
    assert log.read() == {4: b"b" * 16}
    for height in range(5, 5 + NV_SECTOR // 32 - 2):
        log.append(height, b"c" * 16)
    with pytest.raises(Refused, match="statements-full"):
        log.append(99, b"d" * 16)


def test_starts_are_counted_since_the_last_good_word() -> None:
    starts = Starts(make(), 0)
    assert starts.unwell() == 0
    for count in (1, 2, 3):
        starts.note_start()
        assert starts.unwell() == count
    starts.note_well()
    assert starts.unwell() == 0
    for _ in range(500):
        starts.note_start()
        assert starts.unwell() == 1
        starts.note_well()
        assert starts.unwell() == 0


def test_a_full_sector_of_starts_stays_unwell() -> None:
    starts = Starts(make(), 0)
    for _ in range(NV_SECTOR // 8 + 5):
        starts.note_start()
    assert starts.unwell() == NV_SECTOR // 8
    starts.note_well()
    assert starts.unwell() == 0
