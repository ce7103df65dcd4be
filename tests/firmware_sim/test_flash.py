"""The NOR model: what it refuses, what a cut leaves, what a snapshot keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.errors import FlashError, PowerLoss
from firmware_sim.flash import Cut, Failing, NorFlash, Operation
from firmware_sim.torn import ERASE_SHAPES, WRITE_SHAPES, Shape, shapes, tear

UNIFORM = (512,) * 4
MIXED = (256, 256, 1024, 512)


def make(erased: int = 0xFF, align: int = 8) -> NorFlash:
    return NorFlash(UNIFORM, align=align, erased=erased)


def test_power_loss_passes_every_exception_handler() -> None:
    assert not issubclass(PowerLoss, Exception)


def test_mixed_sectors_are_erased_each_in_full() -> None:
    flash = NorFlash(MIXED)
    flash.program(0, b"\0" * sum(MIXED))
    flash.erase(512)
    assert flash.is_blank(512, 1024)
    assert flash.data[511] == 0
    assert flash.data[1536] == 0
    assert flash.wear == [0, 0, 1, 0]
    assert [flash.sector_at(offset) for offset in (0, 255, 256, 511, 512, 1535, 1536)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("offset", "data", "what"),
    [
        (0, b"", "write of 0"),
        (0, b"\0" * 264, "write of 264"),
        (4, b"\0" * 8, "unaligned"),
        (0, b"\0" * 7, "unaligned"),
        (2048, b"\0" * 8, "outside"),
        (-8, b"\0" * 8, "outside"),
    ],
)
def test_a_write_by_no_rule_is_refused(offset: int, data: bytes, what: str) -> None:
    flash = make()
    with pytest.raises(FlashError, match=what):
        flash.write(offset, data)
    assert flash.ops == 0
    assert flash.is_blank(0, flash.size)


@pytest.mark.parametrize("erased", [0x00, 0xFF])
def test_a_unit_is_written_once_between_erases_even_with_equal_bytes(erased: int) -> None:
    flash = make(erased)
    flash.write(8, bytes([erased]) * 8)
    with pytest.raises(FlashError, match="not erased"):
        flash.write(8, bytes([erased]) * 8)
    flash.erase(0)
    flash.write(8, b"\x5a" * 8)


@pytest.mark.parametrize("offset", [1, 256, 2048, -512])
def test_only_whole_sectors_are_erased(offset: int) -> None:
    with pytest.raises(FlashError, match="no sector starts"):
        make().erase(offset)


@pytest.mark.parametrize(("offset", "length"), [(-1, 4), (2040, 9), (0, -1)])
def test_a_read_outside_is_refused(offset: int, length: int) -> None:
    with pytest.raises(FlashError, match="read outside"):
        make().read(offset, length)


@pytest.mark.parametrize(
    ("align", "erased", "sectors"), [(2, 0xFF, UNIFORM), (8, 0x55, UNIFORM), (8, 0xFF, (12,))]
)
def test_a_part_that_does_not_exist_is_refused(align: int, erased: int, sectors: tuple[int, ...]) -> None:
    with pytest.raises(FlashError):
        NorFlash(sectors, align=align, erased=erased)


def test_a_clean_cut_comes_before_the_operation() -> None:
    flash = make()
    flash.cut = Cut(op=2)
    flash.write(0, b"\1" * 8)
    with pytest.raises(PowerLoss) as caught:
        flash.write(8, b"\2" * 8)
    assert caught.value.op == 2
    assert flash.read(0, 16) == b"\1" * 8 + b"\xff" * 8
    flash.write(8, b"\2" * 8)


def test_a_torn_write_leaves_a_unit_that_must_be_erased() -> None:
    flash = make()
    flash.cut = Cut(op=1, shape=("half", 0))
    with pytest.raises(PowerLoss):
        flash.write(0, b"\0" * 16)
    assert flash.read(0, 16) == b"\0" * 8 + b"\xff" * 8
    flash.write(8, b"\0" * 8)
    with pytest.raises(FlashError):
        flash.write(0, b"\0" * 8)


def test_a_torn_erase_wears_the_sector_and_leaves_old_bits() -> None:
    flash = make()
    flash.program(0, b"\0" * 512)
    flash.cut = Cut(op=3, shape=("half", 0))
    with pytest.raises(PowerLoss):
        flash.erase(0)
    assert flash.read(0, 512) == b"\xff" * 256 + b"\0" * 256
    assert flash.wear[0] == 1


@pytest.mark.parametrize("count", [20, 24, 60])
@pytest.mark.parametrize("kind", ["write", "erase"])
def test_shapes_are_as_many_as_asked_and_all_different(kind: str, count: int) -> None:
    drawn = shapes(kind, count)
    assert len(set(drawn)) == count
    assert drawn != shapes(kind, count, seed=1)


def test_the_fixed_shapes_differ_in_what_they_leave() -> None:
    page, sector = bytes(range(256)), bytes(i * 37 % 256 for i in range(512))
    written = {tear("write", shape, 0, b"\xff" * 256, page, 0xFF) for shape in WRITE_SHAPES}
    erased = {tear("erase", shape, 0, sector, b"\xff" * 512, 0xFF) for shape in ERASE_SHAPES}
    assert len(written) >= 20
    assert len(erased) >= 20


def test_a_shape_of_the_other_kind_is_random_and_an_unknown_one_is_none() -> None:
    before, after = b"\xff" * 64, b"\0" * 64
    for name in ("early", "edge", "zeroed"):
        assert before != tear("write", (name, 1), 0, before, after, 0xFF) != after
    with pytest.raises(KeyError):
        tear("write", ("wobble", 1), 0, before, after, 0xFF)


SHAPES_OF = [("write", shape) for shape in WRITE_SHAPES] + [("erase", shape) for shape in ERASE_SHAPES]


@settings(deadline=None, max_examples=200)
@given(
    kind_shape=st.sampled_from(SHAPES_OF),
    data=st.binary(min_size=8, max_size=64),
    erased=st.sampled_from([0x00, 0xFF]),
)
def test_a_torn_bit_is_old_or_new_or_zeroed(kind_shape: tuple[str, Shape], data: bytes, erased: int) -> None:
    kind, shape = kind_shape
    blank = bytes([erased]) * len(data)
    before, after = (blank, data) if kind == "write" else (data, blank)
    torn = tear(kind, shape, 0, before, after, erased)
    assert torn == tear(kind, shape, 0, before, after, erased)
    if shape[0].startswith("zeroed"):
        before = bytes(old if new == old else erased ^ 0xFF for old, new in zip(before, torn, strict=True))
        assert all(new in {old, erased ^ 0xFF} for old, new in zip(before, torn, strict=True))
    else:
        assert all(
            (new ^ old) & ~(old ^ goal) == 0 for old, new, goal in zip(before, torn, after, strict=True)
        ), "no bit changed that the operation was not to change"


def test_a_failing_area_loses_its_share_of_writes_silently() -> None:
    flash = NorFlash(UNIFORM, failing=(Failing(start=0, end=512, rate=0.5, seed=3),))
    for unit in range(0, 1024, 8):
        flash.write(unit, b"\0" * 8)
    lost = sum(flash.is_blank(unit, 8) for unit in range(0, 512, 8))
    assert 16 < lost < 48
    assert not any(flash.is_blank(unit, 8) for unit in range(512, 1024, 8))


def test_the_observer_sees_the_medium_before_the_operation() -> None:
    flash = make()
    seen: list[tuple[Operation, bytes]] = []
    flash.observer = lambda operation: seen.append((operation, flash.read(0, 8)))
    flash.write(0, b"\0" * 8)
    flash.erase(0)
    assert [(op.number, op.kind, op.offset, before) for op, before in seen] == [
        (1, "write", 0, b"\xff" * 8),
        (2, "erase", 0, b"\0" * 8),
    ]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("erase"), st.integers(0, 3), st.just(b"")),
        st.tuples(st.just("write"), st.integers(0, 255), st.binary(min_size=8, max_size=8)),
        st.tuples(st.just("flip"), st.integers(0, 8 * 2048 - 1), st.just(b"")),
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=100)
@given(before=actions, after=actions)
def test_equal_hash_is_equal_content_and_a_snapshot_brings_both_back(
    before: list[tuple[str, int, bytes]], after: list[tuple[str, int, bytes]]
) -> None:
    def play(flash: NorFlash, script: list[tuple[str, int, bytes]]) -> None:
        for action, number, data in script:
            if action == "erase":
                flash.erase(512 * number)
            elif action == "flip":
                flash.flip(number)
            elif not flash.programmed[number]:
                flash.write(8 * number, data)

    flash, other = make(), make()
    play(flash, before)
    kept, digest = flash.snapshot(), flash.media_hash()
    play(flash, after)
    same = (flash.data, flash.programmed) == (bytearray(kept.data), bytearray(kept.programmed))
    assert (flash.media_hash() == digest) == same
    flash.restore(kept)
    play(other, before)
    assert flash.media_hash() == digest == other.media_hash()
    assert flash.snapshot() == other.snapshot()
