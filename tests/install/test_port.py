"""The data of the port: bitmaps, chunk lengths, errors that carry a reason code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.install.directory import DirectoryBackend
from swarm.install.port import (
    Bitmap,
    DeviceStatus,
    InstallBackend,
    InstallError,
    InstallReason,
    SlotState,
    SlotStatus,
    Staging,
)
from swarm.install.staging import DirectoryStaging
from swarm.primitives.errors import SwarmError
from tests.support.install import CLASS, VENDOR, directory_release, model_rig


def test_the_directory_back_end_is_one() -> None:
    rig = model_rig()
    backend: InstallBackend = rig.start()
    staging: Staging = backend.begin(directory_release(2).plan)
    assert (backend.name, type(backend), type(staging)) == ("directory", DirectoryBackend, DirectoryStaging)


def test_an_error_carries_its_reason_code() -> None:
    error = InstallError(InstallReason.NO_SPACE, "9 bytes are needed")
    assert isinstance(error, SwarmError)
    assert (error.reason, str(error)) == (InstallReason.NO_SPACE, "no-space: 9 bytes are needed")
    assert str(InstallError(InstallReason.MEDIUM)) == "medium"


@settings(deadline=None)
@given(st.integers(1, 70), st.data())
def test_bitmap_is_the_set_it_was_made_of(count: int, data: st.DataObject) -> None:
    present = data.draw(st.sets(st.integers(0, count - 1)))
    bitmap = Bitmap.of(count, present)
    assert {index for index in range(-3, count + 20) if index in bitmap} == present
    assert bitmap.missing() == [index for index in range(count) if index not in present]
    assert bitmap.is_full is (len(present) == count)
    assert len(bitmap.bits) == (count + 7) // 8


def test_bitmap_order_of_bits() -> None:
    assert Bitmap.of(10, {0, 7, 8}).bits == b"\x81\x80"
    assert "0" not in Bitmap.of(10, {0})


def test_chunk_lengths_add_up() -> None:
    plan = directory_release(2, size=9000).plan
    lengths = [plan.length_of(index) for index in range(plan.chunk_count)]
    assert sum(lengths) == plan.file_bytes
    assert set(lengths[:-1]) == {4096}
    assert plan.length_of(plan.chunk_count) == plan.length_of(-1) == 0
    whole = replace(plan, file_bytes=8192, chunk_count=2)
    assert [whole.length_of(index) for index in range(3)] == [4096, 4096, 0]


def test_status_names_its_slots() -> None:
    running, spare = SlotStatus(state=SlotState.CONFIRMED, number=4), SlotStatus(state=SlotState.EMPTY)
    status = DeviceStatus(
        booted="b",
        slots=(("a", spare), ("b", running)),
        settled=True,
        counter=0,
        boots=1,
        spare_bytes=0,
        revoked=(),
    )
    assert (status.running, status.spare, status.slot("a")) == (running, spare, spare)
    with pytest.raises(KeyError):
        status.slot("c")


def test_a_back_end_needs_a_slot_that_exists() -> None:
    rig = model_rig()
    with pytest.raises(InstallError, match="no slot"):
        DirectoryBackend(rig.disk, rig.root, booted="../a", vendor=VENDOR, device_class=CLASS)
